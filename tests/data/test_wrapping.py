import numpy as np
import pandas as pd
import pytest
from toy_rows import frame_of, sentences

from theodolite.data.dataset import Count, Dataset
from theodolite.data.wrapping import assert_balanced, without_truncated, wrap

TEMPLATES = pd.DataFrame(
    {
        "template": [f"t{i}" for i in range(7)],
        "text": [f"{i} now {{{{ prompt }}}}" for i in range(7)],
        "tokens": range(7),
    }
)


def requests(positives: int = 10, negatives: int = 14) -> Dataset:
    labels = [1] * positives + [0] * negatives
    return Dataset("wrapped", frame_of(sentences(positives + negatives, 0), labels))


def test_every_template_holds_as_many_of_either_class_and_all_are_used_alike() -> None:
    frame = wrap(requests(), TEMPLATES, 4, seed=0).frame
    per_template = pd.crosstab(frame["template"], frame["label"])
    assert (per_template[0] == per_template[1]).all()
    assert per_template[1].sum() == 40
    assert per_template[1].min() >= 5  # 40 deals over 7 templates: 5 or 6 each
    assert per_template[1].max() <= 6


def test_counterparts_stand_in_the_same_templates_and_each_request_in_different_ones() -> None:
    frame = wrap(requests(), TEMPLATES, 4, seed=0).frame
    assert (frame.groupby("request")["template"].nunique() == 4).all()
    assert (frame.groupby("unit")["template"].nunique() == 1).all()
    assert (frame.groupby("unit")["label"].sum() == 1).all()


def test_rows_keep_cluster_and_request_and_hold_the_request_verbatim() -> None:
    dataset = requests()
    source = dataset.frame.set_index("id")
    frame = wrap(dataset, TEMPLATES, 2, seed=0).frame
    assert frame["id"].is_unique
    for row in frame.itertuples():
        assert row.text == f"{row.template[1:]} now {source.loc[row.request, 'text']}"
        assert row.cluster == source.loc[row.request, "cluster"]
        assert row.template_tokens == int(row.template[1:])
        assert row.label == source.loc[row.request, "label"]


def test_requests_without_partner_are_counted() -> None:
    assert wrap(requests(), TEMPLATES, 4, 0).counts == (Count("wrapped", "no partner of the other class", 4),)


def test_fewer_templates_than_asked_for() -> None:
    assert len(wrap(requests(), TEMPLATES[:3], 4, 0)) == 10 * 3 * 2


def test_a_row_that_would_be_cut_takes_its_counterpart_along() -> None:
    wrapped = wrap(requests(), TEMPLATES, 4, 0)
    long = wrapped.texts[5]
    left = without_truncated(wrapped, lambda texts: np.array([300 if text == long else 9 for text in texts]), 256)
    assert len(left) == len(wrapped) - 2
    assert left.counts[-1] == Count("wrapped", "longer than 256 tokens", 2)
    assert_balanced(left)


def test_a_template_that_tells_the_label_is_caught() -> None:
    wrapped = wrap(requests(), TEMPLATES, 4, 0)
    with pytest.raises(AssertionError, match="says something about the label"):
        assert_balanced(Dataset("wrapped", wrapped.frame[1:]))


def test_equal_seeds_give_equal_rows() -> None:
    first, again, other = (wrap(requests(), TEMPLATES, 4, seed).frame["id"].tolist() for seed in (0, 0, 1))
    assert first == again
    assert set(first) != set(other)
