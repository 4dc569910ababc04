"""The command line `gradloom`: train, plot, summary, backends, report. See docs/cli.md."""

from .main import main

__all__ = ["main"]
