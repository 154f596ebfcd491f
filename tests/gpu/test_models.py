"""Rows, interventions and generation on CUDA equal those of the CPU (make gpu).

Tolerance: 1e-3 relative in the norm of each row, in float32 without TF32; sums are taken in another order there.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from theodolite.core.intervention import Intervention
from theodolite.models.harvest import harvest
from theodolite.models.harvest_plan import HarvestPlan
from theodolite.models.load import SHIPPED
from theodolite.models.model import Model
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="needs a CUDA device: run `make gpu` on a machine that has one"
    ),
]
TEXTS = ["hello there", "b", "a rather longer text, to make lengths unlike"]
TOLERANCE = 1e-3


def on(device: str, family: str) -> Model:
    return Model.from_pretrained(tiny_model(family), tokenizer=byte_tokenizer(), device=device)


def far(a: np.ndarray, b: np.ndarray) -> float:
    """Largest relative difference of two rows."""
    return float((np.linalg.norm(a - b, axis=-1) / np.linalg.norm(b, axis=-1)).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_at_every_site_with_interventions(family: str) -> None:
    cpu, gpu = on("cpu", family), on("cuda", family)
    v = np.random.default_rng(0).normal(size=32).astype(np.float32)
    changes = [Intervention.add("blocks.0.resid_post", v, 0.5, "content"), Intervention.skip(1)]
    for interventions in ([], changes):
        rows = [model.read(TEXTS, model.sites(), pooling=None, interventions=interventions) for model in (cpu, gpu)]
        for site in cpu.sites():
            assert far(rows[1][site].rows, rows[0][site].rows) < TOLERANCE, site
        scores = [model.loss(["abc", "defgh"], interventions=interventions).loss for model in (cpu, gpu)]
        np.testing.assert_allclose(scores[1], scores[0], rtol=TOLERANCE)
    assert cpu.generate(TEXTS, max_new_tokens=8) == gpu.generate(TEXTS, max_new_tokens=8)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_harvest(tmp_path: Path, dtype: str) -> None:
    pooled = []
    for device in ("cpu", "cuda"):
        model = Model.from_pretrained(tiny_model(), tokenizer=byte_tokenizer(), device=device, dtype=dtype)
        plan = HarvestPlan(token_sites=["blocks.1.resid_post"], pooled_sites=model.sites())
        found = harvest(model, TEXTS, tmp_path / device, plan)
        pooled.append([found.pooled(site, how) for site in model.sites() for how in ("mean", "last")])
        assert next(found.tokens("blocks.1.resid_post"))[2].dtype == model.dtype
    bound = TOLERANCE if dtype == "float32" else 0.05
    assert max(far(b, a) for a, b in zip(*pooled, strict=True)) < bound


def test_the_shipped_model() -> None:
    from theodolite.core.cache import cache_root

    if not (cache_root() / "models" / next(iter(SHIPPED))).is_dir():
        pytest.skip("the default model is not in the cache, and this machine may have no network: load it once first")
    cpu, gpu = (Model.from_pretrained(next(iter(SHIPPED)), device=d, dtype="float32") for d in ("cpu", "cuda"))
    sites = ["blocks.0.resid_mid", "blocks.14.resid_post", "final_norm"]
    rows = [model.read(TEXTS, sites) for model in (cpu, gpu)]
    for site in rows[0]:
        assert far(rows[1][site].rows, rows[0][site].rows) < TOLERANCE, site
