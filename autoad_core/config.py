"""The configuration of a run: YAML to frozen models. Names go to the registry; nothing is imported by dotted path."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from autoad_core.errors import ConfigError, shown, trouble
from autoad_core.spec import LIMITS

MAX_CONFIG_BYTES = 1_000_000
IMAGES_SHOWN = 50_000  # over all epochs at the full budget: small sets need many epochs, large ones few
PATCHES_SHOWN = 10_000  # at pixel level; of 64x64 they have about as many pixels as 50,000 images of 28x28

Whole = Annotated[int, Field(strict=True)]  # `yes` is not 1, "40" is not 40
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Ref(_Model):
    """A component and its parameters; a bare name stands for one without parameters."""

    name: str = Field(description="Short name, or `distribution/name`.")
    params: dict[str, Any] = Field(default_factory=dict, description="What the component's factory takes.")

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Data(_Model):
    """What is normal, what is not, and how the images are split."""

    protocol: Literal["auto", "ood", "one-class", "folder"] = Field(
        "auto",
        description="`ood`: one set is normal, others are anomalies. `one-class`: some classes of a set are normal, "
        "the others anomalies. `folder`: class `good` is normal, every other class is a type of defect. `auto`: `ood` where "
        "`anomalies` are named, `folder` where there is a class `good`, else `one-class`.",
    )
    dataset: Ref = Field(Ref(name="digits"), description="The data set that holds the normal images.")
    normal: tuple[str, ...] = Field(
        (), description="`one-class`: names of the normal classes; the first class by default."
    )
    anomalies: tuple[Ref, ...] = Field((), description="`ood`: the data sets whose images are anomalies.")
    held_out: tuple[str, ...] = Field(
        (), description="Anomaly sets, classes or defect types that only the test sees."
    )
    root: Path | None = Field(
        None, description="Folder of the data sets; `--data-root` and `AUTOAD_DATA` set it too."
    )
    train_images: Whole | None = Field(None, ge=2, description="Most training images; all by default.")
    contamination: Real = Field(
        0.05,
        gt=0,
        lt=1,
        description="`ood`: share of anomalies beside the normal images, in validation and test, for each set.",
    )
    search_normal: Whole = Field(500, ge=1, description="Most normal validation images that score a trial.")
    search_anomalous: Whole = Field(
        300, ge=1, description="Most validation images of each anomaly set that score a trial."
    )

    @field_validator("root")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value and value.expanduser().absolute()  # a run may be resumed from another folder


class SpaceConfig(_Model):
    """The search space; an empty list means every option there is."""

    layers: Whole = Field(
        3, ge=1, le=6, description="Encoder layers N; the decoder mirrors them. The space has 6N + 2 choices."
    )
    hypothesis: tuple[str, ...] = Field((), description="What counts as normal.")
    distance: tuple[str, ...] = Field(
        (), description="Distances between image and reconstruction; `l21+ssim` is a sum."
    )
    channels: tuple[Whole, ...] = Field(
        (3, 8, 16, 32, 64, 128, 256), min_length=1, description="Output channels of a layer."
    )
    kernel: tuple[Whole, ...] = Field(
        (1, 3, 5, 7), min_length=1, description="Sides of the convolution kernels; odd."
    )
    pooling: tuple[str, ...] = Field((), description="Pooling types.")
    pooling_kernel: tuple[Whole, ...] = Field(
        (1, 3, 5, 7), min_length=1, description="Sides and strides of the pooling."
    )
    normalization: tuple[str, ...] = Field((), description="Normalization types.")
    activation: tuple[str, ...] = Field((), description="Activation functions.")
    decoder: Literal["upsample-first", "paper"] = Field(
        "upsample-first",
        description="`paper`: transposed convolution before upsampling, as eq. 2 writes it; it reconstructs worse.",
    )

    @field_validator("channels", "kernel", "pooling_kernel")
    @classmethod
    def _in_range(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        most = LIMITS[str(info.field_name)]
        if any(not 1 <= v <= most for v in value):
            raise ValueError(f"must be from 1 to {most}")
        return value

    @field_validator("kernel")
    @classmethod
    def _odd(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(v % 2 == 0 for v in value):
            raise ValueError("must be odd, so that the convolution keeps the size of the map")
        return value


class Search(_Model):
    """How many trials, how dear, and how the best are told."""

    trials: Whole = Field(
        40, ge=1, description="Proposals of the controller, skipped and cached ones included."
    )
    first_budget: Real = Field(
        0.25,
        gt=0,
        le=1,
        description="Share of the training budget that each trial gets; the best are trained in full afterwards.",
    )
    promote: Whole = Field(
        8, ge=1, description="How many of the best trials are trained once more at the full budget."
    )
    random_trials: Whole = Field(
        10, ge=0, description="Trials of random search to compare with, at the same budget."
    )
    keep: Whole = Field(3, ge=1, description="How many of the best models are kept and tested.")
    lag: Whole = Field(
        8,
        ge=1,
        description="Proposal i knows the outcomes of trials up to i - lag: results do not depend on workers.",
    )
    weight_sharing: bool = Field(
        False,
        description="Children of the search start from weights that earlier ones learned, by layer and operation; those of "
        "random search and of the full budget start from nothing. A reward then depends on the trials before it.",
    )
    max_cost: Real = Field(
        0.75,
        gt=0,
        le=1,
        description="Skip architectures whose predicted cost lies above this quantile of the space; 1 trains all.",
    )
    time_limit: Real = Field(
        900, gt=0, description="Seconds of wall time after which a child is ended; a safety net."
    )
    memory_limit: Real = Field(8, gt=0, description="GiB that a child may allocate; a safety net.")


class Train(_Model):
    """How a child is trained (design, 6)."""

    images: Whole | None = Field(
        5000, ge=2, description="Training images that a child sees at most; `null` for all."
    )
    epochs: Whole | None = Field(
        None,
        ge=1,
        description=f"Passes over them; by default as many as show the child {IMAGES_SHOWN:,} images in all, or "
        f"{PATCHES_SHOWN:,} patches.",
    )
    patch: Whole = Field(
        64,
        ge=8,
        le=1024,
        description="`reward.level: pixel`: side of the patches, one of each image in every epoch.",
    )
    batch_size: Whole = Field(64, ge=1, description="Images a step.")
    learning_rate: Real = Field(3e-3, gt=0, description="Of Adam; times 0.1 at 50 % and 75 % of the epochs.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Arithmetic of the networks; `auto` takes bfloat16 where the processor has it. Kept on resume.",
    )


class Reward(_Model):
    """What a trial is worth."""

    level: Literal["image", "pixel"] = Field(
        "image",
        description="What is scored. `pixel` needs masks of the anomalies: children are trained on patches and give maps.",
    )
    scores: Annotated[dict[str, tuple[str, ...]], Field(min_length=1)] | None = Field(
        None,
        description="Anomaly scores, each a sum of standardised terms: names of distances, `distance` for the child's own, "
        "`hypothesis` for its hypothesis's term. The best of them on validation is the reward. By default `own`: distance and "
        "hypothesis; and `sum`: l2, ssim, relative and hypothesis. At level `pixel` a term is standardised over all pixels of "
        "training images, or with `@place` behind its name over the same place in them. There the defaults are five: both, "
        "both `@place`, and `place`: the term `code`, how far the code is from what training images have at the same place.",
    )
    aggregate: Literal["minimum", "mean"] = Field(
        "minimum", description="Of the AUROCs of the anomaly sets, at level `image`."
    )
    metric: Literal["pixel_auroc", "au_pro", "rpro", "image_auroc", "mean"] = Field(
        "au_pro", description="At level `pixel`: what a trial is worth; `mean` is that of the other four."
    )
    smoothing: tuple[Annotated[Real, Field(ge=0, le=100)], ...] = Field(
        (4.0, 8.0),
        min_length=1,
        description="At level `pixel`: sigma of the Gaussian that maps are smoothed with, 0 to 100 pixels. Of several, every "
        "score is tried under each, with `~4` behind its name.",
    )
    area: Real = Field(
        0.001,
        gt=0,
        lt=1,
        description="At level `pixel`: share of an image that a connected part of a normal image's map must stay below, where "
        "RPRO sets its threshold.",
    )

    @field_validator("smoothing", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | float) else value

    def definitions(self) -> dict[str, tuple[tuple[str, ...], float]]:
        """By name, terms and smoothing of ``scores`` or the defaults of the level; under each smoothing, if there are several."""
        if self.level == "image":
            return {name: (terms, 0.0) for name, terms in (self.scores or SCORES).items()}
        every = self.scores or SCORES | PLACE_SCORES
        if len(self.smoothing) == 1:
            return {name: (terms, self.smoothing[0]) for name, terms in every.items()}
        return {f"{k} ~{sigma:g}": (terms, sigma) for k, terms in every.items() for sigma in self.smoothing}


SCORES: dict[str, tuple[str, ...]] = {
    "own": ("distance", "hypothesis"),
    "sum": ("l2", "ssim", "relative", "hypothesis"),
}
PLACE_SCORES: dict[str, tuple[str, ...]] = {
    **{f"{name}@place": tuple(f"{term}@place" for term in terms) for name, terms in SCORES.items()},
    "place": ("code",),
}


class TableConfig(_Model):
    """A table of measured architectures, in which trials are looked up instead of trained."""

    path: Path = Field(description="The table, such as `benchmarks/adnas/adnas.npz`.")
    task: str = Field(description="Which of its tasks.")
    score: str = Field(
        "best", description="`own`, `sum`, a single term, or `best` for the better of `own` and `sum`."
    )
    anomalies: str = Field(
        "minimum", description="One of the task's anomaly sets, or `minimum` or `mean` over them."
    )

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()


class Config(_Model):
    """One search."""

    preset: Literal["default", "paper"] = Field(
        "default",
        description="`paper`: only the published space, the published learning rate of 0.1, the score of eq. 2 and no cost cap. "
        "Keys that are given win over the preset.",
    )
    seed: Whole = Field(0, ge=0, lt=2**63, description="Of everything random.")
    workers: Whole = Field(
        0, ge=0, description="Processes that train; 0 is one a core. Does not change the results."
    )
    data: Data = Field(default_factory=lambda: Data.model_validate({}), description="The images.")
    space: SpaceConfig = Field(
        default_factory=lambda: SpaceConfig.model_validate({}), description="The search space."
    )
    architecture: dict[str, Any] | None = Field(
        None,
        description="Train this one architecture instead of searching: `hypothesis`, `distance` and `layers`.",
    )
    controller: Ref = Field(Ref(name="regularized-evolution"), description="The search strategy.")
    search: Search = Field(
        default_factory=lambda: Search.model_validate({}), description="Trials and limits."
    )
    train: Train = Field(default_factory=lambda: Train.model_validate({}), description="Training of a child.")
    reward: Reward = Field(
        default_factory=lambda: Reward.model_validate({}), description="What a trial is worth."
    )
    refine: tuple[Ref, ...] = Field(
        (),
        max_length=8,
        description="At level `pixel`: refinements that the maps of the models found go through, one after the other, such as "
        "`[saliency, grad-cam]`. They do not take part in the search; the table has the best model with and without them.",
    )
    table: TableConfig | None = Field(
        None,
        description="Look trials up in a table instead of training them, to compare strategies in seconds: `path`, `task`, and "
        "if other than `best` and `minimum`, `score` and `anomalies`. Of the other keys, `seed`, `controller`, `search.trials`, "
        "`random_trials`, `lag` and `keep` count.",
    )

    @model_validator(mode="after")
    def _refine_maps(self) -> Config:
        if self.refine and self.reward.level != "pixel":
            raise ValueError("refine: needs reward.level 'pixel', since only maps can be refined")
        return self


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "search": {"max_cost": 1.0},
        "train": {"learning_rate": 0.1, "precision": "float32"},
        "reward": {"scores": {"own": ["distance", "hypothesis"]}},
    },
}


def parse(data: Any, where: str = "configuration") -> Config:
    """A configuration from plain YAML values.

    Raises:
        ConfigError: With the path of the key, what is wrong and the nearest valid key.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected keys and values, got {type(data).__name__}")
    named = data.get("preset")
    preset = PRESETS.get(named, {}) if isinstance(named, str) else {}
    try:
        config = Config.model_validate(merge(preset, data))
        config.model_dump(mode="json")  # what cannot be written down could not be resumed
        return config
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error)}") from error
    except ValueError as error:  # endless nesting, bytes
        raise ConfigError(f"{where}: {error}") from error


class _Loader(yaml.SafeLoader):
    """Plain values only: neither aliases, with which a small file can stand for a huge one, nor a key given twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not supported here", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (k for k, _ in node.value if isinstance(k, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"the key {key.value!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load(path: Path) -> dict[str, Any]:
    """The plain values of a YAML file.

    Raises:
        ConfigError: The file is missing, too large, not text or not YAML.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes; is it a configuration?")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({trouble(error)})") from error
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read ({error}); is it a configuration?") from error
    try:
        data = _Loader(text).get_single_data()
    except Exception as error:  # on odd scalars PyYAML raises anything: KeyError on `!!bool x`
        reason = " ".join(str(error).split()).replace('in "<unicode string>", line', "at line")
        raise ConfigError(f"{path}: not YAML ({reason})") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values, got {type(data).__name__}")
    return data


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the keys of ``over`` put in, section by section; ``reward.scores`` is replaced whole."""
    out = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(out.get(key), Mapping) and key != "scores":
            out[key] = merge(out[key], value)
        else:
            out[key] = value
    return out


def budget(train: Train, available: int, fraction: float, shown: int = IMAGES_SHOWN) -> tuple[int, int]:
    """Epochs and images that make ``fraction`` of the full budget: fewer epochs first, then fewer images.

    Args:
        shown: Images, or patches, over all epochs that the number of epochs makes up by default.
    """
    full = min(train.images or available, available)
    passes = train.epochs or math.ceil(shown / full)
    epochs = max(1, math.ceil(round(passes * fraction, 9)))  # 70 * 0.1 is 7, not a little more
    return epochs, max(2, min(full, round(full * passes * fraction / epochs)))


def images_shown(config: Config) -> int:
    """Images or patches that a child sees over all epochs, where their number is not given."""
    return IMAGES_SHOWN if config.reward.level == "image" else PATCHES_SHOWN


def _explain(error: ValidationError) -> str:
    """The first fault of ``error`` as ``path: what; hint``."""
    faults = error.errors()
    # A misspelt key first: it is often why another one is missing.
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    path = [part for part in fault["loc"] if part != "_bare_name"]
    key = " ".join(".".join(map(str, path)).split())[:200]
    if fault["type"] == "extra_forbidden":
        known = _fields_at(path[:-1])
        close = difflib.get_close_matches(str(path[-1]), known, n=1)
        return f"{key}: unknown key; " + (
            f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
        )
    given = "" if isinstance(fault["input"], Mapping) else f", got {shown(fault['input'])}"
    text = fault["msg"].removeprefix("Value error, ").partition(" or instance of ")[0]
    return f"{key}: {text}{given}" if key else text


def _fields_at(path: list[Any]) -> list[str]:
    """Names of the keys that the section at ``path`` may have."""
    model: Any = Config
    for part in path:
        if isinstance(part, str):
            model = model.model_fields[part].annotation
            model = next(
                (a for a in getattr(model, "__args__", ()) if isinstance(a, type) and issubclass(a, _Model)),
                model,
            )
    return list(getattr(model, "model_fields", {}))
