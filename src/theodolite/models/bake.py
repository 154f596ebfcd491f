"""Writes a change that acts on every token into the weights of a saved model."""

import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from theodolite.core.atomic import contents, file_sha256, publish
from theodolite.core.basis import Identity, Subspace
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.neurons import Neurons
from theodolite.core.refusal import concerns_refusal
from theodolite.core.rules import Add, Clamp, Mean, Scale, Zero
from theodolite.core.several import several
from theodolite.core.site import Site
from theodolite.core.tensors import detached
from theodolite.models.families import Network
from theodolite.models.hashing import folder_hash
from theodolite.models.model import Model
from theodolite.models.quiet import quiet
from theodolite.models.run import Effects, run

RECORD = "theodolite.json"
# Options of a configuration that give a projection a bias, in the architectures that have them
_BIAS_OPTION = {"attn_out": "attention_bias", "mlp_out": "mlp_bias"}


@torch.no_grad()
def bake(model: Model, interventions: Any, folder: str | Path, *, concept: str) -> Path:
    """Save the model with interventions written into its weights, so that it acts by itself as it acted with them.

    Written are changes of every token that are an affine map of the state where a weight makes it: removal of a
    direction at `embed`, `attn_out` or `mlp_out` (at all of them these are orthogonalised weights), or a constant
    vector there or in the stream. Anything else is refused with its reason. The folder also gets `theodolite.json`:
    the interventions, the hash of the weights before, the sha256 of each file, and how far logits differed in a check.

    concept: what the vectors stand for. A change that concerns refusal or harmfulness is refused: this program writes
    no model that refuses less.
    """
    changes, target = several(interventions), Path(folder)
    _check_purpose(concept)
    if contents(target):
        raise UserError(f"{target} is not empty: give a new folder for the model")
    if any(p.is_meta for p in model.network.module.parameters()):
        raise UserError("a part of the model is offloaded: load it without device_map to write its weights")
    baked = copy.deepcopy(model.network.module)
    for change in changes:
        _write(Network.of(baked), change)
    difference = _difference(model, baked, changes)
    with TemporaryDirectory() as scratch:
        with quiet():
            baked.save_pretrained(scratch)
        model.tokenizer.save_pretrained(scratch)
        files = {path.name: path for path in sorted(Path(scratch).iterdir())}
        for name, path in files.items():
            publish(target / name, lambda temporary, path=path: shutil.copyfile(path, temporary))  # type: ignore[misc]
        record = {
            "concept": concept,
            "interventions": [change.to_json() for change in changes],
            "from": {"name": model.name, "weights": model.hash},
            "weights": folder_hash(Path(scratch)),
            "files": {name: file_sha256(path) for name, path in files.items()},
            "largest_difference_of_a_logit": difference,
        }
    publish(target / RECORD, (json.dumps(record, indent=1) + "\n").encode())  # last: a folder without it is unfinished
    return target


def _check_purpose(concept: str) -> None:
    if not concept.strip():
        raise UserError("concept is empty: say what the vectors stand for, such as concept='sentiment'")
    if concerns_refusal(concept):
        raise UserError(
            f"concept {concept!r}: a change of refusal or harmfulness is not written into weights, since the model "
            "would refuse less; measure it as an intervention of one call instead"
        )


def _write(network: Network, change: Any) -> None:
    """Write one intervention into the weights of a network."""
    site = _written_at(network, change)
    if site.part == "embed":
        return _write_embedding(network, change)
    module, side = network.locate(Site(site.block, "z" if site.part == "attn_out" else "mlp_act"))
    assert side == "input", "the last projection of attention or MLP, whose output this site is"
    a_dd, c_d = _affine(change, module.weight.shape[0 if isinstance(module, nn.Linear) else 1])
    if site.part != change.site.part and not torch.equal(a_dd, torch.eye(len(a_dd), dtype=a_dd.dtype)):
        raise UserError(
            f"{change} removes from the whole stream at one place, which no weight makes alone: give it at every "
            "write instead (embed, attn_out and mlp_out of each block)"
        )
    if c_d.any() and module.bias is None:
        _give_bias(network, change, site.part, module)
    w_oi = (
        module.weight.double() if isinstance(module, nn.Linear) else module.weight.double().T
    )  # GPT-2's lies otherwise
    new_oi = a_dd @ w_oi
    module.weight.copy_(new_oi if isinstance(module, nn.Linear) else new_oi.T)
    if module.bias is not None:
        module.bias.copy_(a_dd @ module.bias.double() + c_d)
    return None


def _written_at(network: Network, change: Any) -> Site:
    """Return the site whose weights can make the change; its own, or for a stream the last that is added to it."""
    if not isinstance(change, Intervention):
        raise UserError(f"{change} is no intervention on states: leave it in the call")
    site, family = change.site, network.family
    family.locate(site.check(network.n_blocks))
    if site.part == "embed" or (site.block == 0 and site.part == "resid_pre"):
        return Site(None, "embed")
    if site.part in ("resid_post", "resid_pre"):
        assert site.block is not None
        site = Site(site.block - (site.part == "resid_pre"), "mlp_out")
    elif site.part == "resid_mid":
        site = Site(site.block, "attn_out")
    if site.part not in ("attn_out", "mlp_out"):
        raise UserError(f"{change}: no weight makes the state at {change.site.part!r}; give embed, attn_out or mlp_out")
    last = family.inner["z" if site.part == "attn_out" else "mlp_act"][0]
    if not last.startswith(f"{family.parts[site.part][0]}."):
        raise UserError(f"{change}: a norm lies behind {last} in this model, so that no weight makes the state there")
    return site


def _write_embedding(network: Network, change: Intervention) -> None:
    module, whole = network.locate(Site(None, "embed"))[0], network.module
    positions = getattr(whole.base_model, "wpe", None) if change.site.part == "resid_pre" else None
    a_dd, c_d = _affine(change, module.weight.shape[1])
    scale = float(getattr(module, "embed_scale", 1.0))  # Gemma 3
    if change.site.part == "resid_pre" and whole.config.model_type in ("gemma", "gemma2") and c_d.any():
        raise UserError(f"{change}: this model scales its embedding before block 0; give the vector at 'embed'")
    head = whole.get_output_embeddings()
    if head.weight is module.weight:  # what predicts tokens stays as it was
        head.weight = nn.Parameter(module.weight.detach().clone())
        whole.config.tie_word_embeddings = False
    module.weight.copy_(module.weight.double() @ a_dd.T + c_d / scale)
    if positions is not None:
        positions.weight.copy_(positions.weight.double() @ a_dd.T)


def _affine(change: Intervention, width: int) -> tuple[Tensor, Tensor]:
    """Return A (d, d) and c (d) of h' = A h + c in float64, or an error for a change that is none of every token."""
    rule, basis = change.rule, change.basis
    for wrong, why in (
        (str(change.positions) != "all", f"it acts on {change.positions} and not on all tokens"),
        (change.when is not None, "it has a condition"),
        (change.keep_norm, "it keeps the norm of each state"),
        (change.read_site is not None, "it reads another site"),
        (type(rule) not in (Add, Clamp, Scale, Zero, Mean), f"the rule {type(rule).__name__} is no affine map"),
        (not isinstance(basis, Identity | Subspace | Neurons), f"{basis} is not linear"),
    ):
        if wrong:
            raise UserError(f"{change} cannot be written into weights: {why}")
    numbers = next((vars(rule)[n] for n in ("strength", "value", "factor") if n in vars(rule)), 0.0)
    k = width
    if isinstance(basis, Subspace | Neurons):
        k = len(basis.neurons if isinstance(basis, Neurons) else basis.write_kd)
    if np.shape(detached(numbers)) not in ((), (k,)):
        raise UserError(f"{change} cannot be written into weights: it has a strength for each text or token")
    if basis.d_model not in (None, width):
        raise UserError(f"{change} has vectors of {basis.d_model} numbers, the model's states have {width}")
    probes = torch.cat([torch.zeros(1, width, dtype=torch.float64), torch.eye(width, dtype=torch.float64)])[None]
    everywhere = torch.ones(probes.shape[:2], dtype=torch.bool)
    found = change.apply(probes, probes, everywhere, _NoPass(change))[0]  # type: ignore[arg-type]
    return (found[1:] - found[0]).T, found[0]


class _NoPass:
    """Pass context for rules that are affine maps, which ask for nothing but their basis."""

    def __init__(self, change: Intervention) -> None:
        self.basis = change.basis

    def encode(self, h: Tensor) -> Tensor:
        return self.basis.encode(h)


def _give_bias(network: Network, change: Intervention, part: str, module: nn.Module) -> None:
    """Give all projections of attention or MLP a bias of zeros, where the architecture has an option for it."""
    option, config = _BIAS_OPTION[part], copy.deepcopy(network.module.config)
    setattr(config, option, True)
    with torch.device("meta"):  # the same structure without a number in it
        other = Network.of(type(network.module)(config))
    own, wanted = dict(network.module.named_modules()), dict(other.module.named_modules())
    lacking = [name for name, m in wanted.items() if getattr(m, "bias", None) is not None and own[name].bias is None]
    if module not in [own[name] for name in lacking]:
        raise UserError(
            f"{change} needs a bias at the end of {'attention' if part == 'attn_out' else 'the MLP'}, which this "
            "architecture has not: give the vector at 'embed', or keep the intervention in the call"
        )
    for name in lacking:
        weight = own[name].weight
        own[name].bias = nn.Parameter(weight.new_zeros(wanted[name].bias.shape))
    setattr(network.module.config, option, True)


def _difference(model: Model, baked: nn.Module, changes: Sequence[Any]) -> float:
    """Return by how much logits of the baked model differ from those under the interventions; more than rounding is an
    error of ours."""
    tokens = model.tokens("The weights were changed, and this sentence checks them.", format="raw")
    hooked = run(model.network, tokens, effects=Effects(changes), logits=True).logits
    own = run(Network.of(baked), tokens, logits=True).logits
    assert hooked is not None
    assert own is not None
    found, scale = float((hooked - own).abs().max()), float(hooked.abs().max())
    assert found <= (1e-3 if own.dtype.itemsize >= 4 else 0.1) * max(1.0, scale), f"baked logits differ by {found}"
    return found
