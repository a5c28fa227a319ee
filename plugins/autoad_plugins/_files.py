"""Where public data sets lie under the data root, and how they get there."""

from __future__ import annotations

import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoad_core.data import ArrayDataset
from autoad_core.errors import DataError
from autoad_plugins._params import flag

Bytes = NDArray[np.uint8]
Piece = tuple[Bytes, Bytes]  # images (n, C, H, W) and labels (n,)
Notes = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remote:
    """A file at a stable address; archives are unpacked."""

    url: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A public data set in the layout it is distributed in.

    Args:
        name: Of the data set and of its folder under the data root.
        holds: What the folder must hold, in words.
        page: Where a person gets it.
        marks: Globs; the folder where one of them matches is the right one.
        inside: Where the files lie within the folder, most likely first.
        remotes: What to download; empty where no stable address is known.
    """

    name: str
    holds: str
    page: str
    marks: tuple[str, ...]
    inside: tuple[str, ...] = ("",)
    remotes: tuple[Remote, ...] = ()


def locate(published: Published, root: Path | None, download: Any = False) -> Path:
    """The folder with the files, at ROOT/<name> or else at ROOT itself.

    Args:
        published: What to look for.
        root: The data root.
        download: True fetches to ROOT/<name> what is not there yet.

    Raises:
        DataError: No root, nothing there, or a download that failed; the message says what to do.
    """
    name = published.name
    if root is None:
        raise DataError(f"{name}: no data root; pass --data-root DIR or set AUTOAD_DATA")
    places = [base / inside for base in (root / name, root) for inside in published.inside]
    if (found := _first(places, published.marks)) is not None:
        return found
    wanted = f"get {published.holds} from {published.page} and put it into {root / name}"
    if flag(f"{name}.download", download):
        _download(published, root / name, wanted)
        if (found := _first(places, published.marks)) is not None:
            return found
    looked = f"not found in {root / name} or {root}" if root.exists() else f"there is no folder {root}"
    offer = ", or set its parameter download: true" if published.remotes else ""
    raise DataError(f"{name}: {looked}; {wanted}{offer}")


def _first(places: list[Path], marks: tuple[str, ...]) -> Path | None:
    hits = (place for place in places if any(next(place.glob(mark), None) for mark in marks))
    return next(hits, None)


def _download(published: Published, target: Path, by_hand: str) -> None:
    if not published.remotes:
        raise DataError(f"{published.name}: no stable address to download from; {by_hand}")
    try:
        import pooch

        target.mkdir(parents=True, exist_ok=True)
        for remote in published.remotes:
            name = remote.url.rpartition("/")[2]
            file = pooch.retrieve(remote.url, f"sha256:{remote.sha256}", fname=name, path=target)
            _unpack(Path(file), target)
    except ImportError as error:
        raise DataError(f"{published.name}: downloads need pip install 'autoad[download]'") from error
    except (OSError, ValueError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{published.name}: the download failed ({reason}); {by_hand}") from error


def _unpack(archive: Path, target: Path) -> None:
    """Unpack aside and move at the end, so that a folder that is there is complete; other files stay as they are."""
    with tempfile.TemporaryDirectory(dir=target, prefix=".unpacking-") as aside:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(aside)  # leaves out drives, roots, ".." and links by itself
        elif tarfile.is_tarfile(archive):
            # Python 3.11.0 to 3.11.3 have no filters; there the checksum alone vouches for the archive.
            safely: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            with tarfile.open(archive) as tarred:
                tarred.extractall(aside, **safely)
        else:
            return
        for item in Path(aside).iterdir():
            item.rename(target / item.name)
    archive.unlink()


def join(
    parts: Mapping[str, list[Piece]], classes: tuple[str, ...], folder: Path, notes: Notes = ()
) -> ArrayDataset:
    """One data set of the parts that are there.

    Args:
        parts: Under ``train`` and ``test`` the pieces of the published parts, none where it is not there. With
            only one of them the set has no published split.
        classes: Names of the labels.
        folder: Named in errors.
        notes: Lines for the user.

    Raises:
        DataError: Images of different shapes, or a label without a class.
    """
    pieces = [piece for part in parts.values() for piece in part]
    if len({images.shape[1:] for images, _ in pieces}) > 1:
        raise DataError(f"{folder}: the files hold images of different shapes; get them again")
    labels = np.concatenate([labels for _, labels in pieces]).astype(np.int64)
    if (top := labels.max()) >= len(classes):
        raise DataError(f"{folder}: label {top} is beyond the {len(classes)} classes; get the files again")
    there = [name for name, part in parts.items() if part]
    if len(there) == 1:
        notes = (*notes, f"only the published {there[0]} part is in {folder}; splits are drawn from it")
    sizes = [sum(len(labels) for _, labels in part) for part in parts.values()]
    split = np.repeat(np.arange(len(sizes)), sizes) if len(there) > 1 else None
    return ArrayDataset(np.concatenate([images for images, _ in pieces]), labels, classes, split, notes=notes)
