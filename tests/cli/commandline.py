"""Run the command as a user does: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TINY = """
data: {dataset: digits, normal: ["5", "6"]}
space: {layers: 1, channels: [3, 8]}
search: {trials: 10, random_trials: 3, promote: 2, keep: 2, lag: 4}
train: {images: 64, epochs: 2}
"""
COMMAND = [sys.executable, "-m", "autoad_cli.main"]


def autoad(
    *arguments: object, cwd: Path | None = None, check: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The finished command; ``check`` is the exit code it must have."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
        timeout=600,
    )
    if check is not None:
        assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def start(*arguments: object, cwd: Path, stderr: Path, **environment: str) -> subprocess.Popen[bytes]:
    """The running command, in a process group of its own."""
    with stderr.open("ab") as log:
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=cwd,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, **environment},
            start_new_session=True,
        )


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr that tells what is wrong."""
    lines = [line for line in done.stderr.splitlines() if line.startswith(("Error:", "Usage:"))]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]
