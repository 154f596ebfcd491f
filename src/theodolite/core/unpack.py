"""Compressed data, whole or refused, and never more of it than the user's limit: a kilobyte can unpack to a terabyte.

`THEODOLITE_MAX_UNPACKED_GB` (default 4) is the most that one file may unpack to.
"""

import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from theodolite.core.errors import UserError, first_line

if TYPE_CHECKING:
    import pandas as pd

LIMIT, DEFAULT = "THEODOLITE_MAX_UNPACKED_GB", 4.0
PIECE = 1 << 20  # bytes of compressed data handed on, or of data asked for, at a time
WIDTHS = {"BOOLEAN": 0.125, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}  # bytes of one value
ROWS = 1 << 16  # of a Parquet file that are read between two looks at what they take


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
    """The table in a Parquet file's bytes.

    A file stores a text once, however many rows hold it. Texts are therefore read as dictionaries, and what they take
    in every row is added up before any row is made.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.ParquetFile(io.BytesIO(content))
        require(_announced(columns), origin)
        stored = columns.schema_arrow
        schema = pa.schema([field.with_type(_plain(field.type)) for field in stored], stored.metadata)
        leaves = [columns.schema.column(i) for i in range(len(columns.schema))]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        file = pq.ParquetFile(io.BytesIO(content), read_dictionary=texts)
        batches, size = [], 0
        for batch in file.iter_batches(batch_size=ROWS):
            size += sum(map(_expanded, batch.columns))
            require(size, origin)
            arrays = [array.cast(field.type) for array, field in zip(batch.columns, schema, strict=True)]
            batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        return pa.Table.from_batches(batches, schema=schema).to_pandas()
    except pa.ArrowMemoryError:
        raise UserError(
            f"{origin} does not fit into the memory that is free: close other programs, or split the file"
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{origin} is not a Parquet file: {first_line(error)}") from None


def _announced(file: Any) -> int:
    """Bytes that a Parquet file says its columns take: at least those of their pages, and of all values of one width.

    A run of one number, or many pages of one dictionary entry of fixed length, takes next to nothing on the disk.
    """
    meta, size = file.metadata, 0
    for group in (meta.row_group(i) for i in range(meta.num_row_groups)):
        for i in range(group.num_columns):
            column, length = group.column(i), file.schema.column(i).length
            width = length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else WIDTHS.get(column.physical_type, 0)
            size += max(column.total_uncompressed_size, int(column.num_values * width))
    return size


def _plain(kind: Any) -> Any:
    """The type that a column is brought back to from dictionaries; pyarrow has no cast from these to views."""
    import pyarrow as pa

    return {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(kind, kind)


def _expanded(array: Any) -> int:
    """Bytes of an array with every dictionary in it written out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_dictionary(kind):
        if len(array.dictionary) == 0:
            return int(array.nbytes)
        texts = pc.binary_length(array.dictionary).cast(pa.int64())
        return int(pc.sum(texts.take(array.indices)).as_py() or 0) + int(array.indices.nbytes)
    if pa.types.is_map(kind):
        return _expanded(array.keys) + _expanded(array.items)
    if pa.types.is_struct(kind):
        return sum(map(_expanded, array.flatten()))
    if pa.types.is_nested(kind):
        return _expanded(array.flatten()) + 4 * len(array)
    return int(array.nbytes)
