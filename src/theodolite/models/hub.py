"""A model of the Hugging Face hub as a folder, and every way that can fail as a sentence."""

from collections.abc import Iterable
from pathlib import Path

from theodolite.core.errors import UserError, did_you_mean, first_line

_WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
_UNWANTED = ["*/*", "consolidated*"]
_FIRST = ["config.json", "adapter_config.json"]


def description(name: str, revision: str | None, token: str | None, known: Iterable[str]) -> Path:
    """The local folder of a hub id with its configuration alone, to check it before its weights are fetched."""
    return _fetched(name, revision, token, known, _FIRST)


def snapshot(name: str, revision: str | None, token: str | None, known: Iterable[str]) -> Path:
    """The local folder of a hub id at a revision; `known` are the names that would have been found without the hub.

    Only weights as safetensors, configuration and tokenizer files are asked for: nothing that could hold code.
    """
    return _fetched(name, revision, token, known, _WANTED)


def _fetched(name: str, revision: str | None, token: str | None, known: Iterable[str], wanted: list[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    hint = did_you_mean(name, known) or "give an id, a folder, a .gguf file, or one of: " + ", ".join(known)
    at = f"{name!r}" + (f" at revision {revision!r}" if revision else "")
    try:
        return Path(
            snapshot_download(name, revision=revision, token=token, allow_patterns=wanted, ignore_patterns=_UNWANTED)
        )
    except errors.GatedRepoError:
        raise UserError(
            f"model {at} is gated: accept its terms on its page, then pass token= or set HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"model {name!r} has no revision {revision!r}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"unknown or private model {at}: {hint} (private ones need token= or HF_TOKEN)") from None
    except errors.HFValidationError:
        raise UserError(f"{name!r} is no model, folder or file: {hint}") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError) as error:
        raise UserError(f"model {at} is not in the cache and the network cannot be reached: {hint}") from error
    except errors.HfHubHTTPError as error:
        raise UserError(f"model {at} could not be fetched: {first_line(error)}") from error
