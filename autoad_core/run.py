"""A run on disk. Whatever happens, what was finished stays, and the rest can go on from it (design, 8).

config.yaml      the configuration, and all that was resolved from it: ids, versions, data hashes, machine
trials.jsonl     one line an outcome, in the order of the trials; appended and synced
test.hashes      one line a test image: none of them may reach the search
models/ID/       the best models
cases/           pictures of test images: what the best model finds and misses
result.json      what came out
lock             held by the one process that works on the run
state/           controller, results that wait for their turn, candidate models, the search's images
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from autoad_core.errors import ModelError, RunError, trouble
from autoad_core.modelfile import read_json, write_json

Record = dict[str, Any]
KEPT_STATES = 2


@dataclass(frozen=True, slots=True)
class Run:
    """The folder of a run. Make one with `create` or `open_run`, which lock it."""

    folder: Path

    @property
    def trials(self) -> Path:
        """The journal."""
        return self.folder / "trials.jsonl"

    @property
    def models(self) -> Path:
        """The best models, by trial."""
        return self.folder / "models"

    @property
    def cases(self) -> Path:
        """Pictures of test images, see `autoad_core.cases`."""
        return self.folder / "cases"

    @property
    def candidates(self) -> Path:
        """Models that may be among the best yet, by trial."""
        return self.folder / "state" / "models"

    @property
    def images(self) -> Path:
        """Training and validation images of the search, while it runs."""
        return self.folder / "state" / "images"

    @property
    def shared(self) -> Path:
        """Weights that the children of a search share, see `autoad_core.sharing`."""
        return self.folder / "state" / "shared"

    @property
    def config(self) -> dict[str, Any]:
        """What `create` wrote.

        Raises:
            RunError: Not a run.
        """
        path = self.folder / "config.yaml"
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
            return {key: {**data[key]} for key in ("config", "resolved")}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunError(
                f"{self.folder}: not a run of autoad ({path.name}: {reason}); name a folder that autoad search made"
            ) from error

    def records(self) -> list[Record]:
        """The outcomes in the journal. A torn last line, left by a kill, is not among them.

        Raises:
            RunError: A line before the last is not what was written.
        """
        return _parse(self.trials)[0]

    def result(self) -> dict[str, Any] | None:
        """What came out; None before the end."""
        path = self.folder / "result.json"
        if not path.exists():
            return None
        found = read_json(path)
        if not isinstance(found, dict) or not isinstance(found.get("models"), list):
            raise RunError(f"{path}: damaged; remove it, then: autoad resume {self.folder}")
        return found


@contextmanager
def explain_disk(folder: Path) -> Iterator[None]:
    """Turn a full disk or a forbidden write into a message that says what is safe and what to do.

    Raises:
        RunError: In place of OSError.
    """
    try:
        yield
    except OSError as error:
        what = {
            errno.EROFS: "the file system is read-only; choose another place with --run DIR",
            errno.EACCES: "no permission to write; choose another place with --run DIR",
            errno.EPERM: "no permission to write; choose another place with --run DIR",
        }.get(error.errno or 0, trouble(error))
        later = (
            f". What was finished stays: autoad resume {folder}" if (folder / "config.yaml").exists() else ""
        )
        raise RunError(f"{error.filename or folder}: {what}{later}") from error


@contextmanager
def create(folder: Path, config: Mapping[str, Any], resolved: Mapping[str, Any]) -> Iterator[Run]:
    """A new run, locked.

    Raises:
        RunError: The folder holds something already, cannot be written, or the disk is full.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:  # safetensors takes no such path
        raise RunError(f"{folder}: the name is not UTF-8; choose another with --run") from error
    with explain_disk(folder):
        if _taken(folder):
            raise RunError(
                f"{folder}: exists and is not empty; autoad resume {folder}, or choose another with --run"
            )
        folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder), explain_disk(folder):
        (folder / "state").mkdir(exist_ok=True)
        aside = folder / "config.yaml.new"
        text = yaml.safe_dump(
            {"config": dict(config), "resolved": dict(resolved)}, sort_keys=False, width=110
        )
        aside.write_text(text, encoding="utf-8")
        aside.rename(folder / "config.yaml")
        yield Run(folder)


def _taken(folder: Path) -> bool:
    """Whether there is anything but what a run leaves behind that was killed before it had a configuration."""
    if not folder.is_dir():
        return folder.exists()
    begun = {"lock", "state", "config.yaml.new"}
    return any(path.name not in begun for path in folder.iterdir()) or any(folder.glob("state/*"))


@contextmanager
def open_run(folder: Path) -> Iterator[Run]:
    """An existing run, locked.

    Raises:
        RunError: Not a run, or another process works on it.
    """
    run = Run(folder)
    _ = run.config
    with _locked(folder), explain_disk(folder):
        (folder / "state").mkdir(exist_ok=True)
        yield run


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with explain_disk(folder):
        file = (folder / "lock").open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"{folder}: another process works on this run; wait for it, or end it") from error
        yield


class Journal:
    """The outcomes of a run, appended one line each.

    Attributes:
        records: In the order of their ids, which count from 0.
        torn: Whether a torn last line was dropped on opening.
    """

    def __init__(self, run: Run) -> None:
        self.records, whole = _parse(run.trials)
        self.torn = run.trials.exists() and run.trials.stat().st_size > whole
        self._file: IO[bytes] = run.trials.open("ab")
        self._file.truncate(whole)

    def append(self, record: Record) -> None:
        """Write and sync one outcome. On a full disk nothing but a torn line, dropped later, is left."""
        line = json.dumps(record, sort_keys=True, allow_nan=False) + "\n"
        self._file.write(line.encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.records.append(json.loads(line))  # as a later life reads it: the same order of keys

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def _parse(path: Path) -> tuple[list[Record], int]:
    """The whole lines of a journal, and how many bytes they take."""
    records: list[Record] = []
    whole = 0
    data = path.read_bytes() if path.exists() else b""
    for line in data.splitlines(keepends=True):
        try:
            record = json.loads(line)
            if not line.endswith(b"\n") or record["id"] != len(records):
                raise ValueError("not the next trial")
        except (ValueError, KeyError, TypeError) as error:
            if whole + len(line) == len(data):
                break
            raise RunError(
                f"{path}: line {len(records) + 1} is damaged ({error}); restore the file"
            ) from error
        records.append(record)
        whole += len(line)
    return records, whole


def save_pending(run: Run, record_id: int, result: Mapping[str, Any]) -> None:
    """Keep a result whose turn in the journal has not come."""
    folder = run.folder / "state" / "pending"
    folder.mkdir(exist_ok=True)
    write_json(folder / f"{record_id}.json", dict(result), sync=False)


def load_pending(run: Run, first: int) -> dict[int, dict[str, Any]]:
    """The results kept by `save_pending` from trial ``first`` on; older and damaged ones are removed."""
    found = {}
    for path in sorted((run.folder / "state" / "pending").glob("*.json")):
        try:
            number, result = int(path.stem), read_json(path)
        except (ModelError, ValueError):
            path.unlink()
            continue
        if number < first:
            path.unlink()
        else:
            found[number] = result
    return found


def drop_pending(run: Run, record_id: int) -> None:
    """Forget a result that is in the journal now."""
    (run.folder / "state" / "pending" / f"{record_id}.json").unlink(missing_ok=True)


def save_state(run: Run, told: int, state: Mapping[str, Any]) -> None:
    """Keep the controller's state after ``told`` outcomes; the last two are kept."""
    from safetensors.torch import save

    tensors: dict[str, Any] = {}
    folder = run.folder / "state"
    path = folder / f"{told:06d}.json"
    plain = _without_tensors(state, tensors)
    if tensors:
        # Not save_file, to which a full disk is no OSError.
        path.with_suffix(".safetensors").write_bytes(save(tensors))
    write_json(path, {"told": told, "state": plain}, sync=False)
    for old in sorted(folder.glob("[0-9]*.json"))[:-KEPT_STATES]:
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def load_state(run: Run, most: int) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest state that is whole and knows at most ``most`` outcomes, and a line for each one that is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    notes: list[str] = []
    for path in sorted((run.folder / "state").glob("[0-9]*.json"), reverse=True):
        try:
            saved = read_json(path)
            tensors = path.with_suffix(".safetensors")
            state = _with_tensors(saved["state"], load_file(tensors) if tensors.exists() else {})
            if saved["told"] <= most:
                return dict(state), notes
        except (ModelError, SafetensorError, KeyError, TypeError, OSError, ValueError):
            notes.append(f"{path}: damaged, perhaps by a crash; the one before it is used, or the journal")
            path.unlink(missing_ok=True)
    return None, notes


def _without_tensors(value: Any, tensors: dict[str, Any]) -> Any:
    """``value`` with each tensor moved to ``tensors`` and its key left in its place."""
    if isinstance(value, Mapping):
        return {k: _without_tensors(v, tensors) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_tensors(v, tensors) for v in value]
    if hasattr(value, "detach"):
        key = str(len(tensors))
        tensors[key] = value.detach().contiguous().clone()
        return {"$tensor": key}
    return value


def _with_tensors(value: Any, tensors: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {"$tensor"}:
            return tensors[value["$tensor"]]
        return {k: _with_tensors(v, tensors) for k, v in value.items()}
    if isinstance(value, list):
        return [_with_tensors(v, tensors) for v in value]
    return value


def tidy(run: Run) -> None:
    """After the end: remove what only a running search needs."""
    for name in ("images", "models", "pending", "shared"):
        shutil.rmtree(run.folder / "state" / name, ignore_errors=True)
