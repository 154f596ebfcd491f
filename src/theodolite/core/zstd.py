"""Zstandard data, whole or refused: of half a file the library's own reader gives half the text, and no error."""

import zstandard

from theodolite.core.errors import UserError


def decompressed(content: bytes, origin: str) -> bytes:
    """Every frame of `content`, one after the other; `origin` names the file in errors.

    >>> decompressed(zstandard.compress(b"one ") + zstandard.compress(b"two"), "f.zst")
    b'one two'
    """
    parts: list[bytes] = []
    rest = content
    while rest or not parts:
        frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            parts.append(frame.decompress(rest))
        except zstandard.ZstdError as error:
            raise UserError(f"{origin} is not zstandard data: {error}") from None
        if not frame.eof:
            raise UserError(f"{origin} is cut: its zstandard data end inside a frame; fetch or make it again")
        rest = frame.unused_data
    return b"".join(parts)
