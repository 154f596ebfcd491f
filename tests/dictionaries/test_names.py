"""Dictionary specs: what they may hold, how they are written, and how mistakes are named."""

import re
import sys
from pathlib import Path

import pytest

from theodolite.core.errors import UserError
from theodolite.dictionaries.names import LONGEST, crossed, parse, slug, variants
from theodolite.dictionaries.variants.topk import TopK

MINE = """from dataclasses import dataclass
from theodolite.dictionaries.variants.topk import TopK
@dataclass(eq=False)
class Mine(TopK):
    "Mine."
    extra: float = 1.0
"""


def test_a_spec_is_written_the_same_however_it_was_typed() -> None:
    spec = parse(" topk( width=64 ,k = 4) ")
    assert (spec.name, spec.cls, str(spec)) == ("topk", TopK, "topk(k=4, width=64)")
    assert (spec.slug, spec.label) == ("topk-k=4-width=64", "topk")
    assert parse(str(spec)) == spec


def test_a_learner_has_the_parameters_and_the_runs_options() -> None:
    learner = parse("topk(k=4, width=64, lr=1)").learner(8, seed=3, frozen="decoder", steps=9)
    assert (learner.d_in, learner.width, learner.k, learner.lr) == (8, 64, 4, 1)
    assert (learner.seed, learner.frozen, learner.steps) == (3, "decoder", 9)


def test_every_variant_is_found_by_walking_and_may_be_named() -> None:
    folder = Path(__file__).parents[2] / "src/theodolite/dictionaries/variants"
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem[0] != "_")
    assert list(variants()) == names
    assert [parse(name).name for name in names] == names


def test_a_file_may_stand_for_the_name_and_is_known_by_its_hash(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    spec = parse(f"{tmp_path}/mine.py:Mine(extra=2, k=3)")
    assert (str(spec), spec.label) == ("mine(extra=2, k=3)", "mine-extra=2")
    assert spec.identity.startswith("mine(extra=2, k=3) of sha256:")
    (tmp_path / "mine.py").write_text("import helper_of_mine\n" + MINE)
    identities = set()
    for value in (1, 2):
        (tmp_path / "helper_of_mine.py").write_text(f"value = {value}")
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(tmp_path))
            patch.delitem(sys.modules, "helper_of_mine", raising=False)
            identities.add(parse(f"{tmp_path}/mine.py:Mine(extra=2, k=3)").identity)
    assert len(identities) == 2
    assert parse("topk").identity == "topk"
    (tmp_path / "none.py").write_text("class None_:\n    'Not one.'\n")
    with pytest.raises(UserError, match="None_ must subclass"):
        parse(f"{tmp_path}/none.py:None_")


def test_sizes_are_crossed_unless_a_spec_says_its_own() -> None:
    found = crossed([parse("topk(k=3)"), parse("pca"), parse("topk(width=8)")], [16, 32], 5)
    assert [str(spec) for spec in found] == [
        "topk(k=3, width=16)",
        "topk(k=3, width=32)",
        "pca(width=16)",
        "pca(width=32)",
        "topk(k=5, width=8)",
    ]


def test_a_slug_is_a_file_name_and_tells_long_ones_apart() -> None:
    assert slug("m", {"groups": (1, 2), "mode": "a_b", "lr": 1e-5}) == "m-groups=1_2-mode=a_b-lr=1e-05"
    assert slug("m", {"groups": (1, 2), "mode": "a/b c"}).startswith("m-groups=1_2-mode=a_bc-")
    first, second = (slug("m", {"groups": [*range(99), last]}) for last in (1, 2))
    assert first != second
    assert len(first) < LONGEST + 10


def test_two_values_never_share_a_folder() -> None:
    """On a file system that does not tell capitals apart either."""
    values = [
        "a/b",
        "a:b",
        "a_b",
        "ab",
        "a b",
        "a(b",
        "A_B",
        "a-b",
        "a",
        "a-k=8",
        1,
        1.0,
        "1",
        [1],
        [1, 2],
        "1_2",
        "1, 2",
        [[1], 2],
        True,
        "True",
        "true",
        None,
        "None",
        "none",
        [],
        "",
        -1,
        1e-5,
        float("nan"),
        "nan",
        [float("nan"), 1],
    ]
    slugs = [slug("m", {"x": value}) for value in values]
    slugs += [slug("m", {"x": "a", "k": 8}), slug("m", {"x": "a/b", "k": 8}), slug("m", {})]
    assert len({name.casefold() for name in slugs}) == len(slugs)
    assert all(re.fullmatch(r"[\w.=+-]+", name) for name in slugs)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("topkk", "unknown dictionary 'topkk': did you mean 'topk'"),
        ("topk(kk=1)", "unknown parameter of topk 'kk': did you mean 'k'"),
        ("topk(k='many')", "k='many' of dictionary .* is not a whole number"),
        ("topk(k=True)", "k=True of dictionary .* is not a whole number"),
        ("jumprelu(target_l0=few)", "target_l0='few' of dictionary .* is not a number"),
        ("topk(lr=fast)", "lr='fast' of dictionary .* is not a number"),
        ("topk(d_in=3)", "d_in is no parameter of one dictionary .*: the site decides it"),
        ("topk(frozen=encoder)", "use --controls"),
        ("topk(steps=3)", "use --tokens"),
        ("topk(4)", "cannot read the parameters of dictionary 'topk"),
        ("topk(k=4", "cannot read dictionary .*: write name or name"),
        ("topk@latents", "its site is --site"),
        ("here.py:Mine", "no file 'here.py'"),
    ],
)
def test_mistakes_are_named(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(spec)
