"""What a run makes: sites and their forms, names of folders, controls, and what cannot be planned."""

import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.dictionaries.training.plan import TrainingPlan, parts, site_of

A, B = "blocks.0.resid_post", "blocks.1.resid_post"
SMALL = {"tokens": 1000, "batch": 100}


def names(sites: list[str], **options: object) -> list[str]:
    return list(TrainingPlan(tuple(sites), **SMALL | options).members(12))


def test_one_dictionary_per_site_is_named_by_its_site() -> None:
    assert names([A, B], saes=["topk(k=3, width=8)"]) == [A, f"{A}.control", B, f"{B}.control"]
    assert names([A], saes=["topk(k=3, width=8)"], controls=()) == [A]
    assert names([A], saes=["topk(k=3, width=8)"], seeds=(4,)) == [A, f"{A}.control"]


def test_several_are_told_apart_by_spec_and_seed() -> None:
    found = names([A], saes=["topk(k=3, width=8)", "pca(width=4)"], seeds=(0, 1), controls=("encoder", "soft_decoder"))
    assert found == [
        f"{A}.topk-k=3-width=8-0",
        f"{A}.topk-k=3-width=8-0.control",
        f"{A}.topk-k=3-width=8-0.control-soft_decoder",
        f"{A}.topk-k=3-width=8-1",
        f"{A}.topk-k=3-width=8-1.control",
        f"{A}.topk-k=3-width=8-1.control-soft_decoder",
        f"{A}.pca-width=4-0",  # nothing there to freeze
        f"{A}.pca-width=4-1",
    ]


def test_two_sites_go_to_the_variants_that_read_two() -> None:
    plan = TrainingPlan(
        (f"{A} -> {B}", B), saes=("transcoder(k=3, width=8)", "topk(k=3, width=8)"), controls=(), **SMALL
    )
    pair, single = plan.members(12).values()
    assert plan.reads == [A, B]
    assert (pair.name, pair.where) == (f"{A}--to--{B}.transcoder-k=3-width=8-0", {"read_site": A, "site": B})
    assert (single.name, single.where) == (f"{B}.topk-k=3-width=8-0", {"site": B})
    at = {A: torch.zeros(2, 3), B: torch.ones(2, 3)}
    assert [x.sum().item() for x in pair.inputs(at)] == [0, 6]
    assert [x.sum().item() for x in single.inputs(at)] == [6]


def test_sites_have_one_spelling() -> None:
    assert site_of("embed->blocks.3.mlp_out") == "embed->blocks.3.mlp_out"
    assert site_of(" embed + final_norm ") == "embed+final_norm"
    assert parts("embed+final_norm") == ["embed", "final_norm"]


@pytest.mark.parametrize(
    ("sites", "options", "message"),
    [
        ([], {}, "give at least one of sites"),
        ([A, A], {}, "sites: blocks.0.resid_post is named twice"),
        (["layer3"], {}, "'layer3' is not a site"),
        ([f"{A}->{B}->{B}"], {}, "joins too many sites"),
        ([f"{A}->{B}+{B}"], {}, "joins too many sites"),
        ([f"{A}+{B}+embed"], {"saes": ("crosscoder",)}, "joins too many sites"),  # it would halve three sites
        ([f"{A}->{B}"], {}, "dictionary 'topk' needs a site written as SITE .given: "),
        ([A], {"saes": ("transcoder",)}, "dictionary 'transcoder' needs a site written as SITE->SITE"),
        ([A, f"{A}->{B}"], {}, "no dictionary of this run reads a site like"),
        ([A], {"saes": ("pca(width=13)",)}, "width=13"),
        ([A], {"tokens": 99}, "99 tokens are less than one batch"),
    ],
)
def test_what_cannot_be_planned_is_refused(sites: list[str], options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        names(sites, **options)
