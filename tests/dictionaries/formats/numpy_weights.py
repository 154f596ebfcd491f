"""Random weights and rows in numpy, and what a dictionary must give on them; each source's formula is written out."""

import json

import numpy as np
import torch
from safetensors.torch import save_file

from theodolite.dictionaries.dictionary import Dictionary, to_csr
from theodolite.dictionaries.formats import read

D, F, N = 6, 11, 40
rng = np.random.default_rng(0)
X = rng.normal(size=(N, D)) * 2 + 1
W = {
    "W_enc": rng.normal(size=(D, F)),
    "W_dec": rng.normal(size=(F, D)),
    "b_enc": rng.normal(size=F) * 0.3,
    "b_dec": rng.normal(size=D),
    "threshold": np.abs(rng.normal(size=F)),
    "b_gate": rng.normal(size=F) * 0.3,
    "b_mag": rng.normal(size=F) * 0.3,
    "r_mag": rng.normal(size=F) * 0.3,
}


def relu(a: np.ndarray) -> np.ndarray:
    return np.maximum(a, 0)


def top(a: np.ndarray, k: int) -> np.ndarray:
    cut = np.sort(a, axis=1)[:, -k][:, None]
    return relu(np.where(a >= cut, a, 0))


def saelens(folder, kind: str, names: str, **config: object) -> Dictionary:
    save_file({n: torch.tensor(W[n], dtype=torch.float32) for n in names.split()}, folder / "sae_weights.safetensors")
    metadata = {"model_name": "gpt2-small", "hook_name": "blocks.8.hook_resid_post"}
    config = {"architecture": kind, "d_in": D, "d_sae": F, "dtype": "float32", "metadata": metadata} | config
    (folder / "cfg.json").write_text(json.dumps(config))
    return read(folder)


def assert_equal(d: Dictionary, latents: np.ndarray, reconstruction: np.ndarray) -> None:
    x = torch.tensor(X, dtype=torch.float32)
    np.testing.assert_allclose(d.encode(x).numpy(), latents, atol=2e-5)
    np.testing.assert_allclose(to_csr(*d.encode_sparse(x), d.width).toarray(), latents, atol=2e-5)
    np.testing.assert_allclose(d.reconstruct(x).numpy(), reconstruction, atol=1e-4)
    assert (latents > 0).any()
    assert (latents == 0).any()


PRE = (X - W["b_dec"]) @ W["W_enc"]
BASIC = "W_enc W_dec b_enc b_dec"
