"""Sites: one grammar, and what other tools call the same place."""

import pytest

from theodolite.core.errors import UserError
from theodolite.core.site import ALL_PARTS, AtSites, MissingSite, Site

N = 12

# site, hidden_states index of a model with 12 blocks, TransformerLens hook, layer of a control vector; None = no name
TABLE = [
    ("embed", None, "hook_embed", None),
    ("blocks.0.resid_pre", 0, "blocks.0.hook_resid_pre", None),
    ("blocks.0.attn_out", None, "blocks.0.hook_attn_out", None),
    ("blocks.0.resid_mid", None, "blocks.0.hook_resid_mid", None),
    ("blocks.0.mlp_out", None, "blocks.0.hook_mlp_out", None),
    ("blocks.2.q", None, "blocks.2.attn.hook_q", None),
    ("blocks.2.k", None, "blocks.2.attn.hook_k", None),
    ("blocks.2.v", None, "blocks.2.attn.hook_v", None),
    ("blocks.2.z", None, "blocks.2.attn.hook_z", None),
    ("blocks.2.mlp_act", None, "blocks.2.mlp.hook_post", None),
    ("blocks.2.attn_in", None, None, None),
    ("blocks.2.mlp_in", None, None, None),
    ("blocks.0.resid_post", 1, "blocks.0.hook_resid_post", None),  # llama.cpp refuses layer 0
    ("blocks.7.resid_pre", 7, "blocks.7.hook_resid_pre", None),
    ("blocks.7.resid_post", 8, "blocks.7.hook_resid_post", 7),
    ("blocks.10.resid_post", 11, "blocks.10.hook_resid_post", 10),
    ("blocks.11.resid_post", None, "blocks.11.hook_resid_post", 11),  # hidden_states[12] is after the final norm
    ("final_norm", 12, None, None),
]


def _or_none(call: object, *arguments: object) -> object:
    try:
        return call(*arguments)  # type: ignore[operator]
    except UserError:
        return None


@pytest.mark.parametrize(("text", "hidden", "lens", "control"), TABLE)
def test_names_in_other_tools(text: str, hidden: int | None, lens: str | None, control: int | None) -> None:
    site = Site.parse(text)
    assert str(site) == text
    assert _or_none(site.to_hidden_states, N) == hidden
    assert _or_none(site.to_transformer_lens) == lens
    assert _or_none(site.to_control_vector) == control
    if lens is not None:
        assert Site.from_transformer_lens(lens) == site
    if control is not None:
        assert Site.from_control_vector(control) == site


def test_hidden_states_have_one_site_each_and_negative_indices_count_from_the_end() -> None:
    sites = [Site.from_hidden_states(i, N) for i in range(N + 1)]
    assert [site.to_hidden_states(N) for site in sites] == list(range(N + 1))
    assert [Site.from_hidden_states(i - N - 1, N) for i in range(N + 1)] == sites


def test_sites_sort_in_the_order_of_a_forward_pass() -> None:
    order = ["embed", *(f"blocks.{i}.{part}" for i in (0, 2, 10) for part in ALL_PARTS), "final_norm"]
    assert [str(site) for site in sorted(map(Site.parse, reversed(order)))] == order


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blocks.3.residpost", "did you mean 'resid_post'"),
        ("blocks.3.hook_resid_pots", "has no site here"),
        ("model.layers.3.mlp", r"by model\.site\(path\)"),
        ("model.layers", "is not a site"),
        ("blocks.3.hook_attn_in", "has no site here"),  # before the norm, once for each head
        ("blocks.3.mlp.hook_q", "has no site here"),
        ("blocks.-1.resid_post", "is not a site"),
        ("layers.3", "is not a site"),
        ("blocks.3.embed", "unknown part of a block"),
        ("", "is not a site"),
    ],
)
def test_what_is_no_site_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Site.parse(text)


@pytest.mark.parametrize(("text", "lens"), [(row[0], row[2]) for row in TABLE if row[2]])
def test_a_name_of_transformer_lens_is_a_name_of_the_site(text: str, lens: str) -> None:
    assert Site.parse(lens) == Site.parse(text)


def test_values_by_site_are_found_by_any_name_of_it() -> None:
    held = AtSites({Site(1, "resid_post"): "a", Site(None, "final_norm"): "b"})
    for name in ("blocks.1.resid_post", "blocks.1.hook_resid_post", "model.layers.1", "transformer.h.1.output"):
        assert (held[name], held.get(name), name in held) == ("a", "a", True)
    assert held["transformer.ln_f"] == held[Site(None, "final_norm")] == "b"
    assert (held.get("embed"), held.get("embed", 3), "embed" in held, 7 in held) == (None, 3, False, False)
    for error in (MissingSite, KeyError, UserError):
        with pytest.raises(error, match=r"^nothing was read at 'embed': held are blocks\.1\.resid_post, final_norm$"):
            held["embed"]
    with pytest.raises(UserError, match="is not a site"):
        held["blocks"]


def test_a_block_the_model_lacks_is_refused() -> None:
    assert Site.parse("blocks.11.mlp_out").check(N) == Site(11, "mlp_out")
    with pytest.raises(UserError, match="blocks 0 to 11"):
        Site.parse("blocks.12.mlp_out").check(N)
    for wrong in (13, -14):
        with pytest.raises(UserError, match="outside"):
            Site.from_hidden_states(wrong, N)
    with pytest.raises(UserError, match="from 1 on"):
        Site.from_control_vector(0)
