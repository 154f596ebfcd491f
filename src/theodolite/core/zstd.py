"""Zstandard data through pyarrow, which reads them for Parquet anyway: whole or refused, frame after frame."""

from collections.abc import Iterator

from theodolite.core.errors import UserError, first_line
from theodolite.core.unpack import joined

SLICE = 1 << 20  # bytes unpacked at a time: the limit of `joined` is looked at after each
LEVEL = 10  # of 22: an eighth smaller than at the usual 3; 5 MB of text take .7 s


def compressed(content: bytes) -> bytes:
    """One frame that holds `content`.

    >>> decompressed(compressed(b"one ") + compressed(b"two"), "f.zst")
    b'one two'
    """
    import pyarrow as pa

    return bytes(pa.Codec("zstd", compression_level=LEVEL).compress(content, asbytes=True))


def decompressed(content: bytes, origin: str) -> bytes:
    """Every frame of `content`, one after the other; `origin` names the file in errors.

    >>> decompressed(compressed(b"text"), "f.zst")
    b'text'
    """
    return joined(_slices(content, origin), origin)


def _slices(content: bytes, origin: str) -> Iterator[bytes]:
    import pyarrow as pa

    if not content:  # to pyarrow, no frame at all is a file without text
        raise _cut(origin)
    with pa.CompressedInputStream(pa.BufferReader(content), "zstd") as stream:
        while True:
            try:
                piece = stream.read(SLICE)
            except OSError as error:
                if "Truncated" in str(error):
                    raise _cut(origin) from None
                raise UserError(f"{origin} is not zstandard data: {first_line(error)}") from None
            if not piece:
                return
            yield piece


def _cut(origin: str) -> UserError:
    return UserError(f"{origin} is cut: its zstandard data end inside a frame; fetch or make it again")
