"""`benchmarks/gpu.py` at the size of a test: every figure is there, and the CPU agrees with itself."""

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

FILE = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_gpu", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tiny_run_gives_every_figure(gpu: ModuleType, tmp_path: Path) -> None:
    assert gpu.main(["--tiny", "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["tokens"] == gpu.TINY.tokens
    speeds = [figures[name] for name in figures if name.endswith("per_second")]
    assert len(speeds) == 4
    assert all(speed > 0 for speed in speeds)
    assert figures["rows_far"] == figures["other_latents"] == 0
    assert math.isnan(figures["topk_gb"])
    assert figures["minutes"] < 1


def test_a_device_that_computes_otherwise_is_reported(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    far = {"rows_far": 2 * gpu.FAR, "other_latents": 0.0}
    monkeypatch.setattr(gpu, "agreement", lambda size, device: far)
    assert gpu.main(["--tiny"]) == 1


def test_both_rules_fire_about_equally_often(gpu: ModuleType) -> None:
    x = torch.randn(256, gpu.TINY.d_model, generator=torch.Generator().manual_seed(0))
    for rule in gpu.rules(gpu.TINY).values():
        l0 = float((gpu.dictionary(gpu.TINY, rule).encode(x) != 0).sum(1).float().mean())
        assert l0 == pytest.approx(gpu.TINY.k, rel=0.3)


def test_the_full_size_is_a_model_of_seven_billion(gpu: ModuleType) -> None:
    with torch.device("meta"):
        module = gpu.network(gpu.FULL, gpu.FULL.blocks, "meta", torch.bfloat16)
    assert sum(p.numel() for p in module.parameters()) == pytest.approx(6.7e9, rel=0.02)
    assert gpu.FULL.latents == 2**16


@pytest.mark.skipif(torch.cuda.is_available(), reason="checks the error without a CUDA device, and there is one")
def test_without_a_gpu_it_says_what_to_give(gpu: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 1
    assert "--tiny" in capsys.readouterr().out
