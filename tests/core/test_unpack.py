"""A small file cannot fill the memory: every way of unpacking stops at the user's limit, and the error names it."""

import base64
import gzip
import io
import zipfile
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from theodolite.core import unpack
from theodolite.core.errors import UserError
from theodolite.core.zstd import compressed, decompressed
from theodolite.data.sources.tables import parse

MEGABYTE = b"0" * 1_000_000


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(unpack.LIMIT, "0.002")  # two megabytes


def zipped(content: bytes) -> zipfile.ZipFile:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member.csv", content)
    return zipfile.ZipFile(buffer)


def parquet(frame: pd.DataFrame) -> bytes:
    return bytes(frame.to_parquet(index=False))


WAYS = {
    "zst": lambda content: decompressed(compressed(content), "f.zst"),
    "zst of frames": lambda content: decompressed(compressed(content[:10]) + compressed(content), "f.zst"),
    "gz": lambda content: unpack.gunzipped(gzip.compress(content), "f.gz"),
    "zip": lambda content: unpack.zip_member(zipped(content), "member.csv", "f.whl"),
    "parquet": lambda content: unpack.table(parquet(pd.DataFrame({"x": [0] * (len(content) // 8)})), "f.parquet"),
    "parquet of one text": lambda content: unpack.table(
        parquet(pd.DataFrame({"x": ["y" * 1000] * (len(content) // 1000)})), "f.parquet"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_limit_holds_and_can_be_raised(way: str, limit: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(WAYS[way](MEGABYTE))
    with pytest.raises(UserError, match=r"f\.\w+ unpacks to more than 0\.002 GB: .*THEODOLITE_MAX_UNPACKED_GB"):
        WAYS[way](MEGABYTE * 3)
    monkeypatch.setenv(unpack.LIMIT, "1")
    assert len(WAYS[way](MEGABYTE * 3))


def test_a_bomb_is_stopped_long_before_it_is_unpacked(limit: None) -> None:
    """A gigabyte in 100 kB of zstandard and a megabyte of gzip: 150 MB is all that may be made of it."""
    import tracemalloc

    zst = pa.compress(bytes(1_000_000_000), "zstd", asbytes=True)
    tracemalloc.start()
    with pytest.raises(UserError, match="unpacks to more"):
        decompressed(zst, "f.zst")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 200e6


@pytest.mark.parametrize("asked", ["0", "-1", "many", "nan", "inf"])
def test_a_limit_that_is_none_is_refused(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(unpack.LIMIT, asked)
    with pytest.raises(UserError, match="must be a number of gigabytes"):
        unpack.most()


def test_gzip_is_whole_or_refused() -> None:
    whole = gzip.compress(b"text\none\n") + gzip.compress(b"two\n")
    assert unpack.gunzipped(whole, "f.gz") == b"text\none\ntwo\n"
    assert unpack.gunzipped(whole + b"\0" * 9, "f.gz") == b"text\none\ntwo\n"
    assert parse({"f.csv.gz": whole})["text"].tolist() == ["one", "two"]
    for cut in (0, 5, len(whole) - 1):
        with pytest.raises(UserError, match=r"f\.gz is cut"):
            unpack.gunzipped(whole[:cut], "f.gz")
    for bad in (b"plain text", whole + b"more"):
        with pytest.raises(UserError, match=r"not gzip data"):
            unpack.gunzipped(bad, "f.gz")


def test_a_table_is_what_pandas_reads() -> None:
    frame = pd.DataFrame({"s": ["a", None], "i": pd.array([1, None], dtype="Int8"), "f": [0.5, float("nan")]})
    frame = pd.concat([frame] * 3000, ignore_index=True)
    pd.testing.assert_frame_equal(unpack.table(parquet(frame), "f"), pd.read_parquet(io.BytesIO(parquet(frame))))


def written(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


TEXT = ["y" * 100_000] * 1000  # 100 MB in a file of a few hundred bytes, which stores the text once
BOMBS = {
    "texts": lambda: pa.array(TEXT),
    "bytes": lambda: pa.array([b"y" * 100_000] * 1000),
    "texts in lists": lambda: pa.array([[text] * 10 for text in TEXT[:100]]),
    "texts in structs in lists": lambda: pa.array([[{"a": text}] for text in TEXT]),
    "texts in maps": lambda: pa.array([[("a", text)] for text in TEXT], pa.map_(pa.string(), pa.string())),
    "texts of one length": lambda: pa.array([b"y" * 100_000] * 1000, pa.binary(100_000)),
    "numbers in one list": lambda: pa.array([[0] * 2_000_000]),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_parquet_stores_once_counts_in_every_row(bomb: str, limit: None, monkeypatch: pytest.MonkeyPatch) -> None:
    content = written(x=BOMBS[bomb]())
    assert len(content) < 300_000
    before = pa.total_allocated_bytes()
    peak: list[int] = []
    require = unpack.require
    monkeypatch.setattr(
        unpack, "require", lambda *a: (peak.append(pa.total_allocated_bytes() - before), require(*a))[1]
    )
    with pytest.raises(UserError, match="unpacks to more"):
        unpack.table(content, "f.parquet")
    assert max(peak) < 10e6


def test_every_kind_of_text_column_comes_back_as_it_is_read_without_dictionaries() -> None:
    texts = [None, "a", "größer", ""] * 700
    pairs = [[("k", t)] for t in texts]
    content = written(
        s=pa.array(texts),
        large=pa.array(texts, pa.large_string()),
        b=pa.array([b"x", None] * 1400),
        category=pa.array(texts).dictionary_encode(),
        l=pa.array([[t, "x"] for t in texts]),
        m=pa.array(pairs, pa.map_(pa.string(), pa.string())),
        st=pa.array([{"a": t, "n": 1} for t in texts]),
        f=pa.array([b"abc"] * 2800, pa.binary(3)),
        day=pa.array([1] * 2800, pa.date32()),
        none=pa.nulls(2800),
        nostring=pa.array([None] * 2800, pa.string()),
    )
    found, wanted = unpack.table(content, "f"), pq.read_table(io.BytesIO(content)).to_pandas()
    assert list(found.dtypes) == list(wanted.dtypes)
    for name in wanted:
        assert [str(v) for v in found[name]] == [str(v) for v in wanted[name]], name


# a column of string views, written by pyarrow 26: pyarrow 16 to 20 read such a file and cannot write one
VIEWS = base64.b64decode(
    "UEFSMRUEFSwVLkwVBhUAEgAAFhABAAAAYQEFMGIIAAAAZ3LDtsOfZXIVABUUFRgsFQgVEBUGFQYcNgIoCGdyw7bDn2VyGAFhEREAAAAKJAIA"
    "AAADCwIDJAAVBBksNQAYBnNjaGVtYRUCABUMJQIYAXYlAEwcAAAAFggZHBkcJgAcFQwZNQAGEBkYAXYVAhYIFqQBFqoBJlImCBw2AigIZ3LD"
    "tsOfZXIYAWEREQAZLBUEFQAVAgAVABUQFQIAPBYUGQYZJgIGAAAAFqQBFggmCBaqAQAZHBgMQVJST1c6c2NoZW1hGKABLy8vLy8zQUFBQUFR"
    "QUFBQUFBQUtBQXdBQmdBRkFBZ0FDZ0FBQUFBQkJBQU1BQUFBQ0FBSUFBQUFCQUFJQUFBQUJBQUFBQUVBQUFBVUFBQUFFQUFVQUFnQUJnQUhB"
    "QXdBQUFBUUFCQUFBQUFBQUFFWUVBQUFBQmdBQUFBRUFBQUFBQUFBQUFFQUFBQjJBQUFBQkFBRUFBUUFBQUFBQUFBQQAYIHBhcnF1ZXQtY3Bw"
    "LWFycm93IHZlcnNpb24gMjYuMC4xGRwcAAAAVwEAAFBBUjE="
)


def test_views_are_read_as_texts_by_versions_that_cannot_write_them() -> None:
    assert unpack.table(VIEWS, "f")["v"].fillna("missing").tolist() == ["a", "b", "missing", "größer"]


def test_a_file_too_large_for_the_memory_is_called_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 9 failed")

    content = written(x=pa.array(["y"]))
    monkeypatch.setattr(pa, "Table", type("Full", (), {"from_batches": staticmethod(full)}))
    with pytest.raises(UserError, match=r"f\.parquet does not fit into the memory that is free"):
        unpack.table(content, "f.parquet")
