"""A control as a GGUF control vector, which llama.cpp and repeng read."""

from pathlib import Path

import numpy as np

from theodolite.control.exports.added import added_vectors
from theodolite.core.atomic import publish
from theodolite.core.control_file import ControlFile
from theodolite.core.errors import UserError

FORMAT = "a GGUF control vector"
ARCHITECTURE = "controlvector"


def write_gguf(control: ControlFile, strength: float, path: str | Path) -> Path:
    """Write the vectors of a control times a strength, so that llama.cpp's `--control-vector FILE` is that strength.

    The format knows one thing: a vector added behind block N >= 1 at every token. Any other control is an error that
    names what does not fit. Models whose graph in llama.cpp lacks control vectors ignore them in silence.
    """
    path = Path(path)
    if path.suffix != ".gguf":
        raise UserError(f"{str(path)!r} is no name of a control vector: end it in .gguf")
    vectors = added_vectors(control, strength, FORMAT)
    layers = {site.to_control_vector(): np.ascontiguousarray(vector, np.float32) for site, vector in vectors.items()}
    publish(path, lambda temporary: _write(temporary, control.made_on.architecture, layers))
    return path


def _write(path: Path, model_hint: str, layers: dict[int, np.ndarray]) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, ARCHITECTURE)
    writer.add_string(f"{ARCHITECTURE}.model_hint", model_hint)
    writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(layers))
    for layer, vector in sorted(layers.items()):
        writer.add_tensor(f"direction.{layer}", vector)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
