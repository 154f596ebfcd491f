"""Zstandard data, whole or refused: of half a file the library's own reader gives half the text, and no error."""

from collections.abc import Iterator

import zstandard

from theodolite.core.errors import UserError
from theodolite.core.unpack import joined

SLICE = 4096  # bytes handed on at a time: a block of 4 bytes can hold 128 kB, so one slice unpacks to 134 MB at most


def decompressed(content: bytes, origin: str) -> bytes:
    """Every frame of `content`, one after the other; `origin` names the file in errors.

    >>> decompressed(zstandard.compress(b"one ") + zstandard.compress(b"two"), "f.zst")
    b'one two'
    """
    return joined(_frames(memoryview(content), origin), origin)


def _frames(content: memoryview, origin: str) -> Iterator[bytes]:
    at = 0
    while at < len(content) or not at:
        frame = zstandard.ZstdDecompressor().decompressobj()
        while not frame.eof:
            piece = content[at : at + SLICE]
            if not piece:
                raise UserError(f"{origin} is cut: its zstandard data end inside a frame; fetch or make it again")
            try:
                yield frame.decompress(piece)
            except zstandard.ZstdError as error:
                raise UserError(f"{origin} is not zstandard data: {error}") from None
            at += len(piece) - len(frame.unused_data)
