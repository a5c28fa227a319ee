"""A run on disk: one worker at a time, and whatever happens, what was finished stays."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoad_core import launch, modelfile
from autoad_core import run as run_module
from autoad_core.errors import ModelError, RunError
from autoad_core.modelfile import write_json
from autoad_core.run import (
    Journal,
    Run,
    create,
    drop_pending,
    explain_disk,
    load_pending,
    load_state,
    open_run,
    save_pending,
    save_state,
    tidy,
)
from autoad_core.split import Part, Split, image_hashes

busy = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be
CONFIG = {"seed": 3, "data": {"root": "/é"}}
RESOLVED = {"data": {"train": "ab"}, "space": {"hypothesis": ["autoad/cluster"]}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "mine"


@pytest.fixture
def run(folder: Path) -> Iterator[Run]:
    with create(folder, CONFIG, RESOLVED) as made:
        yield made


def record(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "status": "ok", "value": 0.5 + number, **more}


def journal(run: Run, *records: dict[str, Any]) -> None:
    book = Journal(run)
    for one in records:
        book.append(one)
    book.close()


# Beginning and going on


def test_a_run_keeps_its_configuration(folder: Path) -> None:
    with create(folder, CONFIG, RESOLVED) as made:
        assert made.config == {"config": CONFIG, "resolved": RESOLVED}
        assert made.records() == []
        assert made.result() is None
    with open_run(folder) as again:
        assert again.config == {"config": CONFIG, "resolved": RESOLVED}
        assert (folder / "state").is_dir()
        (folder / "state").rmdir()
    with open_run(folder):
        assert (folder / "state").is_dir()


def test_a_result_is_there_after_the_end(run: Run) -> None:
    write_json(run.folder / "result.json", {"models": []})
    assert run.result() == {"models": []}
    (run.folder / "result.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        run.result()


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"models": 3}'])
def test_a_result_that_is_none_of_ours_can_be_made_again(run: Run, content: str) -> None:
    (run.folder / "result.json").write_text(content)
    with pytest.raises(RunError, match=r"result.json: damaged; remove it, then: autoad resume"):
        run.result()


def test_a_folder_whose_name_is_no_text_is_refused(folder: Path) -> None:
    with (
        pytest.raises(RunError, match="the name is not UTF-8; choose another"),
        create(folder / "\udcff", {}, {}),
    ):
        pass
    assert not folder.exists()


def test_an_empty_folder_may_become_a_run(folder: Path) -> None:
    folder.mkdir(parents=True)
    with create(folder, CONFIG, RESOLVED) as made:
        assert made.config["config"] == CONFIG


def test_a_folder_that_is_not_empty_is_left_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    with (
        pytest.raises(RunError, match="exists and is not empty; autoad resume"),
        create(folder, CONFIG, RESOLVED),
    ):
        pass
    assert [p.name for p in folder.iterdir()] == ["mine.txt"]


def test_a_run_is_not_begun_twice(folder: Path) -> None:
    with create(folder, CONFIG, RESOLVED):
        pass
    with pytest.raises(RunError, match="exists and is not empty"), create(folder, {}, {}):
        pass
    with open_run(folder) as again:
        assert again.config["config"] == CONFIG


def test_a_run_that_was_killed_before_it_was_one_may_begin_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the lock and the configuration: there is nothing to resume, and nothing to lose."""

    class Killed(BaseException):
        pass

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    for name in ("write_text", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, kill)
            with pytest.raises(Killed), create(folder, CONFIG, RESOLVED):
                pass
        with pytest.raises(RunError, match="not a run of autoad"), open_run(folder):
            pass
    with create(folder, CONFIG, RESOLVED) as made:
        assert made.config["config"] == CONFIG


def test_a_file_in_the_place_of_the_folder_is_left_alone(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("mine")
    with pytest.raises(RunError, match="exists and is not empty"), create(folder, CONFIG, RESOLVED):
        pass
    assert folder.read_text() == "mine"


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "config: 1",
        "[]",
        "a: [",
        "config: {}\n",
        "\x00",
        "!!python/name:os.system",
        "!!int ''",
        "!!timestamp x",
    ],
)
def test_what_is_no_run_cannot_be_opened(folder: Path, content: str | None) -> None:
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "config.yaml").write_text(content)
    with pytest.raises(RunError, match=r"not a run of autoad \(config.yaml"), open_run(folder):
        pass
    assert not (folder / "lock").exists()


def test_a_run_knows_where_its_parts_are(run: Run) -> None:
    parts = {run.trials, run.models, run.candidates, run.images}
    assert {p.relative_to(run.folder).as_posix() for p in parts} == {
        "trials.jsonl",
        "models",
        "state/models",
        "state/images",
    }


def test_the_hashes_of_the_test_are_written_once_and_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by the resumption of a run that was killed before they were."""
    images = np.random.default_rng(0).random((5, 1, 2, 2), np.float32)
    part = Part(images, np.array([0, 0, 0, 1, 1]))
    split = Split(("x",), part, part, part)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            launch._record_test(run, split)
    assert not (run.folder / "test.hashes").exists()
    launch._record_test(run, split)
    lines = (run.folder / "test.hashes").read_text().splitlines()
    assert lines == sorted(h.hex() for h in image_hashes(images))
    launch._record_test(run, replace(split, test=part.take(np.arange(2))))
    assert (run.folder / "test.hashes").read_text().splitlines() == lines


# One at a time


def test_a_second_opener_is_refused_while_the_first_works(folder: Path) -> None:
    with create(folder, CONFIG, RESOLVED):
        with (
            pytest.raises(RunError, match="another process works on this run; wait for it, or end it"),
            open_run(folder),
        ):
            pass
        with pytest.raises(RunError, match="exists and is not empty"), create(folder, CONFIG, RESOLVED):
            pass
    with open_run(folder), pytest.raises(RunError, match="another process works"), open_run(folder):
        pass
    with open_run(folder):
        pass


HOLD = """
    import sys
    from pathlib import Path
    from autoad_core.run import open_run
    with open_run(Path(sys.argv[1])):
        print("open", flush=True)
        sys.stdin.read()
"""


def test_another_process_is_refused_until_it_dies(folder: Path) -> None:
    with create(folder, CONFIG, RESOLVED):
        pass
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(RunError, match="another process works on this run"), open_run(folder):
            pass
        holder.kill()  # SIGKILL: no lock is left behind
        holder.wait()
    with open_run(folder) as again:
        assert again.config["config"] == CONFIG


def test_an_error_in_the_work_frees_the_run(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), create(folder, CONFIG, RESOLVED):
        _ = 1 / 0
    with open_run(folder):
        pass


# The journal


def test_the_journal_keeps_every_outcome_in_order(run: Run) -> None:
    journal(run, record(0), record(1, warnings=["é"]))
    journal(run, record(2))
    assert run.records() == [record(0), record(1, warnings=["é"]), record(2)]
    book = Journal(run)
    assert book.records == run.records()
    assert not book.torn
    book.close()
    assert len(run.trials.read_text().splitlines()) == 3


def test_each_outcome_is_on_disk_before_the_next(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append((fd, run.trials.read_bytes().count(b"\n"))))
    book = Journal(run)
    for i in range(3):
        book.append(record(i))
    assert [lines for _, lines in synced] == [1, 2, 3]
    assert {fd for fd, _ in synced} == {book._file.fileno()}
    book.close()


def test_numbers_that_json_has_not_do_not_enter_the_journal(run: Run) -> None:
    book = Journal(run)
    book.append(record(0))
    with pytest.raises(ValueError, match="not JSON compliant"):
        book.append(record(1, value=float("nan")))
    book.append(record(1))
    book.close()
    assert run.records() == [record(0), record(1)]


def test_a_last_line_torn_anywhere_is_dropped_and_said(run: Run) -> None:
    """At every byte of the last line at which a kill can stop the writing."""
    journal(run, record(0), record(1), record(2, warnings=["é"]))
    whole = run.trials.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(start, len(whole)):
        run.trials.write_bytes(whole[:cut])
        assert run.records() == [record(0), record(1)]
        book = Journal(run)
        assert book.torn == (cut > start)
        book.append(record(2, warnings=["é"]))
        book.close()
        assert run.trials.read_bytes() == whole


@pytest.mark.parametrize(
    "tail", [b"\x00" * 300, b"\xff\xfe", b'{"id": 2', b"[]", b'{"id": 7}\n', b"null\n", b"\n"]
)
def test_a_last_line_of_rubbish_is_dropped(run: Run, tail: bytes) -> None:
    """Zeros are what a power cut leaves on some file systems."""
    journal(run, record(0), record(1))
    whole = run.trials.read_bytes()
    run.trials.write_bytes(whole + tail)
    book = Journal(run)
    assert (book.torn, book.records) == (True, [record(0), record(1)])
    book.close()
    assert run.trials.read_bytes() == whole


@pytest.mark.parametrize(
    "line", [b"{", b"\xff", b"", b"[0]", b"null", b'{"id": 0}', b'{"id": 2}', b'{"no": 1}', b"5"]
)
def test_a_damaged_line_before_the_last_is_not_guessed_at(run: Run, line: bytes) -> None:
    journal(run, record(0), record(1), record(2))
    lines = run.trials.read_bytes().splitlines()
    before = b"\n".join([lines[0], line, lines[2], b""])
    run.trials.write_bytes(before)
    with pytest.raises(RunError, match=r"trials.jsonl: line 2 is damaged .*; restore the file"):
        run.records()
    with pytest.raises(RunError, match=r"trials.jsonl: line 2 is damaged"):
        Journal(run)
    assert run.trials.read_bytes() == before


@settings(busy, max_examples=60)
@given(st.integers(0, 5), st.binary(max_size=30), st.integers(0, 2**32))
def test_no_damage_to_the_journal_makes_up_an_outcome(count: int, junk: bytes, seed: int) -> None:
    """Bytes put over it anywhere: a RunError, or a beginning of what was written."""
    run, rng = Run(Path("/nowhere")), random.Random(seed)
    records = [record(i) for i in range(count)]
    content = bytearray("".join(json.dumps(r, sort_keys=True) + "\n" for r in records).encode())
    at = rng.randint(0, len(content))
    content[at : at + rng.choice([0, len(junk)])] = junk
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "exists", lambda _: True)
        patch.setattr(Path, "read_bytes", lambda _: bytes(content))
        try:
            found = run.records()
        except RunError:
            return
    assert [r["id"] for r in found] == list(range(len(found)))
    untouched = bytes(content[:at]).count(b"\n")
    assert found[:untouched] == records[:untouched]


# Results that wait for their turn


def test_results_wait_for_their_turn_on_disk(run: Run) -> None:
    assert load_pending(run, 0) == {}
    for number in (3, 12, 5):
        save_pending(run, number, record(number))
    assert load_pending(run, 0) == {n: record(n) for n in (3, 5, 12)}
    drop_pending(run, 5)
    drop_pending(run, 99)  # never there
    assert load_pending(run, 0) == {n: record(n) for n in (3, 12)}


def test_results_that_are_in_the_journal_or_damaged_are_removed(run: Run) -> None:
    for number in (1, 2, 3):
        save_pending(run, number, record(number))
    pending = run.folder / "state" / "pending"
    (pending / "4.json").write_text("{")
    (pending / "x.json").write_text("{}")
    (pending / ".5.json.123").write_text("half")  # what a kill left aside
    assert load_pending(run, 2) == {2: record(2), 3: record(3)}
    assert {p.name for p in pending.glob("*.json")} == {"2.json", "3.json"}


# States


def test_a_state_comes_back_with_its_tensors(run: Run) -> None:
    generator = torch.Generator().manual_seed(3)
    state = {
        "phase": "search",
        "controller": {
            "rng": [3, [1, 2, 3], None],
            "weights": {"0.bias": torch.rand(3), "deep": [{"a": torch.rand(2, 2).double()}]},
            "generator": generator.get_state(),
            "scalar": torch.tensor(True),
            "strided": torch.rand(4, 3).T,
            "trained": torch.nn.Parameter(torch.rand(2)),
            "half": torch.rand(3).bfloat16(),
            "text": "é",
        },
    }
    save_state(run, 8, state)
    found, notes = load_state(run, 8)
    assert notes == []
    assert found is not None
    flat, wanted = flatten(found), flatten(state)
    assert flat.keys() == wanted.keys()
    for key, value in wanted.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(flat[key], value.detach()), key
            assert flat[key].dtype == value.dtype
        else:
            assert flat[key] == value, key


def flatten(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in flatten(inner, (*path, key)).items()}
    if isinstance(value, list):
        return {k: v for i, inner in enumerate(value) for k, v in flatten(inner, (*path, i)).items()}
    return {path: value}


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
    | st.integers(0, 999).map(lambda n: torch.tensor([n, 2 * n]))
)
states = st.dictionaries(
    st.text("ab.", max_size=3),
    st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.", max_size=3), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


@settings(busy, max_examples=50)
@given(state=states)
def test_any_state_comes_back(state: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    run = Run(tmp_path_factory.mktemp("run"))
    (run.folder / "state").mkdir()
    save_state(run, 1, state)
    found, notes = load_state(run, 1)
    assert notes == []
    assert repr(found) == repr(state)  # tensors, too, show all of their numbers


def test_a_state_does_not_change_after_it_was_saved(run: Run) -> None:
    weights = torch.zeros(3)
    save_state(run, 1, {"w": weights})
    weights += 1
    found, _ = load_state(run, 1)
    assert found is not None
    assert torch.equal(found["w"], torch.zeros(3))


def test_the_last_two_states_are_kept(run: Run) -> None:
    for told in (8, 16, 24, 1000):
        save_state(run, told, {"told": told, "w": torch.tensor([told])})
    names = sorted(p.name for p in (run.folder / "state").iterdir())
    assert names == ["000024.json", "000024.safetensors", "001000.json", "001000.safetensors"]


def test_the_newest_state_that_the_journal_knows_is_used(run: Run) -> None:
    for told in (4, 8, 16):
        save_state(run, told, {"n": told})
    assert sorted(p.name for p in (run.folder / "state").iterdir()) == ["000008.json", "000016.json"]
    assert [load_state(run, most)[0] for most in (30, 16, 15, 8, 7)] == [
        {"n": 16},
        {"n": 16},
        {"n": 8},
        {"n": 8},
        None,
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text(path.read_text()[:-9]),
        lambda path: path.write_bytes(b"\x00" * 100),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text("{}"),
        lambda path: path.write_text('{"told": 16, "state": 3}'),
        lambda path: path.write_text('{"told": "x", "state": {}}'),
        lambda path: path.with_suffix(".safetensors").unlink(),
        lambda path: path.with_suffix(".safetensors").write_bytes(b"\x00" * 20),
        lambda path: os.truncate(path.with_suffix(".safetensors"), 80),
    ],
    ids=range(9),
)
def test_a_half_written_state_falls_back_to_the_one_before(run: Run, damage: Any) -> None:
    for told in (8, 16):
        save_state(run, told, {"n": told, "w": torch.tensor([told])})
    damage(run.folder / "state" / "000016.json")
    found, (note,) = load_state(run, 20)
    assert found == {"n": 8, "w": torch.tensor([8])}
    assert note.endswith(
        "state/000016.json: damaged, perhaps by a crash; the one before it is used, or the journal"
    )
    assert load_state(run, 20) == (found, [])  # it is out of the way


def test_without_a_whole_state_there_is_none(run: Run) -> None:
    assert load_state(run, 5) == (None, [])
    save_state(run, 3, {"n": 3})
    (run.folder / "state" / "000003.json").write_text("")
    found, notes = load_state(run, 5)
    assert found is None
    assert len(notes) == 1


def test_a_kill_between_tensors_and_state_leaves_the_one_before(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_state(run, 8, {"w": torch.tensor([8])})

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            save_state(run, 16, {"w": torch.tensor([16])})
    assert load_state(run, 16) == ({"w": torch.tensor([8])}, [])
    save_state(run, 16, {"w": torch.tensor([17])})
    assert load_state(run, 16) == ({"w": torch.tensor([17])}, [])


def test_a_finished_run_keeps_only_what_is_worth_it(run: Run) -> None:
    for name in ("images", "models/3", "pending"):
        (run.folder / "state" / name).mkdir(parents=True)
    run.models.mkdir()
    journal(run, record(0))
    save_state(run, 1, {})
    tidy(run)
    tidy(run)
    assert sorted(p.name for p in (run.folder / "state").iterdir()) == ["000001.json"]
    assert run.models.exists()
    assert run.records() == [record(0)]


# Disks


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk quota is used up; free some space"),
        (errno.EROFS, "the file system is read-only; choose another place with --run DIR"),
        (errno.EACCES, "no permission to write; choose another place with --run DIR"),
        (errno.EPERM, "no permission to write; choose another place with --run DIR"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_disk_that_cannot_is_explained(code: int, text: str, tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught, explain_disk(tmp_path):
        raise OSError(code, os.strerror(code))
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert str(caught.value).endswith(text)
    (tmp_path / "config.yaml").touch()
    with (
        pytest.raises(RunError, match=f"What was finished stays: autoad resume {tmp_path}$"),
        explain_disk(tmp_path),
    ):
        raise OSError(code, os.strerror(code))


def test_other_errors_are_not_explained_away(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), explain_disk(tmp_path):
        _ = 1 / 0


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_refused_at_once(
    folder: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with (
            pytest.raises(RunError, match="choose another place with --run DIR"),
            create(folder, CONFIG, RESOLVED),
        ):
            pass
    with create(folder, CONFIG, RESOLVED):
        pass
    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *a, **k: (refuse if path.name == "lock" else real)(path, *a, **k)
    )
    with pytest.raises(RunError, match="choose another place with --run DIR"), open_run(folder):
        pass


class FullDisk:
    """A file that takes so many bytes and no more, as on a disk that is full."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: bytes) -> int:
        written = self.file.write(data[: self.room])
        self.room -= written
        if written < len(data):
            self.file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(written)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def write_until_full(folder: Path, write: Callable[[Run, Journal], None]) -> None:
    with create(folder, CONFIG, RESOLVED) as run:
        book = Journal(run)
        try:
            write(run, book)
        finally:
            book.close()


@pytest.mark.parametrize("room", [0, 1, 30, 60, 90])
def test_a_full_disk_costs_at_most_the_outcome_being_written(folder: Path, room: int) -> None:
    def write(run: Run, book: Journal) -> None:
        book.append(record(0))
        book._file = FullDisk(book._file, room)  # type: ignore[assignment]
        for i in (1, 2, 3):
            book.append(record(i))

    with pytest.raises(RunError, match=r"the disk is full.*What was finished stays: autoad resume"):
        write_until_full(folder, write)
    with open_run(folder) as run:
        book = Journal(run)
        assert book.records == [record(i) for i in range(len(book.records))]
        assert len(book.records) == 1 + room // len(json.dumps(record(1)) + "\n")
        book.append(record(len(book.records)))
        book.close()
        assert run.records()[-1] == record(len(run.records()) - 1)


def test_a_full_disk_keeps_the_json_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full is a disk that is always full, and the kernel itself says so."""
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    (tmp_path / f".x.json.{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        write_json(path, {"a": 2})
    assert modelfile.read_json(path) == {"a": 1}
    (tmp_path / f".x.json.{os.getpid()}").unlink()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        write_json(path, {"a": 3})
    assert modelfile.read_json(path) == {"a": 1}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB; where none may be mounted, a folder in which a file may grow to 48 kB."""
    place = tmp_path / "small"
    place.mkdir()
    with ExitStack() as stack:
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "autoad-test", str(place)]
        if shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            stack.callback(subprocess.run, ["umount", "--lazy", str(place)], check=True)
        else:
            real = os.fsync
            patch = stack.enter_context(pytest.MonkeyPatch.context())

            def fsync(fd: int) -> None:
                if os.fstat(fd).st_size > 48_000:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                real(fd)

            patch.setattr(os, "fsync", fsync)
        yield place


def test_a_run_goes_on_when_a_small_disk_has_room_again(small_disk: Path) -> None:
    folder = small_disk / "run"
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 8000)

    def write(run: Run, book: Journal) -> None:
        for i in range(10_000):
            book.append(record(i, padding="x" * 100))
            if i % 10 == 0:
                save_state(run, i, {"told": i, "w": torch.arange(100)})

    with pytest.raises(RunError, match="the disk is full; free some space"):
        write_until_full(folder, write)
    ballast.unlink()
    with open_run(folder) as run:
        book = Journal(run)
        n = len(book.records)
        assert n > 50
        assert book.records == [record(i, padding="x" * 100) for i in range(n)]
        state, _ = load_state(run, n)
        assert state is not None
        assert state["told"] in range(n - 25, n)
        assert torch.equal(state["w"], torch.arange(100))
        book.append(record(n))
        book.close()
        assert run.records()[-1] == record(n)
