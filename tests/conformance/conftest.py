"""Writes docs/conformance.md after a run of the whole (`make conformance`): CONFORMANCE=full."""

import os
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
_found: dict[str, dict] = {}


def pytest_runtest_logreport(report: Any) -> None:
    """Collects what each test noted; with several workers this runs in the process that directs them."""
    if report.when == "call":
        _found.update({v["name"]: v for k, v in report.user_properties if k == "conformance"})


def pytest_sessionfinish(session: Any) -> None:
    directs = not hasattr(session.config, "workerinput")
    if directs and _found and os.environ.get("CONFORMANCE") == "full" and not session.config.getoption("keyword"):
        from conformance.report import page  # not before: it needs PyTorch

        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(_found))
