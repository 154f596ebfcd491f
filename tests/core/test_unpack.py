"""A small file cannot fill the memory: every way of unpacking stops at the user's limit, and the error names it."""

import gzip
import io
import zipfile

import pandas as pd
import pytest
import zstandard

from theodolite.core import unpack
from theodolite.core.errors import UserError
from theodolite.core.zstd import decompressed
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
    "zst": lambda content: decompressed(zstandard.compress(content), "f.zst"),
    "zst of frames": lambda content: decompressed(
        zstandard.compress(content[:10]) + zstandard.compress(content), "f.zst"
    ),
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

    zst = zstandard.ZstdCompressor(level=1).compress(bytes(1_000_000_000))
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
