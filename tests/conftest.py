"""What all tests share, and the rule that a test is skipped only for want of public data or weights, or by hand of a browser."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def data_root() -> Path:
    """The folder of the public data sets."""
    if not os.environ.get("AUTOAD_DATA"):
        pytest.skip("AUTOAD_DATA is not set: the public data sets are absent")
    return Path(os.environ["AUTOAD_DATA"])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    report = yield
    excused = item.get_closest_marker("data") is not None and not os.environ.get("AUTOAD_DATA")
    if item.get_closest_marker("weights") is not None:
        excused = not os.environ.get("AUTOAD_WEIGHTS")
    if item.get_closest_marker("browser") is not None and not os.environ.get("CI"):
        excused = shutil.which("chromium") is None
    if report.skipped and not excused and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid} was skipped, but everything it needs should be here: {report.longrepr}"
        )
    return report
