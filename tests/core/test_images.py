"""Finding, reading and resizing images."""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from autoad_core.data import Floats
from autoad_core.errors import DataError
from autoad_core.images import find_images, probe_image, read_image, resize

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=-1)
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def encoded(format: str, pixels: np.ndarray = COLOURS) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format)
    return stream.getvalue()


# Finding


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt", "sub/d.tif", "sub/c.png", ".git/e.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def names(root: Path, *paths: str | Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in find_images(paths)]


def test_folders_are_walked_in_order_and_hidden_files_passed_over(tree: Path) -> None:
    assert names(tree, tree) == ["a.JPG", "b.png", "sub/c.png", "sub/d.tif"]


def test_a_named_file_is_taken_whatever_its_name(tree: Path) -> None:
    assert names(tree, tree / "notes.txt", str(tree / ".hidden.png")) == ["notes.txt", ".hidden.png"]


def test_globs_match_images_and_folders(tree: Path) -> None:
    assert names(tree, f"{tree}/*") == ["a.JPG", "b.png", "sub/c.png", "sub/d.tif"]
    assert names(tree, f"{tree}/**/*.png") == ["b.png", "sub/c.png"]


def test_a_folder_whose_name_reads_like_a_glob_is_that_folder(tree: Path) -> None:
    (tree / "sub").rename(tree / "[sub]")
    assert names(tree, tree / "[sub]") == ["[sub]/c.png", "[sub]/d.tif"]


def test_folders_are_listed_only_as_they_are_consumed(tree: Path) -> None:
    found = find_images([tree])
    (tree / "sub" / "c.png").unlink()
    assert [path.name for path in found] == ["a.JPG", "b.png", "d.tif"]


@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere.png", "no such file or folder"), ("empty", "no images here"), ("*.bmp", "no images here")],
)
def test_what_names_no_image_is_an_error_at_once(tree: Path, path: str, message: str) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        find_images([tree, tree / path])


def test_a_folder_that_cannot_be_listed_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: str) -> Iterator[os.DirEntry[str]]:  # chmod would not stop root
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    listed = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"sub: cannot be listed \(Permission denied\)"):
        list(find_images([tree]))


# Reading


def test_grey_and_colour_are_read_exactly(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(save(tmp_path / "l.png", RAMP)), RAMP[None] / np.float32(255))
    expected = COLOURS.transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_array_equal(read_image(save(tmp_path / "rgb.png", COLOURS)), expected)


def test_alpha_is_dropped(tmp_path: Path) -> None:
    for colours in (COLOURS, RAMP[..., None]):
        path = save(tmp_path / "a.png", np.concatenate([colours, RAMP[..., None]], axis=-1))
        np.testing.assert_array_equal(read_image(path), colours.transpose(2, 0, 1) / np.float32(255))


def test_a_palette_is_looked_up_with_and_without_transparency(tmp_path: Path) -> None:
    flat = np.zeros((16, 16, 3), np.uint8)
    flat[:, 8:] = (10, 200, 30)
    for options in ({}, {"transparency": 0}, {"transparency": b"\x00\x80"}):
        path = tmp_path / "p.png"
        Image.fromarray(flat).quantize(2).save(path, **options)
        np.testing.assert_allclose(read_image(path), flat.transpose(2, 0, 1) / 255, atol=0.01)


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    read = read_image(save(tmp_path / "1.png", RAMP > 127))
    np.testing.assert_array_equal(read, (RAMP > 127)[None].astype(np.float32))


@pytest.mark.parametrize("name", ["16.png", "16.tif"])
def test_sixteen_bits_keep_their_precision(tmp_path: Path, name: str) -> None:
    deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    read = read_image(save(tmp_path / name, deep))
    np.testing.assert_allclose(read[0], deep / 65535, atol=1e-6)
    assert len(np.unique(read)) == 256


def test_big_endian_sixteen_bits(tmp_path: Path) -> None:
    path = tmp_path / "deep.pgm"
    path.write_bytes(b"P5 2 1 65535\n" + bytes([0, 1, 0x80, 0]))
    np.testing.assert_allclose(read_image(path)[0, 0], [1 / 65535, 32768 / 65535], rtol=1e-6)


def test_integers_and_floats(tmp_path: Path) -> None:
    wide = np.array([[0, 65535], [32768, 1]], np.int32)
    np.testing.assert_allclose(read_image(save(tmp_path / "i.tif", wide))[0], wide / 65535, rtol=1e-6)
    real = np.array([[0, 1], [0.25, 0.5]], np.float32)
    np.testing.assert_array_equal(read_image(save(tmp_path / "f.tif", real))[0], real)


@pytest.mark.parametrize("value", [255.0, -0.5, np.nan])
def test_floats_outside_0_to_1_are_refused_rather_than_clipped(tmp_path: Path, value: float) -> None:
    path = save(tmp_path / "f.tif", np.array([[0.5, value]], np.float32))
    with pytest.raises(DataError, match=r"f\.tif.*expected 0 to 1"):
        read_image(path)


def test_print_colours_become_rgb(tmp_path: Path) -> None:
    white = save(tmp_path / "cmyk.tif", np.full((4, 4, 3), 255, np.uint8), "CMYK")
    np.testing.assert_array_equal(read_image(white), np.ones((3, 4, 4), np.float32))


def test_exif_orientation_turns_the_image_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: rotate by 270 degrees to show
    path = save(tmp_path / "turned.png", RAMP[:8], exif=exif)
    np.testing.assert_array_equal(read_image(path)[0] * 255, np.rot90(RAMP[:8], -1))
    assert (probe_image(path).height, probe_image(path).width) == (16, 8)


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4), v, np.uint8)) for v in (255, 0)]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "two.gif").min() == 1


@pytest.mark.parametrize(("channels", "size"), [(1, 16), (1, 5), (3, 16), (3, 23)])
@pytest.mark.parametrize("pixels", [RAMP, COLOURS, RAMP.astype(np.uint16) * 257], ids=["L", "RGB", "I;16"])
def test_reading_at_a_shape_is_reading_and_resizing(
    tmp_path: Path, pixels: np.ndarray, channels: int, size: int
) -> None:
    path = save(tmp_path / "x.png", pixels)
    shape = (channels, size, size + 1)
    read = read_image(path, shape)
    assert read.shape == shape
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, resize(read_image(path)[None], shape)[0], atol=1.01 / 255)


# Probing


def test_probe_sees_size_and_whether_there_is_colour(tmp_path: Path) -> None:
    assert not probe_image(save(tmp_path / "rgb.png", COLOURS[:8])).grey
    for name in ("grey.png", "grey.jpg"):
        probe = probe_image(save(tmp_path / name, np.repeat(RAMP[:8, :, None], 3, axis=-1)))
        assert (probe.height, probe.width, probe.grey) == (8, 16, True)


def test_probe_gives_the_full_size_of_a_large_jpeg(tmp_path: Path) -> None:
    probe = probe_image(save(tmp_path / "large.jpg", np.zeros((999, 1000), np.uint8)))
    assert (probe.height, probe.width, probe.grey) == (999, 1000, True)


# Damage


@pytest.mark.parametrize("read", [read_image, probe_image])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello", "not in a known format"),
        (encoded("PNG", NOISE)[:-600], "truncated"),
        (encoded("JPEG", NOISE)[:-600], "truncated"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not in a known format"),  # Pillow would start Ghostscript
    ],
)
def test_damage_is_one_line_that_names_the_file(
    tmp_path: Path, read: Callable[[Path], object], content: bytes, reason: str
) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)
    assert "replace or remove it" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["nowhere.png", "."])
def test_what_is_no_file_is_a_data_error(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_image(tmp_path / path)


@pytest.mark.parametrize("side", [11_000, 60_000])  # above our limit, and above Pillow's own
def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path, side: int) -> None:
    header = struct.pack(">II", side, side) + bytes([1, 0, 0, 0, 0])
    chunks = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    chunks.seek(8)
    for kind, data in ((b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")):
        PngImagePlugin.putchunk(chunks, kind, data)
    (tmp_path / "bomb.png").write_bytes(chunks.getvalue())
    with pytest.raises(DataError, match="pixels"):
        read_image(tmp_path / "bomb.png")


def test_too_many_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoad_core.images.MAX_BYTES", 10)
    with pytest.raises(DataError, match="bytes are more than 10"):
        read_image(save(tmp_path / "x.png", RAMP))


@settings(deadline=None, max_examples=300)
@given(
    format=st.sampled_from(["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"]),
    cut=st.integers(0, 1000),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
)
def test_damaged_bytes_are_read_or_refused(format: str, cut: int, edits: list[tuple[int, int]]) -> None:
    data = bytearray(encoded(format))
    for place, value in edits:
        data[place % len(data)] = value
    with contextlib.suppress(DataError):
        read = read_image("fuzz", (3, 8, 8), bytes(data[: len(data) - cut]))
        assert read.shape == (3, 8, 8)
        assert 0 <= read.min() <= read.max() <= 1


# Resizing


@settings(deadline=None)
@given(
    old=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    new=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_resizing_agrees_with_pillow(old: tuple[int, int], new: tuple[int, int]) -> None:
    images = np.random.default_rng(0).random((2, 1, *old), dtype=np.float32)
    ours = resize(images, (1, *new))
    for image, resized in zip(images[:, 0], ours[:, 0], strict=True):
        pillow = Image.fromarray(image).resize(new[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_allclose(resized, np.asarray(pillow), atol=2e-6)


def test_resizing_stays_in_range_and_keeps_what_fits() -> None:
    ones: Floats = np.ones((2, 3, 7, 9), np.float32)
    for shape in ((1, 4, 4), (3, 20, 5), (1, 7, 9)):
        assert resize(ones, shape).max() <= 1
        np.testing.assert_allclose(resize(ones, shape), 1, atol=1e-6)
    assert resize(ones, (3, 7, 9)) is ones


def test_colours_become_luminance_and_grey_is_repeated() -> None:
    colour = np.array([1, 0.5, 0], np.float32).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(resize(colour, (1, 1, 1)), 0.299 + 0.5 * 0.587, rtol=1e-6)
    np.testing.assert_array_equal(resize(colour[:, :1], (3, 2, 2)), np.ones((1, 3, 2, 2)))


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot turn 4 channels into 3"):
        resize(np.zeros((1, 4, 2, 2), np.float32), (3, 2, 2))
