"""A user's own file, as bytes."""

from pathlib import Path

from theodolite.core.errors import UserError, did_you_mean


def read(name: str) -> bytes:
    """The bytes of a local file; a missing one is an error that names its neighbours."""
    path = Path(name).expanduser()
    if path.is_dir():
        raise UserError(f"{name!r} is a folder: give one CSV, JSONL or Parquet file")
    refuse_pipe(path)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        around = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, around, n=3) or "check the path"
        raise UserError(f"no file {name!r}: {hint}") from None
    except OSError as error:
        raise UserError(f"cannot read {name!r}: {error.strerror}") from None


def refuse_pipe(path: Path) -> None:
    """Refuse a pipe or a device: it can be read once only, and its content is hashed before it is parsed."""
    if path.exists() and not path.is_file():
        raise UserError(
            f"{str(path)!r} is a pipe or a device, which can be read only once: save its content, and give that file"
        )
