"""Reports of runs: one HTML page that holds all it needs."""

from .page import page, write_report
from .run import Run, read_run

__all__ = ["Run", "page", "read_run", "write_report"]
