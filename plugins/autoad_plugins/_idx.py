"""MNIST and the sets distributed in its format, IDX: a magic number, the dimensions, then bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from autoad_core.data import ArrayDataset
from autoad_core.errors import DataError
from autoad_plugins._files import Bytes, Piece, Published, Remote, join, locate

MAX_BYTES = 2**31


def read_idx(path: Path, dims: int) -> Bytes:
    """An array of bytes with ``dims`` dimensions from an IDX file, gzipped or plain whatever its name.

    Raises:
        DataError: Another format, empty, cut short, too long or damaged; the message names the file.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if zipped else path.open("rb") as stream:
            return _parse(stream, dims)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as IDX ({reason}); get the file again") from error


def _parse(stream: BinaryIO | gzip.GzipFile, dims: int) -> Bytes:
    header = stream.read(4 + 4 * dims)
    if header[:4] != bytes([0, 0, 8, dims]):  # two zeros, the type unsigned byte, the number of dimensions
        raise ValueError(
            f"starts with {header[:4].hex() or 'nothing'}, expected {bytes([0, 0, 8, dims]).hex()}"
        )
    if len(header) < 4 + 4 * dims:
        raise ValueError("ends within its header")
    shape = struct.unpack(f">{dims}I", header[4:])
    size = math.prod(shape)
    if not 0 < size <= MAX_BYTES:
        raise ValueError(f"says {'x'.join(map(str, shape))} bytes, expected 1 to {MAX_BYTES:,}")
    data = stream.read(size + 1)  # no more than announced, whatever a gzip stream would expand to
    if len(data) != size:
        found = f"only {len(data):,}" if len(data) < size else "more"
        raise ValueError(f"announces {size:,} bytes after its header and has {found}")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _pieces(folder: Path, prefix: str) -> list[Piece]:
    """Images (n, 1, H, W) and labels (n,) of one part, nothing if neither file is there."""
    images_file = _either(folder, f"{prefix}-images-idx3-ubyte")
    labels_file = _either(folder, f"{prefix}-labels-idx1-ubyte")
    if images_file is None or labels_file is None:
        if (alone := images_file or labels_file) is None:
            return []
        raise DataError(
            f"{alone}: is there without its {'images' if images_file is None else 'labels'}; add them"
        )
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    if len(images) != len(labels):
        raise DataError(
            f"{labels_file}: {len(labels):,} labels for {len(images):,} images; get the files again"
        )
    return [(images[:, None], labels)]


def _either(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / f"{name}.gz", folder / name) if file.exists()), None)


def _make(
    published: Published,
    classes: tuple[str, ...],
    root: Path | None,
    shape: tuple[int, int, int] | None,
    seed: int,
    *,
    download: Any = False,
) -> ArrayDataset:
    """Grey images (1, 28, 28).

    Args:
        published: Where to look.
        classes: Names of the labels.
        root: The data root.
        shape: Not used.
        seed: Not used.
        download: True fetches what is missing.

    Raises:
        DataError: Missing or damaged files.
    """
    folder = locate(published, root, download)
    parts = {"train": _pieces(folder, "train"), "test": _pieces(folder, "t10k")}
    alone = (f"{published.name} was read from {folder} itself; its files do not say which set they are",)
    return join(parts, classes, folder, alone if folder == root else ())


def _published(
    name: str, page: str, torchvision: str, url: str = "", sha256: tuple[str, ...] = ()
) -> Published:
    files = [
        f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ]
    return Published(
        name=name,
        holds="train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz and the same for t10k",
        page=page,
        marks=("train-images-idx3-ubyte*", "t10k-images-idx3-ubyte*"),
        inside=("", f"{torchvision}/raw"),
        remotes=tuple(Remote(f"{url}/{file}", digest) for file, digest in zip(files, sha256, strict=False)),
    )


_MNIST = _published(
    "mnist",
    "https://github.com/cvdf-foundation/mnist",
    "MNIST",
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)
_FASHION = _published(
    "fashion-mnist",
    "https://github.com/zalandoresearch/fashion-mnist",
    "FashionMNIST",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)
_KMNIST = _published(
    "kmnist",
    "https://github.com/rois-codh/kmnist",
    "KMNIST",
    "http://codh.rois.ac.jp/kmnist/dataset/kmnist",
    (
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
)
_NOTMNIST = _published("notmnist", "https://github.com/davidflanagan/notMNIST-to-MNIST", "notMNIST")

_CLOTHES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)

mnist = partial(_make, _MNIST, tuple("0123456789"))
fashion_mnist = partial(_make, _FASHION, _CLOTHES)
kmnist = partial(_make, _KMNIST, ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"))
notmnist = partial(_make, _NOTMNIST, tuple("ABCDEFGHIJ"))
