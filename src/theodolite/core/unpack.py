"""Compressed data, whole or refused, and never more of it than the user's limit: a kilobyte can unpack to a terabyte.

`THEODOLITE_MAX_UNPACKED_GB` (default 4) is the most that one file may unpack to.
"""

import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from theodolite.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

LIMIT, DEFAULT = "THEODOLITE_MAX_UNPACKED_GB", 4.0
PIECE = 1 << 20  # bytes of compressed data handed on, or of data asked for, at a time
ROWS = 1024  # of a Parquet file that are unpacked between two looks at what they take


def most() -> int:
    """The limit in bytes."""
    asked = os.environ.get(LIMIT, "")
    try:
        gigabytes = float(asked) if asked else DEFAULT
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < 1e6:
        raise UserError(f"{LIMIT}={asked!r} must be a number of gigabytes above 0")
    return int(gigabytes * 1e9)


def require(size: int, origin: str) -> None:
    """Refuse data of this size, as it is or as it is announced."""
    if size > (limit := most()):
        raise UserError(
            f"{origin} unpacks to more than {limit / 1e9:g} GB: if it is what you expect, set the environment variable "
            f"{LIMIT} to more (gigabytes), else do not open it"
        )


def joined(pieces: Iterator[bytes], origin: str) -> bytes:
    """Pieces in one, refused as soon as they are too much."""
    found, size = [], 0
    for piece in pieces:
        size += len(piece)
        require(size, origin)
        found.append(piece)
    return b"".join(found)


def gunzipped(content: bytes, origin: str) -> bytes:
    """Every member of gzip data, one after the other; `origin` names the file in errors.

    >>> import gzip
    >>> gunzipped(gzip.compress(b"one ") + gzip.compress(b"two"), "f.gz")
    b'one two'
    """
    return joined(_gunzip(content, origin), origin)


def _gunzip(content: bytes, origin: str) -> Iterator[bytes]:
    rest = content
    while rest.strip(b"\0") or rest is content:  # some writers pad with zeros
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            if not rest:
                raise UserError(f"{origin} is cut: its gzip data end before their end mark; fetch or make it again")
            try:
                piece = member.decompress(rest, PIECE)
            except zlib.error as error:
                raise UserError(f"{origin} is not gzip data: {error}") from None
            rest = member.unconsumed_tail if not member.eof else member.unused_data
            yield piece


def zip_member(archive: zipfile.ZipFile, name: str, origin: str) -> bytes:
    """One file of a zip archive, checked against the size that the archive announces for it."""
    require(archive.getinfo(name).file_size, f"{name} in {origin}")
    return archive.read(name)


def table(content: bytes, origin: str) -> "pd.DataFrame":
    """The table in a Parquet file's bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    batches, size = [], 0
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        for batch in file.iter_batches(batch_size=ROWS):
            size += batch.nbytes
            require(size, origin)
            batches.append(batch)
        return pa.Table.from_batches(batches, schema=file.schema_arrow).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{origin} is not a Parquet file: {str(error).splitlines()[0]}") from None
