"""A two-latent dictionary worked by hand, through every rule and both row normalisations."""

import pytest
import torch
from safetensors.torch import load_file

from theodolite.core.errors import UserError
from theodolite.dictionaries import native
from theodolite.dictionaries.activations import GatedRule, JumpReluRule, ReluRule, TopKRule
from theodolite.dictionaries.dictionary import Dictionary, to_csr
from theodolite.dictionaries.variants.topk import TopK

NOISE = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
X = torch.tensor([[3.0, 1.0], [1.0, 4.0]])


def by_hand(rule: object, **how: object) -> Dictionary:
    """Pre-activations are x - 1 plus (0, .5); the decoder doubles the second latent."""
    return Dictionary(
        torch.eye(2), torch.tensor([0.0, 0.5]), torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.ones(2), rule, **how
    )


@pytest.mark.parametrize(
    ("rule", "latents"),
    [
        (TopKRule(1), [[2.0, 0.0], [0.0, 3.5]]),
        (ReluRule(), [[2.0, 0.5], [0.0, 3.5]]),
        (JumpReluRule(torch.tensor([0.0, 0.5])), [[2.0, 0.0], [0.0, 3.5]]),  # .5 is not above .5
        (GatedRule(torch.tensor([2.0, 1.0]), torch.tensor([-1.0, 1.0])), [[3.0, 1.5], [0.0, 4.5]]),
    ],
)
def test_latents_by_hand(rule: object, latents: list) -> None:
    d = by_hand(rule)
    assert d.encode(X).tolist() == latents
    assert to_csr(*d.encode_sparse(X), d.width).toarray().tolist() == latents
    expected = torch.tensor(latents) @ d.W_dec + 1
    torch.testing.assert_close(d.decode(d.encode(X)), expected)
    torch.testing.assert_close(d.reconstruct(X), expected)


def test_everything_that_changes_latents_changes_the_fingerprint() -> None:
    level = torch.tensor([0.0, 0.5])
    others = [
        by_hand(TopKRule(1)),
        by_hand(TopKRule(2)),
        by_hand(TopKRule(1), subtract_b_dec=False),
        by_hand(TopKRule(1), normalise="layer_norm"),
        by_hand(JumpReluRule(level)),
        by_hand(JumpReluRule(level + 1)),
        by_hand(GatedRule(level, level)),
        by_hand(GatedRule(level + 1, level)),
        by_hand(GatedRule(level, level + 1)),
        by_hand(TopKRule(1), refit=True),
        by_hand(TopKRule(1), W_skip=torch.eye(2)),
        by_hand(TopKRule(1), W_skip=torch.eye(2) + 1),
    ]
    assert len({d.fingerprint() for d in others}) == len(others)
    assert by_hand(TopKRule(1)).fingerprint() == by_hand(TopKRule(1)).fingerprint()


def test_fvu_is_about_the_mean_of_the_rows() -> None:
    """Top 1 reconstructs (3, 1) and (1, 8): error 16 over variance 2 * (1 + 2.25) = 6.5; about 0 it is 16 / 27."""
    assert by_hand(TopKRule(1)).fvu(X) == pytest.approx(16 / 6.5)


def test_what_is_a_transcoder() -> None:
    rule = ReluRule()
    assert by_hand(rule, W_skip=torch.eye(2)).is_transcoder
    assert by_hand(rule, info={"site": None, "read_site": None}).is_transcoder
    assert Dictionary(torch.eye(2), torch.zeros(2), torch.ones(2, 1), torch.zeros(1), rule).is_transcoder
    assert not by_hand(rule).is_transcoder
    assert not by_hand(rule, info={"sites": ["a", "b"], "site": "a+b"}).is_transcoder  # a crosscoder


def test_a_transcoder_writes_another_width_and_adds_its_affine_path() -> None:
    """ReLU latents of (3, 1) are (3, 1.5); they write 3 + 2 * 1.5 + 1 = 7, and W_skip adds 10 * 3 + 1."""
    d = Dictionary(
        torch.eye(2),
        torch.tensor([0.0, 0.5]),
        torch.tensor([[1.0], [2.0]]),
        torch.ones(1),
        ReluRule(),
        subtract_b_dec=False,
        W_skip=torch.tensor([[10.0, 1.0]]),
    )
    assert (d.d_in, d.d_out, d.width) == (2, 1, 2)
    assert d.reconstruct(X[:1]).tolist() == [[38.0]]
    assert d.decode(d.encode(X[:1])).tolist() == [[7.0]]  # the row itself is not known here
    assert d.fvu(X, d.reconstruct(X) + torch.tensor([[1.0], [-1.0]])) == pytest.approx(2 / (2 * 7.5**2))
    folded = d.folded(4.0, 0.5)  # of rows four times as large, and targets half as large
    torch.testing.assert_close(folded.reconstruct(X / 4), d.reconstruct(X) / 0.5)
    assert torch.equal(d.to("cpu").reconstruct(X), d.reconstruct(X))


def test_every_coordinate_may_have_its_own_factor() -> None:
    d, scale = by_hand(JumpReluRule(torch.tensor([0.0, 0.5]))), torch.tensor([2.0, 10.0])
    torch.testing.assert_close(d.folded(scale).reconstruct(X / scale), d.reconstruct(X) / scale)
    assert torch.equal(d.folded(scale).encode(X / scale), d.encode(X))


def test_empty_slots_do_not_silence_the_latent_they_name() -> None:
    """Of pre-activations (2, -1) one is positive: the second of two slots is empty, whatever latent it names."""
    x = torch.tensor([[3.0, -0.5]])
    assert by_hand(TopKRule(2)).encode(x).tolist() == [[2.0, 0.0]]
    assert to_csr(*by_hand(TopKRule(2)).encode_sparse(x), 2).toarray().tolist() == [[2.0, 0.0]]


def test_bias_left_in_the_input() -> None:
    assert by_hand(ReluRule(), subtract_b_dec=False).encode(X).tolist() == [[3.0, 1.5], [1.0, 4.5]]


def test_normalised_rows_come_back_in_their_own_units() -> None:
    exact = Dictionary(
        torch.eye(2), torch.zeros(2), torch.eye(2), torch.zeros(2), ReluRule(), normalise="constant_norm"
    )
    torch.testing.assert_close(exact.reconstruct(X), X)
    torch.testing.assert_close(exact.encode(X).norm(dim=1), torch.full((2,), 2**0.5))
    wide = torch.tensor([[1.0, 2.0, 6.0]])
    turned = Dictionary(
        torch.eye(3),
        torch.full((3,), 9.0),
        torch.eye(3),
        torch.full((3,), -9.0),
        ReluRule(),
        normalise="layer_norm",
        subtract_b_dec=False,
    )
    torch.testing.assert_close(turned.reconstruct(wide), wide, atol=1e-4, rtol=0)


@pytest.mark.parametrize("frozen", [False, True])
def test_saved_and_loaded_is_bit_equal(tmp_path, frozen: bool) -> None:
    fitted = TopK(6, width=10, k=2, seed=3, frozen="encoder" if frozen else "").fit([NOISE] * 3)
    stored = native.as_stored(fitted.dictionary())
    loaded = native.load(native.save(stored, tmp_path / "d"))
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        assert torch.equal(getattr(loaded, name), getattr(stored, name)), name
    assert loaded.info == stored.info
    assert ("W_enc" in load_file(tmp_path / "d" / "model.safetensors")) != frozen


def test_a_seed_that_gives_another_encoder_is_refused(tmp_path) -> None:
    fitted = TopK(6, width=10, k=2, seed=3, frozen="encoder").fit([NOISE])
    native.save(fitted.dictionary(), tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"seed": 3,\n  "sha256"', '"seed": 4,\n  "sha256"'))
    with pytest.raises(UserError, match="encoder it was trained with"):
        native.load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "config"])
def test_damaged_files_are_refused(tmp_path, damage: str) -> None:
    native.save(TopK(6, width=10, k=2).fit([NOISE]).dictionary(), tmp_path)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    if damage == "cut":
        weights.write_bytes(content[:-7])
    elif damage == "flip":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "gone":
        weights.unlink()
    else:
        (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"damaged|never finished"):
        native.load(tmp_path)
