"""`autoad predict --heatmaps DIR`: one picture an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from autoad_core.errors import ConfigError, DataError, ModelError, trouble

if TYPE_CHECKING:
    from autoad_core.data import Bools, Floats
    from autoad_core.modelfile import Model
    from autoad_core.pictures import Look


class Heatmaps:
    """Pictures of score maps in a folder.

    Attributes:
        note: What the user should know about the contours; may be empty.
    """

    def __init__(self, folder: Path, look: Look, note: str) -> None:
        self._folder, self._look, self.note = folder, look, note
        self._used: set[str] = set()

    @classmethod
    def prepare(cls, model: Model, score: str, folder: Path, rate: float) -> Heatmaps:
        """Make the folder.

        Raises:
            ModelError: The model makes no maps, or knows no normal images to set a contour by.
            ConfigError: The folder cannot be made.
        """
        from autoad_core.pictures import Look

        usual = model.expected(score) or model.usual.get(score)
        if usual is None or not usual.pixels:
            raise ModelError(
                "--heatmaps: this model scores whole images, so it has no maps; search with reward.level 'pixel' and masks"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--heatmaps: {folder}: {trouble(error)}") from error
        _, promised = usual.pixel_threshold(rate)
        if model.expected(score) is None:
            note = "contours are at the level of maps before refinement, for of refined ones no good images are known"
            return cls(folder, Look.of(usual, rate), note)
        note = "" if promised else (
            f"contours enclose {rate:g} of the pixels of the {len(usual.scores)} normal validation images; so few can promise "
            "nothing about the pixels of new ones"
        )  # fmt: skip
        return cls(folder, Look.of(usual, rate), note)

    def draw(self, path: Path, scores: Floats) -> None:
        """Write the picture of one image, whose map lies on the model's canvas.

        Raises:
            DataError: The image has gone, or the picture cannot be written.
        """
        from PIL import Image

        from autoad_core.images import read_image
        from autoad_core.pictures import panels, uncanvassed

        image = read_image(path)
        own = uncanvassed(scores, (image.shape[1], image.shape[2]))
        target = self._folder / self._name(path)
        try:
            Image.fromarray(panels(image, own, self._look, known_mask(path))).save(target)
        except OSError as error:
            raise DataError(f"--heatmaps: {target}: {trouble(error)}") from error

    def _name(self, path: Path) -> str:
        """``type_image.png``, with a number where another image has that name."""
        stem = f"{path.parent.name}_{path.stem}" if path.parent.name else path.stem
        name, count = stem, 1
        while name in self._used:
            count += 1
            name = f"{stem}-{count}"
        self._used.add(name)
        return f"{name}.png"


def known_mask(path: Path) -> Bools | None:
    """The mask of an image in ``TYPE`` or ``test/TYPE``, where ``ground_truth/TYPE`` beside that has one that can be read."""
    from autoad_core.images import EXTENSIONS, read_mask

    above = path.parent.parent
    masks = (above.parent if above.name == "test" else above) / "ground_truth" / path.parent.name
    endings = (*EXTENSIONS, *(ending.upper() for ending in EXTENSIONS))
    for name in (f"{path.stem}{mark}{ending}" for mark in ("_mask", "") for ending in endings):
        if (masks / name).is_file():
            try:
                return read_mask(masks / name)
            except DataError:
                return None
    return None
