"""The IDX reader: round trips, and that nothing but `DataError` comes out of any bytes."""

from __future__ import annotations

import contextlib
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autoad_core.errors import DataError
from autoad_plugins._idx import read_idx

SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
ARRAYS = SHAPES.flatmap(lambda shape: arrays(np.uint8, shape))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx") / "some-idx-ubyte"


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@settings(deadline=None)
@given(array=ARRAYS, zipped=st.booleans())
def test_what_was_written_is_read(file: Path, array: np.ndarray, zipped: bool) -> None:
    file.write_bytes(gzip.compress(idx(array), mtime=0) if zipped else idx(array))
    read = read_idx(file, array.ndim)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=64), dims=st.integers(1, 3), zipped=st.booleans(), prefixed=st.booleans())
def test_any_bytes_are_read_or_refused(
    file: Path, data: bytes, dims: int, zipped: bool, prefixed: bool
) -> None:
    data = bytes([0, 0, 8, dims]) * prefixed + data
    file.write_bytes(gzip.compress(data, mtime=0) if zipped else data)
    with contextlib.suppress(DataError):
        assert read_idx(file, dims).ndim == dims


@settings(deadline=None, max_examples=300)
@given(
    array=ARRAYS,
    zipped=st.booleans(),
    cut=st.integers(0, 30),
    edits=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4),
)
def test_damaged_files_are_read_or_refused(
    file: Path, array: np.ndarray, zipped: bool, cut: int, edits: list[tuple[int, int]]
) -> None:
    data = bytearray(gzip.compress(idx(array), mtime=0) if zipped else idx(array))
    for place, value in edits:
        data[place % len(data)] = value
    file.write_bytes(data[: len(data) - cut])
    with contextlib.suppress(DataError):
        assert read_idx(file, array.ndim).ndim == array.ndim


SMALL = idx(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "starts with nothing, expected 00000802"),
        (b"\x00\x00\x0d\x02" + SMALL[4:], "starts with 00000d02, expected 00000802"),  # floats
        (idx(np.zeros(6, np.uint8)), "starts with 00000801, expected 00000802"),
        (SMALL[:10], "ends within its header"),
        (SMALL[:-1], "announces 6 bytes after its header and has only 5"),
        (SMALL + b"\x00", "announces 6 bytes after its header and has more"),
        (gzip.compress(SMALL, mtime=0)[:-9], "end-of-stream"),
        (gzip.compress(SMALL, mtime=0)[:-8] + bytes(8), "CRC"),
        (idx(np.zeros((0, 3), np.uint8)), "says 0x3 bytes"),
        (b"\x00\x00\x08\x02" + b"\xff" * 8, "says 4294967295x4294967295 bytes"),
    ],
)
def test_errors_name_the_file_and_the_fault(tmp_path: Path, data: bytes, reason: str) -> None:
    file = tmp_path / "bad-idx2-ubyte.gz"
    file.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_idx(file, 2)
    assert str(file) in str(caught.value)
    assert reason in str(caught.value)
    assert "get the file again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_idx(tmp_path / "nowhere", 1)


def test_a_stream_is_not_expanded_beyond_what_it_announces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    class Counting(gzip.GzipFile):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            read.append(len(data))
            return data

    monkeypatch.setattr(gzip, "open", Counting)
    file = tmp_path / "bomb.gz"
    file.write_bytes(gzip.compress(SMALL + bytes(50_000_000)))
    with pytest.raises(DataError, match="has more"):
        read_idx(file, 2)
    assert sum(read) == len(SMALL) + 1
