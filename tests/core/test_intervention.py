"""Interventions as values: bases, rules, the formula, and a JSON form that gives the same change."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.core.basis import Direction, Identity, Subspace, pack, unpack
from theodolite.core.condition import Condition
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.positions import Positions
from theodolite.core.rules import Add, Clamp, Mean, Patch, Piecewise, Scale, Zero
from theodolite.core.site import Site

D = 6
SITE = Site(1, "resid_post")
V = [1.0, 2.0, 0.0, 0.0, 0.0, 2.0]  # |v|^2 = 9
TWO = [V, [0.0, 1.0, 1.0, 0.0, 0.0, 0.0]]  # not orthogonal


class _PassContext:
    """A pass in which every earlier site held `state`."""

    def __init__(self, basis: Any, state: torch.Tensor) -> None:
        self.basis, self.state = basis, state

    def encode(self, h: torch.Tensor) -> torch.Tensor:
        return self.basis.encode(h)

    def at(self, site: Site) -> torch.Tensor:
        return self.state

    def aligned(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values)


def _apply(intervention: Intervention, h: torch.Tensor, read: torch.Tensor | None = None) -> torch.Tensor:
    everywhere = torch.ones(h.shape[:2], dtype=torch.bool)
    return intervention.apply(h, h if read is None else read, everywhere, _PassContext(intervention.basis, h * 0))


def _states(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, D, generator=torch.Generator().manual_seed(seed)) * 10


def test_a_direction_counts_in_units_of_its_vector() -> None:
    h = torch.tensor([[[9.0, 0, 0, 0, 0, 0]]])  # h.v / |v|^2 = 1
    v = torch.tensor(V)
    expected = {
        "add": (Intervention.add(SITE, V, 2.0), h + 2 * v),
        "project out": (Intervention.project_out(SITE, V), h - v),
        "clamp": (Intervention.clamp(SITE, V, 3.0), h + 2 * v),
        "scale": (Intervention(SITE, Scale(-1.0), Direction(V)), h - 2 * v),
        "mean": (Intervention(SITE, Mean(np.array([V, np.multiply(V, 5)], np.float32)), Direction(V)), h + 2 * v),
        "patch": (Intervention.patch(SITE, np.multiply(V, 4).astype(np.float32), Direction(V)), h + 3 * v),
    }
    for name, (intervention, wanted) in expected.items():
        torch.testing.assert_close(_apply(intervention, h), wanted, msg=name)


def test_ablation_keeps_the_coordinate_of_the_mean_and_replacement_moves_it() -> None:
    """h - V V^+ (h - mean), and h + (h.a)(b - a), each written out."""
    h, mean = _states(), _states(4)[0, 0]
    v = torch.tensor(V) / 3
    ablated = _apply(Intervention.ablate(SITE, V, mean), h)
    torch.testing.assert_close(ablated, h - ((h - mean) @ v).unsqueeze(-1) * v)
    torch.testing.assert_close(ablated @ v, (mean @ v).expand(2, 3))
    span = torch.linalg.pinv(torch.tensor(TWO)) @ torch.tensor(TWO)
    torch.testing.assert_close(_apply(Intervention.ablate(SITE, TWO, mean), h), h - (h - mean) @ span)
    b = torch.tensor(TWO[1]) / 2**0.5
    replaced = _apply(Intervention.replace(SITE, V, TWO[1]), h)
    torch.testing.assert_close(replaced, h + (h @ v).unsqueeze(-1) * (b - v))
    with pytest.raises(UserError, match="one direction"):
        Intervention.replace(SITE, V, np.multiply(V, 3))
    with pytest.raises(UserError, match="old is no vector"):
        Intervention.replace(SITE, np.zeros(6), V)
    with pytest.raises(UserError, match="one vector other than zero"):
        Intervention.rotate(SITE, TWO, 1.0)


def test_projecting_out_a_subspace_leaves_nothing_in_its_span_and_the_rest_alone() -> None:
    h, basis = _states(), torch.tensor(TWO)
    left = _apply(Intervention.project_out(SITE, TWO), h)
    assert (left @ basis.T).abs().max() < 1e-4
    outside = torch.linalg.qr(basis.T, mode="complete").Q[:, 2:]
    torch.testing.assert_close(left @ outside, h @ outside)


def test_the_formula_takes_the_difference_before_decoding() -> None:
    """Written vectors that E does not invert: what the basis cannot express stays."""
    h, read = _states(), [[0.0, 0, 0, 1.0, 0, 0]]
    u = torch.tensor(V)
    removed = _apply(Intervention(SITE, Zero(), Direction(V, read=read)), h)
    torch.testing.assert_close(removed, h - h[..., 3:4] * u)  # the weight component u r^T, taken away


def test_another_read_site_reads_there_and_writes_here() -> None:
    h, x = _states(0), _states(1)
    basis = Direction(V, read=[[1.0, 0, 0, 0, 0, 0]])
    clamp = Intervention(SITE, Clamp(7.0), basis, read_site=Site(1, "resid_mid"))
    torch.testing.assert_close(_apply(clamp, h, x), h + (7 - x[..., :1]) * torch.tensor(V))
    plain = Intervention(SITE, Scale(3.0), read_site=Site(1, "resid_mid"))
    torch.testing.assert_close(_apply(plain, h, x), h + 2 * x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("basis", [Identity(), Direction(V), Subspace(TWO)])
def test_a_rule_that_changes_nothing_is_bit_exact(dtype: torch.dtype, basis: Any) -> None:
    h = (_states() * 1e3).to(dtype)
    for rule in (Add(0.0), Scale(1.0)):
        assert torch.equal(_apply(Intervention(SITE, rule, basis), h), h)


def test_only_selected_tokens_change_and_the_input_never_does() -> None:
    h = _states()
    before, selected = h.clone(), torch.tensor([[True, False, False], [False, False, True]])
    new = Intervention.add(SITE, V, 1.0).apply(h, h, selected, _PassContext(Identity(), h))
    assert torch.equal((new != h).any(-1), selected)
    assert torch.equal(h, before)


EXAMPLES = [
    Intervention.add(SITE, V, 0.1, "content[1:]"),
    Intervention.project_out("embed", TWO),
    Intervention.clamp("blocks.3.mlp_out", V, -2.5, "last+generated"),
    Intervention(SITE, Scale(np.array([1.0, 0.3])), Subspace(TWO)),
    Intervention(SITE, Mean(_states().numpy()[0]), Direction(V)),
    Intervention.patch(SITE, _states().numpy()),
    Intervention.skip(2),
    Intervention(SITE, Clamp(1.0), Direction(V, read=TWO[1:]), Positions("all"), Site(1, "resid_mid")),
    Intervention.add(SITE, V, 3.0, keep_norm=True),
    Intervention.scale(SITE, V, -1.0),
    Intervention.piecewise(SITE, V, 0.7),
    Intervention.rotate(SITE, V, 0.3),
    Intervention.replace(SITE, V, TWO[1]),
    Intervention.ablate(SITE, TWO, _states().numpy()[0]),
    Intervention.add("logits", V, when=Condition(Direction(V), above=0.1, cosine=True)),
    Intervention.project_out(SITE, TWO, when=Condition(Direction(V), above=-1.0, below=np.float32(4), site="embed")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("intervention", EXAMPLES, ids=repr)
def test_json_round_trip_is_exact_and_acts_alike(intervention: Intervention) -> None:
    form = json.loads(json.dumps(intervention.to_json(), allow_nan=False))
    again = Intervention.from_json(form)
    assert again.to_json() == intervention.to_json()
    assert repr(again.site) == repr(intervention.site)
    h, read = _states(2), _states(3)
    assert torch.equal(_apply(again, h, read), _apply(intervention, h, read))


def test_arrays_survive_json_bit_by_bit() -> None:
    values = np.array([0.1, -0.0, 1e-38, 3e38, 16777217.0], np.float32)
    assert unpack(json.loads(json.dumps(pack(values)))).tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": {"rule": "ad", "strength": 1.0}}, "did you mean 'add'"),
        ({"rule": {"rule": "add", "strength": "1"}}, "not a finite number"),
        ({"rule": {"rule": "add", "strength": float("inf")}}, "not a finite number"),
        ({"rule": {"rule": "add"}}, "takes"),
        ({"basis": {"basis": "directions"}}, "did you mean 'direction'"),
        ({"basis": {"basis": "direction", "write": {"shape": [3], "float32": "AAAA"}}}, "bytes"),
        ({"basis": {"basis": "direction", "write": {"shape": [1], "float32": "not base64"}}}, "JSON form"),
        ({"basis": {"basis": "direction", "write": pack(np.zeros(4))}}, "other than zero"),
        ({"code": "print()"}, "has no"),
        ({"site": "blocks.1.resid"}, "unknown part"),
        ({"positions": "everywhere"}, "unknown position"),
        ({"keep_norm": 1}, "true or false"),
        ({"when": {"basis": {"basis": "identity"}}}, "above, below or both"),
        ({"when": {"basis": {"basis": "identity"}, "above": "1"}}, "above, below or both"),
        ({"when": {"basis": {"basis": "identity"}, "above": 1.0, "code": ""}}, "a condition has no"),
    ],
)
def test_a_form_from_a_stranger_is_refused_with_its_fault(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Intervention.from_json(EXAMPLES[0].to_json() | change)


def test_a_kept_norm_leaves_the_direction_and_a_no_op_exact() -> None:
    h = _states()
    h[0, 0] = 0  # which has no direction
    plain, kept = (_apply(Intervention.add(SITE, V, 3.0, keep_norm=on), h) for on in (False, True))
    torch.testing.assert_close(kept.norm(dim=-1), h.norm(dim=-1))
    cosine = torch.nn.functional.cosine_similarity(kept, plain, dim=-1)
    torch.testing.assert_close(cosine.flatten()[1:], torch.ones(5))
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for basis in (Identity(), Direction(V), Subspace(TWO)):
            assert torch.equal(_apply(Intervention(SITE, Scale(1.0), basis, keep_norm=True), h.to(dtype)), h.to(dtype))


def test_a_condition_decides_token_by_token_by_the_state_before_the_change() -> None:
    h = torch.arange(6.0).reshape(2, 3, 1) * torch.tensor(V)  # z is 0, 1, 2 and 3, 4, 5
    for bounds, chosen in [
        ({"above": 1.5}, [2, 3, 4, 5]),
        ({"below": 1.5}, [0, 1]),
        ({"above": 0.5, "below": 3.5}, [1, 2, 3]),
    ]:
        new = _apply(Intervention.add(SITE, V, 9.0, when=Condition(Direction(V), **bounds)), h)  # type: ignore[arg-type]
        assert (new != h).any(-1).flatten().nonzero().flatten().tolist() == chosen
        torch.testing.assert_close(new.reshape(6, D)[chosen], (h + 9 * torch.tensor(V)).reshape(6, D)[chosen])
    elsewhere = Intervention.add(SITE, V, 9.0, when=Condition(Direction(V), above=1.5, site=Site(0, "resid_post")))
    assert elsewhere.sources() == [Site(0, "resid_post")]
    assert torch.equal(_apply(elsewhere, h), h)  # the other site's states are zeros here
    both = Condition(Subspace(TWO), above=0.5)  # every coordinate has to lie in the range
    assert both(torch.tensor(TWO)[None] + torch.tensor(TWO).flip(0)[None]).tolist() == [[True, True]]
    assert both(torch.tensor(TWO)[None]).tolist() == [[False, False]]


def test_a_condition_without_a_range_is_refused() -> None:
    for bounds in ({}, {"above": np.nan}, {"below": np.inf}, {"above": "much"}):
        with pytest.raises(UserError, match="above, below or both"):
            Condition(Identity(), **bounds)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="nothing lies above"):
        Condition(Identity(), above=2.0, below=2.0)
    with pytest.raises(UserError, match="comes after"):
        Intervention.add(SITE, V, when=Condition(Direction(V), above=0.0, site=Site(2, "resid_pre")))


@pytest.mark.parametrize("rule", [Add, Clamp, Scale, Piecewise])
def test_another_strength_is_another_rule_and_nothing_else(rule: Any) -> None:
    first = Intervention(SITE, rule(1.0), Direction(V), Positions("content"), keep_norm=True)
    for strength in (0.0, -2.5, np.array([1.0, 2.0])):
        wanted = Intervention(SITE, rule(strength), Direction(V), Positions("content"), keep_norm=True)
        assert first.at(strength).to_json() == wanted.to_json()
    assert first.rule.at(1.0) is not first.rule
    with pytest.raises(UserError, match=r"Zero\(\) has no strength"):
        Intervention.project_out(SITE, V).at(2.0)


def test_vectors_in_a_tensor_act_as_in_an_array_and_are_read_anew() -> None:
    h = _states()
    for vectors, basis in ((V, Direction), (TWO, Subspace)):
        tensor = torch.tensor(vectors, requires_grad=True)
        one, other = basis(tensor), basis(vectors)
        for rule in (Add(2.0), Zero(), Clamp(3.0)):
            found = _apply(Intervention(SITE, rule, one), h)
            torch.testing.assert_close(found, _apply(Intervention(SITE, rule, other), h))
            assert found.requires_grad
        assert one.to_json() == other.to_json()
        with torch.no_grad():
            tensor *= 2
        torch.testing.assert_close(torch.from_numpy(one.write_kd), 2 * torch.from_numpy(other.write_kd))
        torch.testing.assert_close(one.encode(h), other.encode(h) / 2)
    for dtype in (torch.bfloat16, torch.float64):
        assert Direction(torch.tensor(V, dtype=dtype)).decode(torch.ones(1, 1)).dtype == torch.float32


def test_names_are_as_good_as_the_values_that_they_stand_for() -> None:
    named = Intervention(
        "model.layers.1", Patch("blocks.0.hook_resid_post"), positions="content", read_site="hook_embed"
    )  # type: ignore[arg-type]
    meant = Intervention(SITE, Patch(Site(0, "resid_post")), Identity(), Positions("content"), Site(None, "embed"))
    assert named.to_json() == meant.to_json()
    assert (named.site, named.sources()) == (meant.site, meant.sources())


def test_impossible_interventions_are_refused() -> None:
    with pytest.raises(UserError, match="comes after"):
        Intervention.patch("blocks.1.resid_pre", "blocks.1.resid_post")
    with pytest.raises(UserError, match="one vector"):
        Direction(TWO)
    with pytest.raises(UserError, match="NaN"):
        Direction([1.0, np.nan])
    with pytest.raises(UserError, match="must agree"):
        Subspace(TWO, read=V)
    with pytest.raises(UserError, match="no JSON form"):
        Intervention(SITE, lambda z, now: z).to_json()
