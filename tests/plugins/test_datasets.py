"""The built-in data sets, on small files in their published layouts; a few tests on the sets themselves."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import struct
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autoad_core.component import Kind
from autoad_core.data import Dataset
from autoad_core.errors import DataError
from autoad_core.testing import DatasetContract, check_plugin
from autoad_plugins import _cifar
from autoad_plugins._files import Published, Remote, locate
from autoad_plugins.datasets import autoad_datasets

RNG = np.random.default_rng(0)
PARTS = ("train", "t10k")
ALL = [
    *("digits", "textures", "gaussian", "uniform", "mnist", "fashion-mnist", "kmnist", "notmnist", "cifar10"),
    *("tiny-imagenet", "svhn", "lsun", "mvtec-ad", "crackforest", "cat", "folder"),
]
PARAMS: dict[str, dict[str, Any]] = {
    "folder": {"path": "product"},
    "mvtec-ad": {"category": "grid", "size": 16},
    "crackforest": {"tile": 32},
}


@functools.cache
def factories() -> dict[str, Callable[..., Any]]:
    found = check_plugin("autoad_plugins.datasets").registry
    return {entry.component.name: entry.load() for entry in found if entry.kind is Kind.DATASET}


def make(name: str, root: Path | None = None, **params: Any) -> Any:
    return factories()[name](root=root, shape=params.pop("shape", None), seed=params.pop("seed", 0), **params)


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def write_idx(file: Path, array: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    data = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)


def write_mnist(folder: Path, parts: tuple[str, ...] = PARTS, suffix: str = ".gz") -> dict[str, np.ndarray]:
    images = {part: pixels(n, 28, 28) for part, n in (("train", 20), ("t10k", 10)) if part in parts}
    for part, array in images.items():
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", array)
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", np.arange(len(array), dtype=np.uint8) % 10)
    return images


def write_cifar(folder: Path, names: tuple[str, ...] = ()) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    records = pixels(6, 3073)
    records[:, 0] = np.arange(6)
    for name in names or (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        (folder / name).write_bytes(records.tobytes())
    return records


def write_image(file: Path, image: np.ndarray | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(16, 16, 3) if image is None else image).save(file)
    return file


def write_tiny_imagenet(folder: Path) -> None:
    for wnid in ("n01", "n02"):
        for i in range(2):
            write_image(folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG")
    rows = []
    for i, wnid in enumerate(("n02", "n01", "n02")):
        write_image(folder / "val" / "images" / f"val_{i}.JPEG")
        rows.append(f"val_{i}.JPEG\t{wnid}\t0\t0\t63\t63\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(rows))


def write_svhn(folder: Path) -> dict[str, np.ndarray]:
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    images = {"train": pixels(32, 32, 3, 6), "test": pixels(32, 32, 3, 4)}
    for part, array in images.items():
        labels = np.arange(10, 10 - array.shape[-1], -1, dtype=np.uint8)[:, None]
        savemat(folder / f"{part}_32x32.mat", {"X": array, "y": labels})
    return images


def write_mvtec(folder: Path) -> None:
    for i in range(4):
        write_image(folder / "train" / "good" / f"{i:03}.png")
    for kind, count in (("good", 2), ("hole", 3), ("crack", 1)):
        for i in range(count):
            write_image(folder / "test" / kind / f"{i:03}.png")
            if kind != "good":
                mask = np.zeros((16, 16), np.uint8)
                mask[4:8, 4:12] = 255
                write_image(folder / "ground_truth" / kind / f"{i:03}_mask.png", mask)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name in ("mnist", "fashion-mnist"):
        write_mnist(root / name)
    write_mnist(root / "KMNIST" / "raw", suffix="")  # as torchvision leaves it
    write_mnist(root / "notmnist", ("t10k",))
    write_cifar(root / "cifar10" / "cifar-10-batches-bin")
    write_tiny_imagenet(root / "tiny-imagenet" / "tiny-imagenet-200")
    write_svhn(root / "svhn")
    for i in range(3):
        write_image(root / "LSUN_resize" / "LSUN_resize" / f"{i}.jpg")
    write_mvtec(root / "product")
    write_mvtec(root / "mvtec_ad" / "grid")
    for i in range(4):
        write_image(root / "crackforest" / "image" / f"{i}.jpg", pixels(64, 64, 3))
        labels = np.zeros((64, 64), np.uint8)
        labels[5, 5:20] = 255
        write_image(root / "crackforest" / "groundTruth" / f"{i}.png", labels)
        write_image(root / "cat" / "CAT_00" / f"{i}.jpg", pixels(30, 40, 3))
    return root


class TestContract(DatasetContract):
    @pytest.fixture(autouse=True, params=ALL)
    def _factory(self, request: pytest.FixtureRequest, tree: Path) -> None:
        params = PARAMS.get(request.param, {})

        def factory(root: None, shape: tuple[int, int, int] | None, seed: int) -> Dataset:
            made: Dataset = factories()[request.param](root=tree, shape=shape, seed=seed, **params)
            return made

        self.make = factory  # type: ignore[method-assign]


def test_the_sets_are_all_declared() -> None:
    assert {component.name for component in autoad_datasets()} == set(ALL) == set(factories())


# Embedded


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    digits = make("digits")
    assert (len(digits.labels), digits.shape, len(digits.classes)) == (1797, (1, 8, 8), 10)
    np.testing.assert_array_equal(digits.read(np.array([7]))[0, 0] * 16, load_digits().images[7])


def test_noise_follows_shape_seed_and_count() -> None:
    for name in ("gaussian", "uniform"):
        noise = make(name, shape=(3, 4, 5), seed=1, count=500)
        images = noise.read(np.arange(500))
        assert images.shape == (500, 3, 4, 5)
        assert not np.array_equal(images, make(name, shape=(3, 4, 5), seed=2, count=500).read(np.arange(500)))
    assert make("gaussian").shape == (1, 28, 28)


def test_gaussian_noise_is_clipped_at_the_right_places() -> None:
    images = make("gaussian", shape=(1, 64, 64), count=100).read(np.arange(100))
    # A standard normal lies below -0.5, and above 0.5, with probability 0.3085; six standard errors are 0.0044.
    assert abs((images == 0).mean() - 0.3085) < 0.0044
    assert abs((images == 1).mean() - 0.3085) < 0.0044


@pytest.mark.parametrize("count", [0, -1, 1.5, "many", True, 10**12])
def test_a_count_that_cannot_be_is_refused(count: object) -> None:
    with pytest.raises(DataError, match=r"^uniform\.count: .* must be a whole number from 1 to"):
        make("uniform", count=count)


@pytest.mark.parametrize("texture", ["brick", "grass", "gravel"])
def test_textures_have_good_patches_and_marked_defects(texture: str) -> None:
    data = make("textures", texture=texture, size=24, train=50, test=20, defects=10)
    assert data.shape == (1, 24, 24)
    assert data.classes == ("good", "foreign", "scratch", "stain")
    assert np.bincount(data.labels).tolist() == [70, 10, 10, 10]
    assert set(data.labels[data.parts == 0]) == {0}
    masks = np.stack(data.masks(np.arange(100)))
    assert not masks[data.labels == 0].any()
    shares = masks[data.labels > 0].mean(axis=(1, 2))
    assert 0 < shares.min() <= shares.max() < 0.3


def test_texture_patches_are_distinct_and_follow_the_seed() -> None:
    images = make("textures").images
    assert len({image.tobytes() for image in images}) == len(images)
    assert np.array_equal(images, make("textures").images)
    assert not np.array_equal(images, make("textures", seed=1).images)


def test_texture_defects_change_the_pixels_that_their_mask_marks() -> None:
    data = make("textures", texture="gravel", train=2000, test=500, defects=100)
    pixel = data.images[:, 0].astype(float)
    good = pixel[data.labels == 0]
    for kind in (1, 2, 3):
        chosen = data.labels == kind
        outside = np.abs(pixel[chosen] - good.mean())[~data.mask[chosen]].mean()
        assert abs(outside - np.abs(good - good.mean()).mean()) < 0.1 * good.std()
        assert abs(pixel[chosen].mean() - good.mean()) < 0.1 * good.std()  # brightness gives nothing away


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"texture": "wood"}, "textures.texture: 'wood' must be one of brick, grass, gravel"),
        ({"size": 8}, "textures.size: 8 must be a whole number from 16 to 104"),
        ({"defects": 0}, "textures.defects: 0 must be a whole number from 1 to 100,000"),
    ],
)
def test_texture_parameters_are_checked(params: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        make("textures", **params)
    assert str(caught.value) == message


def test_a_scikit_image_without_the_photograph_is_a_data_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    with pytest.raises(DataError, match=r"this scikit-image has no brick\.png"):
        make("textures")


# From a data root


@pytest.mark.parametrize("name", ["mnist", "cifar10", "tiny-imagenet", "svhn", "lsun", "notmnist"])
def test_a_missing_set_says_where_it_was_looked_for_and_where_to_get_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"^{name}: no data root; pass --data-root DIR or set AUTOAD_DATA$"):
        make(name)
    with pytest.raises(DataError) as caught:
        make(name, tmp_path)
    message = str(caught.value)
    assert f"not found in {tmp_path / name} or {tmp_path}; get " in message
    assert "http" in message
    assert ("download: true" in message) == (name not in ("lsun", "notmnist"))
    assert "\n" not in message
    with pytest.raises(DataError, match="there is no folder"):
        make(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist", "notmnist"])
def test_idx_sets_have_both_parts_in_order(tmp_path: Path, name: str) -> None:
    images = write_mnist(tmp_path / name)
    data = make(name, tmp_path)
    assert data.parts.tolist() == [0] * 20 + [1] * 10
    assert data.labels.tolist() == [*range(10), *range(10), *range(10)]
    assert (len(data.classes), data.shape, data.notes) == (10, (1, 28, 28), ())
    read = data.read(np.array([3, 20]))[:, 0] * 255
    np.testing.assert_allclose(read, [images["train"][3], images["t10k"][0]], atol=1e-4)


def test_one_idx_part_alone_has_no_published_split(tmp_path: Path) -> None:
    write_mnist(tmp_path, ("t10k",))
    data = make("mnist", tmp_path)
    assert data.parts is None
    assert len(data.labels) == 10
    itself, only = data.notes
    assert "do not say which set they are" in itself
    assert "only the published test part is in" in only


def test_idx_files_must_agree(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.full(20, 11, np.uint8))
    with pytest.raises(DataError, match="label 11 is beyond the 10 classes"):
        make("mnist", tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.zeros(7, np.uint8))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: 7 labels for 20 images"):
        make("mnist", tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.zeros(20, np.uint8))
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", pixels(10, 20, 20))
    with pytest.raises(DataError, match="different shapes"):
        make("mnist", tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz: is there without its labels; add them"):
        make("mnist", tmp_path)


def test_cifar_records_are_taken_apart(tmp_path: Path) -> None:
    records = write_cifar(tmp_path / "cifar-10-batches-bin")
    data = make("cifar10", tmp_path)
    assert np.bincount(data.parts).tolist() == [30, 6]
    assert data.labels.tolist() == list(range(6)) * 6
    np.testing.assert_array_equal(data.images[7], records[1, 1:].reshape(3, 32, 32))
    assert data.notes == ()


def test_cifar_says_which_files_are_missing_or_damaged(tmp_path: Path) -> None:
    write_cifar(tmp_path, ("data_batch_2.bin", "test_batch.bin"))
    (note,) = make("cifar10", tmp_path).notes
    assert "missing in" in note
    assert "data_batch_1.bin, data_batch_3.bin" in note
    (tmp_path / "test_batch.bin").write_bytes(bytes(3072))
    with pytest.raises(DataError, match=r"test_batch.bin: 3,072 bytes are not a multiple of 3,073"):
        make("cifar10", tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(b"\x0c" + bytes(3072))
    with pytest.raises(DataError, match="label 12 is beyond the 10 classes"):
        make("cifar10", tmp_path)


def test_what_cannot_be_read_at_all_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_batch.bin").mkdir()  # not even root can read a folder as a file
    with pytest.raises(DataError, match=r"test_batch\.bin: cannot be read \("):
        make("cifar10", tmp_path)
    (tmp_path / "val" / "val_annotations.txt").mkdir(parents=True)
    with pytest.raises(DataError, match=r"val_annotations\.txt: cannot be read \("):
        make("tiny-imagenet", tmp_path)

    def iterdir(path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(DataError, match=f"{tmp_path}: cannot be listed .Permission denied."):
        make("folder", tmp_path)


def test_pickled_cifar_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"cos\nsystem\n")
    with pytest.raises(DataError, match="binary version"):
        make("cifar10", tmp_path)


def test_tiny_imagenet_has_its_two_halves(tree: Path) -> None:
    data = make("tiny-imagenet", tree)
    assert data.classes == ("n01", "n02")
    assert data.labels.tolist() == [0, 0, 1, 1, 1, 0, 1]
    assert data.parts.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert data.shape == (3, 64, 64)
    assert make("tiny-imagenet", tree, shape=(1, 8, 9)).read(np.array([5])).shape == (1, 1, 8, 9)


def test_tiny_imagenet_of_one_half_and_of_damaged_annotations(tmp_path: Path) -> None:
    write_tiny_imagenet(tmp_path)
    (tmp_path / "train").rename(tmp_path / "elsewhere")
    data = make("tiny-imagenet", tmp_path)
    assert data.parts is None
    assert "the train half is not in" in data.notes[0]
    for line in ("val_0.JPEG\n", "../../secret\tn01\n"):
        (tmp_path / "val" / "val_annotations.txt").write_text(line)
        with pytest.raises(DataError, match=r"val_annotations\.txt: line 1"):
            make("tiny-imagenet", tmp_path)
    (tmp_path / "val" / "val_annotations.txt").write_text("")
    with pytest.raises(DataError, match="holds no images"):
        make("tiny-imagenet", tmp_path)


def test_svhn_turns_ten_into_zero_and_the_axes_round(tmp_path: Path) -> None:
    images = write_svhn(tmp_path)
    data = make("svhn", tmp_path)
    assert data.labels.tolist() == [0, 9, 8, 7, 6, 5, 0, 9, 8, 7]
    assert data.parts.tolist() == [0] * 6 + [1] * 4
    np.testing.assert_array_equal(data.images[7], images["test"][..., 1].transpose(2, 0, 1))


def test_damaged_svhn_is_a_data_error(tmp_path: Path) -> None:
    from scipy.io import savemat

    file = tmp_path / "test_32x32.mat"
    good = {"X": pixels(32, 32, 3, 2), "y": np.array([[1], [2]])}
    for bad in ({"y": np.array([[0], [2]])}, {"X": pixels(2, 32, 32, 3)}, {"y": np.array([[1]])}):
        savemat(file, {**good, **bad})
        with pytest.raises(DataError, match=r"test_32x32.mat: cannot be read as SVHN"):
            make("svhn", tmp_path)
    savemat(file, good)
    for data in (b"", file.read_bytes()[:200], b"\x80\x04cos\nsystem\n"):
        file.write_bytes(data)
        with pytest.raises(DataError, match=r"test_32x32.mat: cannot be read as SVHN"):
            make("svhn", tmp_path)


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lmdb = pytest.importorskip("lmdb")
    root = tmp_path_factory.mktemp("lsun")
    for category, count in (("bedroom", 3), ("tower", 2)):
        folder = root / "lsun" / f"{category}_val_lmdb"
        folder.mkdir(parents=True)
        with lmdb.open(str(folder)) as environment, environment.begin(write=True) as values:
            for i in range(count):
                stream = io.BytesIO()
                Image.fromarray(pixels(20, 30, 3)).save(stream, "WEBP")
                values.put(f"{i:040}".encode(), stream.getvalue())
    return root


def test_lsun_databases_are_read_by_category(databases: Path) -> None:
    data = make("lsun", databases, size=[8, 12])
    assert data.classes == ("bedroom", "tower")
    assert data.labels.tolist() == [0, 0, 0, 1, 1]
    assert data.shape == (3, 8, 12)
    together, order = data.read(np.arange(5)), np.array([4, 0, 3])
    np.testing.assert_array_equal(data.read(order), together[order])
    assert len(np.unique(together.reshape(5, -1), axis=0)) == 5
    assert data.masks(order) is None
    tower = make("lsun", databases, category="tower", shape=(3, 8, 12))
    np.testing.assert_array_equal(tower.read(np.arange(2)), together[3:])
    with pytest.raises(DataError, match="'castle' must be one of bedroom, tower"):
        make("lsun", databases, category="castle")


def test_damaged_lsun_databases_and_images_are_data_errors(databases: Path, tmp_path: Path) -> None:
    import lmdb

    folder = tmp_path / "attic_val_lmdb"
    with lmdb.open(str(folder)) as environment, environment.begin(write=True) as values:
        values.put(b"key", b"no image")
    with pytest.raises(DataError, match=r"attic_val_lmdb/key: cannot be read as an image"):
        make("lsun", tmp_path).read(np.array([0]))
    (folder / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match="attic_val_lmdb: cannot be read as LMDB"):
        make("lsun", tmp_path)


def test_lsun_databases_without_lmdb_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tower_val_lmdb").mkdir()
    (tmp_path / "tower_val_lmdb" / "data.mdb").touch()
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(DataError, match=r"pip install 'autoad\[lsun\]'"):
        make("lsun", tmp_path)


def test_lsun_as_folders_of_images(tree: Path) -> None:
    data = make("lsun", tree)
    assert (data.classes, data.shape, data.labels.tolist()) == (("LSUN_resize",), (3, 32, 32), [0, 0, 0])


# Downloads, from a server on this machine


@pytest.fixture
def server(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("served")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def remote(folder: Path, url: str, name: str) -> Remote:
    return Remote(f"{url}/{name}", hashlib.sha256((folder / name).read_bytes()).hexdigest())


def published(*remotes: Remote) -> Published:
    return Published(name="set", holds="a.bin", page="https://example.org", marks=("a.bin",), remotes=remotes)


def test_a_missing_set_is_downloaded_once(
    tmp_path: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = server
    records = write_cifar(tmp_path / "made" / "cifar-10-batches-bin")
    with tarfile.open(folder / "cifar.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made" / "cifar-10-batches-bin", "cifar-10-batches-bin")
    there = replace(_cifar._PUBLISHED, remotes=(remote(folder, url, "cifar.tar.gz"),))
    monkeypatch.setattr(_cifar, "_PUBLISHED", there)
    data = make("cifar10", tmp_path / "root", download=True)
    np.testing.assert_array_equal(data.images[0], records[0, 1:].reshape(3, 32, 32))
    (folder / "cifar.tar.gz").unlink()
    assert len(make("cifar10", tmp_path / "root", download=True).labels) == 36
    left = sorted(path.name for path in (tmp_path / "root" / "cifar10").iterdir())
    assert left == ["cifar-10-batches-bin"]


def test_zip_archives_and_plain_files_are_fetched(tmp_path: Path, server: tuple[Path, str]) -> None:
    folder, url = server
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        archive.writestr("a.bin", b"data")
    (folder / "b.bin").write_bytes(b"more")
    wanted = published(remote(folder, url, "set.zip"), remote(folder, url, "b.bin"))
    assert locate(wanted, tmp_path, download=True) == tmp_path / "set"
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["a.bin", "b.bin"]


def test_a_wrong_checksum_or_address_says_what_to_do(tmp_path: Path, server: tuple[Path, str]) -> None:
    folder, url = server
    (folder / "a.bin").write_bytes(b"tampered with")
    for wrong in (Remote(f"{url}/a.bin", "0" * 64), Remote("http://127.0.0.1:1/a.bin", "0" * 64)):
        with pytest.raises(DataError) as caught:
            locate(published(wrong), tmp_path, download=True)
        assert "set: the download failed (" in str(caught.value)
        assert f"get a.bin from https://example.org and put it into {tmp_path / 'set'}" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "set" / "a.bin").exists()


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path, server: tuple[Path, str]) -> None:
    folder, url = server
    with tarfile.open(folder / "evil.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../../evil.txt"))
    with pytest.raises(DataError, match="the download failed"):
        locate(published(remote(folder, url, "evil.tar")), tmp_path, download=True)
    assert not list(tmp_path.rglob("evil.txt"))


def test_without_pooch_or_address_downloads_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"set: no stable address to download from; get a\.bin from"):
        locate(published(), tmp_path, download=True)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError, match=r"pip install 'autoad\[download\]'"):
        locate(published(Remote("http://127.0.0.1/a.bin", "0" * 64)), tmp_path, download=True)
    with pytest.raises(DataError, match=r"set\.download: 'no' must be true or false"):
        locate(published(), tmp_path, download="no")


# The user's own folder


def test_the_layout_of_mvtec_is_understood(tree: Path) -> None:
    data = make("folder", tree / "product", size=16)
    assert data.classes == ("good", "crack", "hole")
    assert data.labels.tolist() == [0, 0, 0, 0, 1, 0, 0, 2, 2, 2]
    assert data.parts.tolist() == [0] * 4 + [1] * 6
    assert data.notes == ()
    expected = np.zeros((16, 16), bool)  # the size of the file, whatever that of the images
    expected[4:8, 4:12] = True
    assert not np.any(data.masks(np.array([0, 5])))
    np.testing.assert_array_equal(data.masks(np.array([4, 9])), [expected, expected])


def test_good_and_bad_folders_are_understood(tmp_path: Path) -> None:
    for name, count in (("good", 3), ("bent", 2), ("a/deep", 1), (".hidden", 1)):
        for i in range(count):
            write_image(tmp_path / name / f"{i}.png")
    data = make("folder", tmp_path)
    assert data.classes == ("good", "a", "bent")
    assert data.labels.tolist() == [1, 2, 2, 0, 0, 0]
    assert data.parts is None
    assert data.masks(np.array([0])) is None


def test_a_flat_folder_and_good_alone_are_all_good(tmp_path: Path) -> None:
    for i in range(3):
        write_image(tmp_path / "flat" / f"{i}.png")
        write_image(tmp_path / "train" / "good" / f"{i}.png")
        write_image(tmp_path / "flat" / "more" / f"{i}.png")
    for folder in (tmp_path / "flat", tmp_path):
        data = make("folder", folder)
        assert (data.classes, data.labels.tolist(), data.parts) == (("good",), [0, 0, 0], None)
    assert make("folder", tmp_path / "flat").notes[0].endswith("itself: more")


def test_folders_that_the_layout_does_not_know_are_noted(tree: Path, tmp_path: Path) -> None:
    write_mvtec(tmp_path)
    write_image(tmp_path / "validation" / "good" / "0.png")
    (tmp_path / "test" / "empty").mkdir()
    unused, empty = make("folder", tmp_path).notes
    assert "left out" in unused
    assert "validation" in unused
    assert f"{tmp_path / 'test' / 'empty'}: no images here" in empty


def test_without_good_images_the_error_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no good images; expected train/good, good or images"):
        make("folder", tmp_path)
    write_image(tmp_path / "bottle" / "train" / "good" / "0.png")
    with pytest.raises(DataError, match="found the folders bottle"):
        make("folder", tmp_path)
    (tmp_path / "good").mkdir()
    with pytest.raises(DataError, match=r"no good image can be read; .*good: no images here"):
        make("folder", tmp_path)


def test_the_path_is_seen_from_here_or_from_the_data_root(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(make("folder", tree, path="product").labels) == 10
    monkeypatch.chdir(tree)
    assert len(make("folder", path="product").labels) == 10
    assert len(make("folder", tmp_path, path=str(tree / "product")).labels) == 10
    with pytest.raises(DataError, match="folder: no images named"):
        make("folder")
    with pytest.raises(DataError, match=f"folder: nowhere or {tmp_path}/nowhere is no folder"):
        make("folder", tmp_path, path="nowhere")


def test_unreadable_images_are_skipped_and_named(tmp_path: Path) -> None:
    for i in range(3):
        write_image(tmp_path / "good" / f"{i}.png")
    (tmp_path / "good" / "1.png").write_bytes(b"")
    for i in range(8):
        (tmp_path / "good" / f"bad{i}.jpg").write_text("no image")
    data = make("folder", tmp_path)
    assert [file.name for file in data.files] == ["0.png", "2.png"]
    assert len(data.notes) == 6
    assert data.notes[0].startswith(f"skipped: {tmp_path / 'good' / '1.png'}: ")
    assert data.notes[5] == "skipped: 4 more files that cannot be read"
    for file in data.files:
        file.write_text("no image either")
    with pytest.raises(DataError, match="no good image can be read; skipped: "):
        make("folder", tmp_path)


def test_an_image_that_vanishes_later_is_a_data_error(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png").rename(tmp_path / "1.png")
    data = make("folder", tmp_path)
    (tmp_path / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png: cannot be read"):
        data.read(np.array([0]))


def test_mixed_sizes_and_modes_are_brought_to_one_shape(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png", pixels(10, 12))
    write_image(tmp_path / "1.png", pixels(10, 12, 4))
    write_image(tmp_path / "2.png", pixels(20, 12).astype(np.uint16) * 257)
    data = make("folder", tmp_path, size=[6, 7])
    assert data.read(np.arange(3)).shape == (3, 3, 6, 7)
    assert data.notes == ("images of 2 sizes, all brought to one: 2 of 12x10, 1 of 12x20",)


def test_colour_is_seen_chosen_or_asked_for(tmp_path: Path) -> None:
    grey = np.repeat(pixels(8, 8, 1), 3, axis=-1)
    write_image(tmp_path / "0.png", grey)
    write_image(tmp_path / "1.png", grey[..., 0])
    assert make("folder", tmp_path).shape == (1, 64, 64)
    assert make("folder", tmp_path, colour="rgb", size=5).shape == (3, 5, 5)
    write_image(tmp_path / "2.png")
    assert make("folder", tmp_path).shape == (3, 64, 64)
    assert make("folder", tmp_path, colour="grey").shape == (1, 64, 64)
    assert make("folder", tmp_path, colour="grey", shape=(3, 4, 4)).shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"colour": "sepia"}, "folder.colour: 'sepia' must be one of auto, grey, rgb"),
        ({"size": 0}, "folder.size: 0 must be a whole number from 1 to 4,096"),
        ({"size": [3]}, r"folder.size: \[3\] must be one number or \[height, width\]"),
        ({"shape": (2, 8, 8)}, "folder: images have 1 or 3 channels, not 2"),
    ],
)
def test_folder_parameters_are_checked(tree: Path, params: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make("folder", tree / "product", **params)


def test_masks_are_found_under_other_names_and_endings(tmp_path: Path) -> None:
    write_mvtec(tmp_path)
    masks = tmp_path / "ground_truth" / "hole"
    expected = make("folder", tmp_path).masks(np.arange(10))
    (masks / "001_mask.png").rename(masks / "001.png")
    with Image.open(masks / "002_mask.png") as image:
        image.convert("RGB").save(masks / "002_mask.jpg", quality=95)
    (masks / "002_mask.png").unlink()
    data = make("folder", tmp_path)
    assert data.notes == ()
    for found, mask in zip(data.masks(np.arange(10)), expected, strict=True):
        np.testing.assert_array_equal(found, mask)


def test_a_mask_that_cannot_be_used_costs_only_itself(tmp_path: Path) -> None:
    write_mvtec(tmp_path)
    masks = tmp_path / "ground_truth" / "hole"
    (masks / "000_mask.png").write_bytes(b"damaged")
    (masks / "001_mask.png").unlink()
    write_image(masks / "002_mask.png", np.zeros((16, 20), np.uint8))
    data = make("folder", tmp_path)
    found = data.masks(np.arange(10))
    assert [mask is None for mask in found] == [False] * 7 + [True] * 3
    (note,) = data.notes
    assert note.startswith(f"3 masks are missing or cannot be used: {masks / '000_mask.png'}: cannot be read")
    assert f"{tmp_path / 'test' / 'hole' / '001.png'} has none" in note
    assert f"{masks / '002_mask.png'}: a mask of 20x16 pixels on an image of 16x16" in note


def test_masks_without_images_and_without_any_use_are_noted(tmp_path: Path) -> None:
    write_mvtec(tmp_path)
    spare = write_image(tmp_path / "ground_truth" / "crack" / "077_mask.png", np.zeros((16, 16), np.uint8))
    assert make("folder", tmp_path).notes == (f"left out: masks without an image: 1, such as {spare}",)
    for file in (tmp_path / "ground_truth").rglob("*.png"):
        file.rename(file.with_name(f"no{file.name}"))
    data = make("folder", tmp_path)
    assert data.masks(np.arange(2)) is None
    assert f"{tmp_path / 'ground_truth'}: no masks there that fit the names" in data.notes[-1]


def test_a_mask_may_be_finer_than_its_image(tmp_path: Path) -> None:
    write_mvtec(tmp_path)
    thin = np.zeros((64, 64), np.uint8)
    thin[20] = 255
    write_image(tmp_path / "ground_truth" / "crack" / "000_mask.png", thin)
    (mask,) = make("folder", tmp_path, size=8).masks(np.array([4]))
    np.testing.assert_array_equal(mask, thin > 0)


def test_folders_of_good_images_are_known_in_other_spellings(tmp_path: Path) -> None:
    write_mvtec(tmp_path)
    (tmp_path / "test" / "good").rename(tmp_path / "test" / "good ")
    (tmp_path / "train" / "good").rename(tmp_path / "train" / "Good")
    data = make("folder", tmp_path)
    assert data.classes == ("good", "crack", "hole")
    assert np.bincount(data.labels).tolist() == [6, 1, 3]
    assert data.notes == tuple(
        f"{tmp_path / part / name}: taken for 'good'" for part, name in (("train", "Good"), ("test", "good "))
    )


def test_images_keep_their_proportions(tmp_path: Path) -> None:
    """The most frequent size makes the shape; what has other proportions lies at the top left, its edges repeated."""
    wide = np.zeros((10, 25, 3), np.uint8)
    wide[:, 20:] = 255
    for i in range(2):
        write_image(tmp_path / "train" / "good" / f"{i}.png", wide)
    write_image(
        tmp_path / "test" / "crack" / "0.png", np.tile(np.arange(10, 20, dtype=np.uint8)[:, None], 10)
    )
    mask = np.zeros((30, 30), np.uint8)
    mask[:, 27:] = 255
    write_image(tmp_path / "ground_truth" / "crack" / "0_mask.png", mask)
    data = make("folder", tmp_path, size=20)
    assert data.shape == (1, 20, 50)
    images = data.read(np.arange(3))
    assert images[0, 0, :, :38].max() < 0.02
    assert images[0, 0, :, 42:].min() > 0.98
    np.testing.assert_array_equal(images[2, :, :, 20:], images[2, :, :, 19:20].repeat(30, 2))
    _, _, marked = data.masks(np.arange(3))
    assert marked.shape == (30, 75)  # the canvas at the size of the mask
    assert np.flatnonzero(marked.any(0)).tolist() == [27, 28, 29]
    assert make("folder", tmp_path, shape=(3, 8, 8)).read(np.arange(1))[0, 0, :, -1].min() > 0.9  # squeezed


# Sets with masks


def test_categories_of_mvtec_are_found_by_name(tmp_path: Path) -> None:
    write_mvtec(tmp_path / "mvtec_ad" / "metal_nut")
    write_mvtec(tmp_path / "Screw")
    for category in ("metal_nut", "Metal Nut", "SCREW"):
        data = make("mvtec-ad", tmp_path, category=category, size=8)
        assert (data.shape, data.classes) == ((3, 8, 8), ("good", "crack", "hole"))
    with pytest.raises(DataError, match=r"mvtec-ad\.category: 'nut' must be one of bottle, cable"):
        make("mvtec-ad", tmp_path, category="nut")
    with pytest.raises(DataError, match=r"no bottle/train/good in .*; get bottle from https"):
        make("mvtec-ad", tmp_path, category="bottle")
    with pytest.raises(DataError, match="no data root"):
        make("mvtec-ad", category="bottle")


@pytest.mark.parametrize("layout", ["published", "masks"])
def test_crackforest_is_cut_into_tiles(tmp_path: Path, layout: str) -> None:
    from scipy.io import savemat

    for i in range(10):
        labels = np.ones((64, 100), np.uint8)
        labels[40, 70:90] = 2
        if layout == "published":
            write_image(tmp_path / "image" / f"{i:03}.jpg", pixels(64, 100, 3))
            file = tmp_path / "groundTruth" / f"{i:03}.mat"
            file.parent.mkdir(exist_ok=True)
            savemat(file, {"groundTruth": {"Segmentation": labels, "Boundaries": labels * 0}})
        else:
            write_image(tmp_path / "test" / "crack" / f"{i:03}.png", pixels(64, 100, 3))
            write_image(tmp_path / "ground_truth" / "crack" / f"{i:03}_mask.png", 255 * (labels - 1))
    data = make("crackforest", tmp_path, tile=32)
    assert data.shape == (1, 32, 32)
    # 2 x 3 tiles, of which one has the crack: 6 photographs for training, 4 for the test.
    assert [int((data.parts == part).sum()) for part in (0, 1)] == [6 * 5, 4 * 6]
    assert data.labels[data.parts == 0].max() == 0
    masks = np.stack(data.masks(np.arange(len(data.labels))))
    assert np.array_equal(masks.any((1, 2)), data.labels == 1)
    assert {int(mask.sum()) for mask in masks} == {0, 20}
    assert masks[data.labels == 1][:, 8, 6:26].all()
    assert not np.array_equal(make("crackforest", tmp_path, tile=32, seed=1).images, data.images)
    with pytest.raises(DataError, match=r"crackforest\.tile: .* is smaller than 128"):
        make("crackforest", tmp_path, tile=128)


def test_damage_to_crackforest_is_said(tmp_path: Path) -> None:
    write_image(tmp_path / "image" / "001.jpg", pixels(64, 64, 3))
    with pytest.raises(DataError, match="has no labels in"):
        make("crackforest", tmp_path, tile=32)
    file = tmp_path / "groundTruth" / "001.mat"
    file.parent.mkdir()
    file.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"001\.mat: cannot be read as CrackForest's labels"):
        make("crackforest", tmp_path, tile=32)
    file.unlink()
    write_image(file.with_suffix(".png"), np.zeros((32, 64), np.uint8))
    with pytest.raises(DataError, match=r"001\.png: labels of \(32, 64\) for an image of \(64, 64\)"):
        make("crackforest", tmp_path, tile=32)


def test_cats_are_read_from_their_folders(tmp_path: Path) -> None:
    for folder in ("CAT_00", "CAT_06"):
        write_image(tmp_path / "cats" / folder / "00000001_000.jpg", pixels(20, 30, 3))
        (tmp_path / "cats" / folder / "00000001_000.jpg.cat").write_text("9 1 2")
    data = make("cat", tmp_path)
    assert (data.shape, data.classes, len(data.labels)) == ((3, 224, 224), ("good",), 2)
    assert data.read(np.arange(2)).shape == (2, 3, 224, 224)
    assert data.masks(np.arange(2)) is None


# The sets themselves


@pytest.mark.data
def test_the_published_sets_are_read(data_root: Path) -> None:
    mnist = make("mnist", data_root)
    assert np.bincount(mnist.parts).tolist() == [60_000, 10_000]
    assert mnist.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert (
        abs(mnist.images[:60_000].mean() / 255 - 0.1307) < 1e-4
    )  # the figure that everybody normalises with
    cifar = make("cifar10", data_root)
    assert np.bincount(cifar.labels, minlength=10).tolist() == [6000] * 10
    tiny = make("tiny-imagenet", data_root)
    assert np.bincount(tiny.labels).tolist() == [50] * 200


@pytest.mark.data
@pytest.mark.parametrize(("name", "counts"), [("bottle", [209, 83]), ("screw", [320, 160])])
def test_mvtec_is_read(data_root: Path, name: str, counts: list[int]) -> None:
    data = make("mvtec-ad", data_root, category=name)
    assert np.bincount(data.parts).tolist() == counts
    assert data.notes == ()
    anomalous = np.flatnonzero(data.labels)
    assert all(mask.any() for mask in data.masks(anomalous))


@pytest.mark.data
def test_crackforest_is_read(data_root: Path) -> None:
    data = make("crackforest", data_root)
    assert len(data.labels) == 85 + 282
    assert np.bincount(data.labels[data.parts == 1]).tolist() == [50, 232]
