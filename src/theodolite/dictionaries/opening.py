"""Opening of the dictionary named by `--sae ...`: found, matched with the model, and tried on real rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from torch import Tensor

from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError, first_line
from theodolite.core.language_model import LanguageModel
from theodolite.core.site import Site
from theodolite.dictionaries import formats, native, origin
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.formats import releases
from theodolite.dictionaries.training.learner import frozen_part
from theodolite.dictionaries.training.plan import CONTROL_SUFFIX, existing

L0_FACTOR = 2.0
MOST_ELSEWHERE = 0.5  # FVU allowed a dictionary of another model's name: one of a stranger's rows is near 1 or above


@dataclass(frozen=True)
class Found:
    """A native dictionary on disk, as its configuration describes it; k is 0 where no number of latents is set."""

    path: Path
    site: str
    seed: int
    control: bool
    corpus: str
    width: int
    k: int
    label: str = "topk"

    @property
    def key(self) -> tuple[str, str, str, int, int, int]:
        """Fields that a dictionary shares with its control, and with the same dictionary trained again."""
        return self.site, self.corpus, self.label, self.width, self.k, self.seed


def find(model: LanguageModel, site: Any = None, folder: str | Path | None = None) -> list[Found]:
    """Dictionaries trained on this model's weights: those that ship with the package, then those in `folder`.

    `folder` is where `theodolite train` writes unless told otherwise.
    """
    shipped = Path(str(resources.files("theodolite.dictionaries"))) / "shipped"
    found, weights = [], model.hash  # reads all weights: once
    for root in (shipped, Path(folder) if folder else trained_folder(model)):
        for config in sorted(root.rglob("config.json")):
            stored = native.read_config(config.parent)
            info = stored["info"]
            ours = info.get("model_hash") == weights and "training" in info and "read_site" not in info
            if ours and info.get("site") and site in (None, info["site"]):
                k = stored["rule"].get("k") or info.get("k") or 0
                size = {"width": stored["width"], "k": int(k)}
                about = {"site": info["site"], "seed": info["seed"], "corpus": info["training"]["corpus"]}
                frozen = frozen_part(info)
                part = "" if frozen in ("", "encoder") else f"-frozen-{frozen}"  # a control, which stands by itself
                label = info.get("label", "topk") + part
                found.append(Found(config.parent, control=frozen == "encoder", label=label, **about, **size))
    return found


def paired(found: Sequence[Found]) -> list[tuple[Found, Found | None]]:
    """Each dictionary with its control, if it has one; of equal ones the first (so a shipped one) counts."""
    controls: dict[Any, Found] = {}
    dictionaries: dict[Any, Found] = {}
    for one in found:
        (controls if one.control else dictionaries).setdefault(one.key, one)
    return [(one, controls.get(key)) for key, one in dictionaries.items()]


def trained_folder(model: LanguageModel) -> Path:
    """Folder of the dictionaries trained for this model."""
    return cache_root() / "dictionaries" / model.hash[:16]


def open_dictionary(
    spec: str, model: LanguageModel, site: Any, *, seed: int = 0, control: bool = False, corpus: str = "text-chat"
) -> Dictionary:
    """Open a dictionary by `shipped`, a folder, `hub:OWNER/REPO/PATH` or `saelens:RELEASE/ID` for a site of a model.

    `shipped` also finds what `theodolite train` made. `seed`, `control` and `corpus` choose among those; every
    other spec names one dictionary.
    """
    site = str(Site.parse(site))
    if spec == "shipped":
        return _shipped(model, site, seed, control, corpus)
    return _matching(read_named(spec), model, site, spec)


def read_named(spec: str) -> Dictionary:
    """Read the dictionary of a folder, `hub:OWNER/REPO/PATH` or `saelens:RELEASE/ID`, whatever model it is for."""
    if spec.startswith("saelens:"):
        release = releases.find(spec.removeprefix("saelens:"))
        return release.read(from_hub(release.path))
    folder = from_hub(spec.removeprefix("hub:")) if spec.startswith("hub:") else Path(spec)
    if not folder.is_dir():
        raise UserError(
            f"no dictionary folder {spec!r}: write 'shipped', a folder, hub:OWNER/REPO/PATH or saelens:RELEASE/ID"
        )
    return formats.read(folder)


def control_folder(spec: str) -> Path:
    """Folder in which `theodolite train` puts a dictionary's control: beside it, or where version 0.1 put it.

    >>> control_folder("/a/blocks.9.resid_post/").name
    'blocks.9.resid_post.control'
    """
    folder = Path(spec).absolute()
    return existing(folder.with_name(folder.name + CONTROL_SUFFIX))


def control_beside(spec: str, dictionary: Dictionary) -> Dictionary | None:
    """The control beside a dictionary that was named by its folder; None if none or another's is there."""
    if not (control_folder(spec) / "config.json").is_file():
        return None
    control = native.load(control_folder(spec))
    same = all(
        control.info.get(key) == dictionary.info.get(key) for key in ("model_hash", "site", "variant", "seed", "k")
    )
    return control if same and control.width == dictionary.width and frozen_part(control.info) == "encoder" else None


def self_check(
    dictionary: Dictionary, rows: Mapping[str, Tensor], site: Any, *, name: str = "the dictionary", trained_on: str = ""
) -> dict[str, float]:
    """FVU and L0 on real rows of the site; a dictionary that does worse than the mean, or fires far from its card, is
    refused.

    trained_on: the model it was trained on, where that is not known to be the one that gave the rows; it must then
    leave less unexplained. rows: rows (n, d) by site; the other sites serve to name the likely cause: neighbouring
    site, input scale, transposed matrix. A transcoder is given by the site it writes, and predicts those rows from the
    ones it reads.
    """
    site = str(site)
    target_nd = rows[site]
    x_nd = rows[dictionary.info.get("read_site") or site]
    fvu, l0 = _measure(dictionary, x_nd, target_nd)
    if dictionary.info.get("untrained"):  # a control that is meant not to fit
        return {"fvu": fvu, "l0": l0}
    expected, most = _card_l0(dictionary), MOST_ELSEWHERE if trained_on else 1.0
    fits = fvu < most and (expected is None or 1 / L0_FACTOR <= l0 / expected <= L0_FACTOR)
    if fits and not _uncentred(dictionary, x_nd, fvu):
        return {"fvu": fvu, "l0": l0}
    if fits:
        raise UserError(
            f"{name} fits {site} with FVU {fvu:.2f}, and rows without their mean over d_model far better: it was made "
            f'for centred weights. Write "model_from_pretrained_kwargs": {{"{origin.CENTRED}": true}} into its '
            "configuration (SAELens' cfg.json)"
        )
    if trained_on and fvu >= most:
        raise UserError(
            f"{name} was trained on {trained_on}, and does not fit {site} of this one: FVU {fvu:.2f} (must be under "
            f"{most:g}): choose --model or another --sae"
        )
    on_card = "" if expected is None else f" (its card says {expected:.0f}, a factor {L0_FACTOR:g} is allowed)"
    raise UserError(
        f"{name} does not fit {site}: FVU {fvu:.2f} (must be under 1), L0 {l0:.0f}{on_card}. "
        + _likely_cause(dictionary, rows, site, fvu)
    )


def _uncentred(dictionary: Dictionary, x_nd: Tensor, fvu: float) -> bool:
    """Return whether rows without their mean over d_model fit far better: a file need not name centred weights."""
    if dictionary.normalise != "none" or dictionary.is_transcoder:
        return False
    return replace(dictionary, normalise="centre").fvu(x_nd) < min(fvu / 2, fvu - 0.05)


def _measure(dictionary: Dictionary, x_nd: Tensor, target_nd: Tensor) -> tuple[float, float]:
    return dictionary.fvu(x_nd, target_nd), float((dictionary.encode_sparse(x_nd)[1] != 0).sum(1).double().mean())


def _likely_cause(dictionary: Dictionary, rows: Mapping[str, Tensor], site: str, fvu: float) -> str:
    """The one change that makes it fit best, in words; nothing fits: say so."""
    if dictionary.is_transcoder:
        return "It is a transcoder: check both of its sites."
    x_nd = rows[site]
    tried = {f"It fits {other}: probably the wrong site": (dictionary, x) for other, x in rows.items() if other != site}
    energy = x_nd.double().square().sum(1)
    factors = {
        "sqrt(d) over the mean norm": dictionary.d_in**0.5 / energy.sqrt().mean(),
        "1 over the root mean square norm": energy.mean().rsqrt(),
        "sqrt(d)": dictionary.d_in**0.5,
        "1 / sqrt(d)": dictionary.d_in**-0.5,
    }
    for words, factor in factors.items():
        tried[f"It fits inputs times {words}: its normalisation was not folded in"] = (dictionary, x_nd * float(factor))
    for kind in ("layer_norm", "constant_norm"):
        tried[f"It fits inputs after {kind}: set its normalisation"] = (replace(dictionary, normalise=kind), x_nd)
    if dictionary.width == dictionary.d_in:
        turned = replace(dictionary, W_enc=dictionary.W_enc.T.contiguous())
        both = replace(turned, W_dec=dictionary.W_dec.T.contiguous())
        tried |= {
            "It fits with W_enc transposed": (turned, x_nd),
            "It fits with both matrices transposed": (both, x_nd),
        }
    tried["It fits with b_dec " + ("left in" if dictionary.subtract_b_dec else "subtracted from") + " the input"] = (
        replace(dictionary, subtract_b_dec=not dictionary.subtract_b_dec),
        x_nd,
    )
    scores = {words: d.fvu(x) for words, (d, x) in tried.items() if x.shape[1] == d.d_in}
    best = min(scores, key=lambda words: scores[words])
    if scores[best] < min(1.0, 0.8 * fvu):
        return f"{best} (FVU {scores[best]:.2f})."
    return "No neighbouring site, input scale or transposition makes it fit: probably another model."


def _card_l0(dictionary: Dictionary) -> float | None:
    """Latents active per token as the file says: alone (`l0`), or first among the domains of our own card."""
    domains = dictionary.info.get("card", {}).get("domains", {})
    l0 = dictionary.info.get("l0", next((q["l0"] for q in domains.values()), None))
    return None if l0 is None else float(l0)


def _shipped(model: LanguageModel, site: str, seed: int, control: bool, corpus: str) -> Dictionary:
    here = find(model, site)
    chosen = [f for f in here if (f.seed, f.control, f.corpus) == (seed, control, corpus)]
    if not chosen:
        sites = sorted({f.site for f in find(model)})
        raise UserError(
            f"no dictionary (seed {seed}, corpus {corpus}{', control' if control else ''}) for {site} of {model.name}: "
            f"train one with `theodolite train`, or take a site that has one ({', '.join(sites) or 'none'})"
        )
    return native.load(chosen[0].path)


def _matching(dictionary: Dictionary, model: LanguageModel, site: str, spec: str) -> Dictionary:
    """The dictionary, if site and width are not known to be others; of another model the self-check decides."""
    if dictionary.d_in != model.d_model:
        raise UserError(
            f"dictionary {spec!r} reads {dictionary.d_in} dimensions, {model.name} has {model.d_model}: "
            "it is for another model"
        )
    if dictionary.is_transcoder:
        raise UserError(f"dictionary {spec!r} is a transcoder, which writes another site than it reads")
    trained_at, hook = origin.site_of(dictionary, model), dictionary.info.get("hook")
    if hook and not trained_at:
        raise UserError(f"dictionary {spec!r} was trained at {hook}, which is no site here")
    if trained_at and trained_at != site:
        if (Site.parse(trained_at).block or 0) >= model.n_blocks:
            raise UserError(
                f"dictionary {spec!r} was trained at {trained_at}, and this model has {model.n_blocks} blocks: it was "
                "made for a model with more blocks"
            )
        raise UserError(f"dictionary {spec!r} was trained at {trained_at}, not at {site}: choose --sites {trained_at}")
    return origin.for_model(dictionary, model)


def from_hub(path: str) -> Path:
    """The folder of a hub repository, fetched into the hub's own cache."""
    owner, _, rest = path.partition("/")
    repo, _, inside = rest.partition("/")
    if not owner or not repo:
        raise UserError(f"hub:{path} is not hub:OWNER/REPO/PATH")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        above, _, last = inside.rpartition("/")
        beside = f"{above}/config.json".lstrip("/")  # sparsify's names the model, dictionary_learning's the class
        wanted = [inside if last.endswith(".pt") else f"{inside}/*", beside] if inside else None
        home = snapshot_download(f"{owner}/{repo}", allow_patterns=wanted)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"hub:{path} cannot be fetched: {first_line(error)}; without a network give the path of its folder, copied "
            "from a machine that has one"
        ) from None
    return Path(home) / inside
