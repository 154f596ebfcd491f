"""Other libraries' dictionaries against our readers and writers, by output, in the peers' own environment.

    python benchmarks/peer_formats.py            # every stored case: the peer's output today, ours, and what we write
    python benchmarks/peer_formats.py --make     # build the cases again under tests/dictionaries/formats/peers

A case is a tiny dictionary with random weights, built and saved by the peer's own classes, with `outputs.safetensors`:
rows x and the latents and reconstruction that the peer's own loader and forward pass give for them. `make test` reads
these files without the peers. OpenAI's package is not on PyPI: its case follows the formula and layout of
openai/sparse_autoencoder, written out below. Gemma Scope has no library: SAELens' loaders for it are the peer.
"""

import argparse
import functools
import importlib.metadata
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

PEERS = Path(__file__).parents[1] / "tests" / "dictionaries" / "formats" / "peers"
D, D_OUT, F, N, K = 6, 5, 12, 32, 3
LIBRARIES = ("sae-lens", "eai-sparsify", "dictionary-learning", "torch")
Outputs = tuple[Tensor, Tensor]
CASES: dict[str, Callable[[Path], object]] = {}


def case(path: str) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    """Register the function that saves this case into a folder."""
    return lambda build: CASES.setdefault(path, build)


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights of unit scale, thresholds positive; decoders are not unit norm, so that norms show."""
    draws = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        value = torch.randn(p.shape, generator=draws) * (0.3 if p.ndim == 1 else 0.7)
        p.data = (value.abs() if "threshold" in name else value).to(p.dtype)
    return module


# SAELens


def saelens(name: str, seed: int, **options: Any) -> Callable[[Path], object]:
    def build(folder: Path) -> object:
        import sae_lens
        from sae_lens.registry import get_sae_class
        from sae_lens.saes.sae import SAEMetadata

        sae_class, config_class = get_sae_class(name)
        hook = SAEMetadata(model_name="gpt2-small", hook_name="blocks.8.hook_resid_post", context_size=128)
        sae = sae_class(config_class(d_in=D, d_sae=F, metadata=hook, **options))
        randomise(sae, seed).save_model(folder)
        return sae_lens

    return build


for number, (stem, kind, how) in enumerate(
    (
        ("standard", "standard", {}),
        ("standard_without_b_dec", "standard", {"apply_b_dec_to_input": False}),
        ("standard_layer_norm", "standard", {"normalize_activations": "layer_norm"}),
        ("standard_constant_norm", "standard", {"normalize_activations": "constant_norm_rescale"}),
        ("standard_float16", "standard", {"dtype": "float16"}),
        ("topk", "topk", {"k": K}),
        ("topk_rescaled", "topk", {"k": K, "rescale_acts_by_decoder_norm": True}),
        ("jumprelu", "jumprelu", {}),
        ("gated", "gated", {}),
        (
            "matching_pursuit",
            "matching_pursuit",
            {"max_iterations": K, "residual_threshold": 0.0, "stop_on_duplicate_support": False},
        ),
        ("transcoder", "transcoder", {"d_out": D_OUT, "apply_b_dec_to_input": False}),
        ("skip_transcoder", "skip_transcoder", {"d_out": D_OUT, "apply_b_dec_to_input": False}),
        ("jumprelu_transcoder", "jumprelu_transcoder", {"d_out": D_OUT, "apply_b_dec_to_input": False}),
        ("jumprelu_skip_transcoder", "jumprelu_skip_transcoder", {"d_out": D_OUT, "apply_b_dec_to_input": False}),
        ("abstopk", "abstopk", {"k": K}),
        ("abstopk_rescaled", "abstopk", {"k": K, "rescale_acts_by_decoder_norm": True}),
    )
):
    CASES[f"saelens/{stem}"] = saelens(kind, number, **how)


def trained(folder: Path, config: Any, seed: int) -> Any:
    """A training SAE whose threshold and weights are random, exported as SAELens exports it."""
    from sae_lens.registry import get_sae_training_class

    sae = randomise(get_sae_training_class(config.architecture())[0](config), seed)
    sae.topk_threshold = torch.tensor(0.8, dtype=torch.double)
    sae.save_inference_model(folder)
    return sae


@case("saelens/batchtopk")
def _(folder: Path) -> object:
    from sae_lens import BatchTopKTrainingSAEConfig

    return trained(folder, BatchTopKTrainingSAEConfig(d_in=D, d_sae=F, k=K), 20)


@case("saelens/matryoshka")
def _(folder: Path) -> object:
    from sae_lens import MatryoshkaBatchTopKTrainingSAEConfig

    return trained(folder, MatryoshkaBatchTopKTrainingSAEConfig(d_in=D, d_sae=F, k=K, matryoshka_widths=[4, 8, F]), 21)


@case("saelens/checkpoint_input_scale")
def _(folder: Path) -> object:
    saelens("standard", 22, normalize_activations="expected_average_only_in")(folder)
    from sae_lens.training.activation_scaler import ActivationScaler

    return ActivationScaler(scaling_factor=0.4).save(str(folder / "activation_scaler.json"))


@case("saelens/checkpoint_whitening")
def _(folder: Path) -> object:
    from sae_lens.training.activation_scaler import ActivationScaler, ActivationWhitening

    saelens("standard", 23, normalize_activations="covariance_whitening")(folder)
    draws = torch.Generator().manual_seed(23)
    matrix = torch.randn(D, D, generator=draws) + 2 * torch.eye(D)
    whitening = ActivationWhitening(torch.randn(D, generator=draws), matrix, torch.linalg.inv(matrix))
    return ActivationScaler(whitening=whitening).save(str(folder / "activation_scaler.json"))


def load_saelens(folder: Path) -> Callable[[Tensor], Outputs]:
    from sae_lens import SAE
    from sae_lens.training.activation_scaler import ActivationScaler

    sae = SAE.load_from_disk(folder, dtype="float32").eval()
    if (folder / "activation_scaler.json").exists():
        scaler = ActivationScaler()
        scaler.load(folder / "activation_scaler.json")
        if scaler.whitening:
            w = scaler.whitening
            sae.fold_activation_whitening(w.mean, w.matrix, w.inverse_matrix)
        else:
            sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)

    def forward(x: Tensor) -> Outputs:
        return sae.encode(x), sae(x)

    return forward


# sparsify


def sparsify(dtype: torch.dtype, seed: int, **options: Any) -> Callable[[Path], object]:
    def build(folder: Path) -> object:
        from sparsify import SparseCoder, SparseCoderConfig

        coder = SparseCoder(D, SparseCoderConfig(num_latents=F, k=K, **options), dtype=dtype)
        return randomise(coder, seed).save_to_disk(folder)

    return build


CASES |= {
    "sparsify/topk/layers.3": sparsify(torch.float32, 30),
    "sparsify/bfloat16/layers.3": sparsify(torch.bfloat16, 31),
    "sparsify/skip/layers.3": sparsify(torch.float32, 32, skip_connection=True),
    "sparsify/transcoder/layers.3.mlp": sparsify(torch.float32, 33, transcode=True),
    "sparsify/skip_transcoder/layers.3.mlp": sparsify(torch.float32, 34, transcode=True, skip_connection=True),
}


def load_sparsify(folder: Path) -> Callable[[Tensor], Outputs]:
    from sparsify import SparseCoder

    coder = SparseCoder.load_from_disk(folder).float()

    def forward(x: Tensor) -> Outputs:
        out = coder(x)
        return torch.zeros(len(x), coder.num_latents).scatter(1, out.latent_indices, out.latent_acts), out.sae_out

    return forward


# dictionary_learning


def dictionary_learning(name: str, seed: int, *options: Any) -> Callable[[Path], object]:
    def build(folder: Path) -> object:
        module = randomise(_dictionary_class(name)(D, F, *options), seed)
        if hasattr(module, "threshold") and name != "JumpReluAutoEncoder":
            module.threshold.fill_(0.8)
        torch.save(module.state_dict(), folder / "ae.pt")
        said = {"dict_class": name, "activation_dim": D, "dict_size": F, "layer": 3, "lm_name": "EleutherAI/pythia-70m"}
        said |= {"submodule_name": "gpt_neox.layers.3"} | ({"k": K} if options else {})
        return (folder / "config.json").write_text(json.dumps({"trainer": said, "buffer": {"ctx_len": 128}}))

    return build


CASES |= {
    f"dictionary_learning/{name}": dictionary_learning(name, 40 + i, *options)
    for i, (name, options) in enumerate(
        {
            "AutoEncoder": (),
            "AutoEncoderNew": (),
            "GatedAutoEncoder": (),
            "JumpReluAutoEncoder": (),
            "AutoEncoderTopK": (K,),
            "BatchTopKSAE": (K,),
            "MatryoshkaBatchTopKSAE": (K, [4, 4, 4]),
        }.items()
    )
}


def _dictionary_class(name: str) -> Any:
    from dictionary_learning import utils

    return getattr(utils, name)


def load_dictionary_learning(folder: Path) -> Callable[[Tensor], Outputs]:
    name = json.loads((folder / "config.json").read_text())["trainer"]["dict_class"]
    # AutoEncoder's loader rescales decoder rows to norm 1 unless told otherwise; the file's own latents are wanted
    extra = {"normalize_decoder": False} if name == "AutoEncoder" else {}
    module = _dictionary_class(name).from_pretrained(str(folder / "ae.pt"), **extra)
    return lambda x: (module.encode(x), module(x))


# OpenAI, by its published formula


def openai(seed: int, activation: str, activation_state: dict[str, Any]) -> Callable[[Path], object]:
    def build(folder: Path) -> object:
        draws = torch.Generator().manual_seed(seed)
        shapes = {"pre_bias": (D,), "latent_bias": (F,), "encoder.weight": (F, D), "decoder.weight": (D, F)}
        state: dict[str, Any] = {n: torch.randn(s, generator=draws) * 0.6 for n, s in shapes.items()}
        state |= {"stats_last_nonzero": torch.zeros(F, dtype=torch.long), "latents_mean_square": torch.zeros(F)}
        state |= {"latents_activation_frequency": torch.ones(F)}
        state |= {"activation": activation, "activation_state_dict": activation_state}
        return torch.save(state, folder / "autoencoder.pt")

    return build


CASES |= {
    "openai/topk": openai(50, "TopK", {"k": K, "postact_fn": "ReLU"}),
    "openai/relu": openai(51, "ReLU", {}),
}


def load_openai(folder: Path) -> Callable[[Tensor], Outputs]:
    state = torch.load(folder / "autoencoder.pt", weights_only=True)

    def forward(x: Tensor) -> Outputs:
        mean, std = torch.zeros(len(x), 1), torch.ones(len(x), 1)
        if state["activation"] == "TopK":  # normalises the row exactly then
            mean, std = x.mean(1, keepdim=True), x.std(1, keepdim=True)
            x = (x - mean) / (std + 1e-5)
        z = ((x - state["pre_bias"]) @ state["encoder.weight"].T + state["latent_bias"]).relu()
        if state["activation"] == "TopK":
            values, indices = z.topk(state["activation_state_dict"]["k"], dim=1)
            z = torch.zeros_like(z).scatter(1, indices, values)
        return z, (z @ state["decoder.weight"].T + state["pre_bias"]) * std + mean

    return forward


# Gemma Scope, through SAELens' loaders


def gemma_tensors(seed: int, d_out: int = D, skip: bool = False) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    shapes = {"w_enc": (D, F), "w_dec": (F, d_out), "b_enc": (F,), "b_dec": (d_out,), "threshold": (F,)}
    shapes |= {"affine_skip_connection": (D, d_out)} if skip else {}
    tensors = {n: torch.randn(s, generator=draws) * 0.7 for n, s in shapes.items()}
    return tensors | {"threshold": tensors["threshold"].abs()}


@case("gemma_scope/gemma-scope-2b-pt-res/layer_5/width_16k/average_l0_4")
def _(folder: Path) -> object:
    tensors = gemma_tensors(60)
    return np.savez(folder / "params.npz", **{n.replace("w_", "W_"): t.numpy() for n, t in tensors.items()})


@case("gemma_scope/gemma-scope-2b-pt-transcoders/layer_5/width_16k/average_l0_4")
def _(folder: Path) -> object:
    tensors = gemma_tensors(61, D_OUT)
    return np.savez(folder / "params.npz", **{n.replace("w_", "W_"): t.numpy() for n, t in tensors.items()})


def gemma_2(seed: int, part: str, point: str, **options: Any) -> Callable[[Path], object]:
    def build(folder: Path) -> object:
        save_file(gemma_tensors(seed, **options), folder / "params.safetensors")
        config = {"architecture": "jump_relu", "model_name": "google/gemma-3-1b-pt", "l0": 4, "width": F, "type": part}
        config |= {"hf_hook_point_in": f"model.layers.5.{point}", "affine_connection": options.get("skip", False)}
        return (folder / "config.json").write_text(json.dumps(config))

    return build


CASES |= {
    "gemma_scope_2/resid_post/layer_5_width_16k_l0_small": gemma_2(62, "sae", "output"),
    "gemma_scope_2/transcoder_all/layer_5_width_16k_l0_small": gemma_2(
        63, "transcoder", "pre_feedforward_layernorm.output", d_out=D_OUT
    ),
    "gemma_scope_2/transcoder_all/layer_5_width_16k_l0_small_affine": gemma_2(
        64, "transcoder", "pre_feedforward_layernorm.output", d_out=D_OUT, skip=True
    ),
}


def load_gemma(folder: Path) -> Callable[[Tensor], Outputs]:
    from sae_lens.loading import pretrained_sae_loaders as loaders
    from sae_lens.registry import get_sae_class

    def local(repo: str, filename: str, subfolder: str | None = None, **_: Any) -> str:
        return str(folder / Path(filename).name)

    def shapes(repo: str, filename: str) -> dict[str, list[int]]:
        return {n: list(t.shape) for n, t in load_file(folder / "params.safetensors").items()}

    spoken = str(folder)  # SAELens reads layer and kind from the path
    if (folder / "params.safetensors").exists():
        load, repo = loaders.gemma_3_sae_huggingface_loader, "google/gemma-scope-2-1b-pt"
    elif "transcoders" in spoken:
        load, repo = loaders.gemma_2_transcoder_huggingface_loader, "google/gemma-scope-2b-pt-transcoders"
    else:
        load, repo = loaders.gemma_2_sae_huggingface_loader, "google/gemma-scope-2b-pt-res"
    with mock.patch.multiple(
        loaders, hf_hub_download=functools.partial(_named, local), get_safetensors_tensor_shapes=shapes
    ):
        config, state, _ = load(repo, spoken, device="cpu", force_download=False, cfg_overrides=None)
    config = loaders.handle_config_defaulting(config)
    (d_in, d_sae), d_out = state["W_enc"].shape, state["W_dec"].shape[1]
    config |= {"d_in": d_in, "d_sae": d_sae} | ({"d_out": d_out} if "transcoder" in config["architecture"] else {})
    sae_class, config_class = get_sae_class(config["architecture"])
    sae = sae_class(config_class.from_dict(config))
    sae.load_state_dict(state)
    return lambda x: (sae.encode(x), sae(x))


def _named(local: Callable[..., str], repo_id: str, filename: str, **how: Any) -> str:
    return local(repo_id, filename, **how)


LOADERS = {
    "saelens": load_saelens,
    "sparsify": load_sparsify,
    "dictionary_learning": load_dictionary_learning,
    "openai": load_openai,
    "gemma_scope": load_gemma,
    "gemma_scope_2": load_gemma,
}


def make() -> None:
    """Build and save every case, and what the peer says about its rows."""
    shutil.rmtree(PEERS, ignore_errors=True)
    for path, build in CASES.items():
        folder = PEERS / path
        folder.mkdir(parents=True)
        build(folder)
        x = torch.randn(N, D, generator=torch.Generator().manual_seed(len(path))) * 1.5 + 0.5
        with torch.no_grad():
            latents, reconstruction = LOADERS[path.split("/")[0]](folder)(x)
        outputs = {"x": x, "latents": latents, "reconstruction": reconstruction}
        save_file({n: t.float().contiguous() for n, t in outputs.items()}, folder / "outputs.safetensors")
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    (PEERS / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


def check() -> list[tuple[str, float, float, float]]:
    """Largest difference per case: peer today and stored, ours and stored, peer on what we wrote and stored."""
    from theodolite.dictionaries import convert

    rows = []
    for path in CASES:
        library, folder = path.split("/")[0], PEERS / path
        stored = load_file(folder / "outputs.safetensors")
        x, wanted = stored["x"], (stored["latents"], stored["reconstruction"])
        ours = convert.read(folder)
        with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
            written = Path(scratch) / path
            convert.write(ours, written, to=library)
            peer, again = LOADERS[library](folder)(x), LOADERS[library](written)(x)
        read = (ours.encode(x), ours.reconstruct(x))
        rows.append((path, far(peer, wanted), far(read, wanted), far(again, wanted)))
    return rows


def far(got: Outputs, wanted: Outputs) -> float:
    """The largest difference, as a share of the largest number where that is above 1."""
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1)) for a, b in zip(got, wanted, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", action="store_true", help="build the stored cases again")
    parser.add_argument("--check", action="store_true", help="compare (the default)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if arguments.make:
        make()
    rows = check()
    print(f"{'largest difference':72}{'peer':>10}{'read':>10}{'written':>10}")
    for path, *numbers in rows:
        print(f"{path:72}" + "".join(f"{number:10.1e}" for number in numbers))
    if worst := [path for path, *numbers in rows if not max(numbers) < 1e-5]:
        raise SystemExit(f"not equal to 1e-5: {', '.join(worst)}")


if __name__ == "__main__":
    main()
