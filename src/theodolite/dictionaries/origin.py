"""Origin of a dictionary against its use here: weights, hook, centring, first token, context.

A difference that changes rows is undone or refused; one that may change them is a remark, which a Run counts.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from theodolite.core.errors import UserError
from theodolite.core.language_model import LanguageModel
from theodolite.dictionaries.dictionary import Dictionary

OTHER_NAMES = {"gpt2-small": "gpt2"}  # what TransformerLens, and so SAELens, calls a model
CENTRED = "center_writing_weights"
# options of `from_pretrained` that take other weights than those of the model's name
CHECKPOINTS = ("revision", "checkpoint_index", "checkpoint_value", "subfolder")


def site_of(dictionary: Dictionary, model: LanguageModel) -> str | None:
    """The site of this model at which a dictionary was trained, by the hook its file names; None if it names none.

    Which module writes to the stream depends on the family (Gemma 2 normalises what its MLP gives), so a hook is read
    with the model at hand.
    """
    hook = dictionary.info.get("hook")
    if not hook:
        return dictionary.info.get("site")
    try:
        return str(model.network.family.named(str(hook)))
    except UserError:
        return None


def for_model(dictionary: Dictionary, model: LanguageModel) -> Dictionary:
    """The dictionary as it reads this model's rows.

    TransformerLens centres the weights of models with LayerNorm, whose states then lose their mean over d_model, and
    leaves those with RMSNorm as they are: there a dictionary that asks for it was trained on plain rows.
    """
    if dictionary.normalise == "centre" and not model.network.family.removes_mean:
        return replace(dictionary, normalise="none")
    return dictionary


def other_model(dictionary: Dictionary, model: LanguageModel) -> str:
    """Name of the model it was trained on, if that is not known to be this one; "" where it is, or nothing is known."""
    info = dictionary.info
    known, now = info.get("model_hash"), model.hash
    if known == now:
        return ""
    if info.get("model") and _bare(str(info["model"])) != _bare(model.name):
        return f"{info['model']}, not on {_shown(model.name)}"
    if known and info.get("model"):
        return f"other weights of {info['model']} (hash {str(known)[:12]}, here {now[:12]})"
    kwargs = pretrained_options(info)
    if options := [f"{key}={kwargs[key]}" for key in CHECKPOINTS if kwargs.get(key) is not None]:
        return f"{info.get('model')} with {', '.join(options)}, which nothing here was compared with"
    return ""


def remarks(dictionary: Dictionary, model: LanguageModel, max_tokens: int) -> list[str]:
    """Differences between the rows that it was trained on and those that it gets, as far as its file names them."""
    found = []
    if other := other_model(dictionary, model):
        found.append(f"was trained on {other}; it fits these rows by FVU and L0, so it is used")
    metadata = (dictionary.info.get("config") or {}).get("metadata") or dictionary.info.get("config") or {}
    if pretrained_options(dictionary.info).get(CENTRED) is True:
        if model.network.family.removes_mean:
            found.append(f"was made for weights under {CENTRED}: the mean over d_model is removed from its rows")
        else:
            found.append(f"asks for {CENTRED}, which TransformerLens skips for RMSNorm: its rows are not centred")
    first = _puts_bos(model.tokenizer)
    if metadata.get("prepend_bos") is True and first is False:
        found.append("was trained on texts after a BOS token, which this tokenizer does not put")
    if metadata.get("prepend_bos") is False and first is True:
        found.append("was trained on texts without a BOS token, which this tokenizer puts")
    context = metadata.get("context_size")
    if isinstance(context, int) and 0 < context < max_tokens:
        found.append(f"was trained on contexts of {context} tokens, texts are read up to {max_tokens}")
    if any(end is not None for end in metadata.get("seqpos_slice") or ()):
        found.append(f"was trained on some positions of a text only (seqpos_slice {metadata['seqpos_slice']})")
    return found


def pretrained_options(info: dict[str, Any]) -> dict[str, Any]:
    """Options of `from_pretrained` when SAELens loaded the model; a list of releases wins over the metadata."""
    config = info.get("config") or {}
    inner = config.get("metadata") or {}
    return (inner.get("model_from_pretrained_kwargs") or {}) | (config.get("model_from_pretrained_kwargs") or {})


def _puts_bos(tokenizer: Any) -> bool | None:
    """Return whether the tokenizer begins a text with a BOS token; None where it has none."""
    if tokenizer.bos_token_id is None:
        return None
    return bool(tokenizer("a", verbose=False)["input_ids"][:1] == [tokenizer.bos_token_id])


def _shown(name: str) -> str:
    """A model's name for a record that may be shared: of a folder of the user's the last part."""
    return Path(name).name if Path(name).is_absolute() else name


def _bare(name: str) -> str:
    bare = name.rstrip("/").rsplit("/", 1)[-1].lower()
    return OTHER_NAMES.get(bare, bare)
