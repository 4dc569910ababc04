"""The error types, and the two helpers that give every message the same shape.

Each type also inherits from the builtin that NumPy's or PyTorch's users catch for the same mistake, so that `except
ValueError` keeps working. A message says what went wrong, what was expected, what was given, where, and what to do
(`explain`).
"""

import functools
import linecache
import os
import sys
import types
from collections.abc import Iterable

__all__ = [
    "BackendError", "DTypeError", "DataError", "FileFormatError", "GradientError", "GradloomError",
    "IndexOutOfRangeError", "MissingExtraError", "OptionError", "ShapeError", "TraceError", "explain", "user_frame",
]  # fmt: skip


class GradloomError(Exception):
    """The base of every error that gradloom raises on purpose."""


class ShapeError(GradloomError, ValueError, RuntimeError):
    """Shapes, or the structures of two trees, do not fit together."""


class DTypeError(GradloomError, TypeError, RuntimeError):
    """A dtype is unknown, or not allowed here."""


class BackendError(GradloomError, RuntimeError):
    """A backend cannot do what was asked, or values of two backends were mixed."""


class MissingExtraError(GradloomError, ImportError):
    """An optional package is needed and not installed."""


class GradientError(GradloomError, RuntimeError):
    """A gradient was asked for that does not exist or can no longer be computed."""


class TraceError(GradloomError, RuntimeError):
    """Something that cannot be captured was done while a function was traced."""


class IndexOutOfRangeError(GradloomError, IndexError):
    """An index lies outside of its axis or container."""


class FileFormatError(GradloomError, ValueError):
    """A file is damaged, or not of the format that it should be."""


class DataError(GradloomError, RuntimeError):
    """Training data cannot be read: there is none, an iterator is at its end, a worker process died."""


class OptionError(GradloomError, ValueError):
    """An option has a value that is not allowed, or is not supported."""


def explain(
    problem: str, *, expected: object = None, given: object = None, where: object = None, do: object = None
) -> str:
    """Renders an error message; a line is left out if it is None or the empty string.

    Args:
        problem: One sentence that says what went wrong.
        expected: What would have been right.
        given: What came instead (names, shapes, dtypes).
        where: The module path, connection or source line (`user_frame()`).
        do: What the user can do about it.

    Returns:
        The message, one line per part.

    Example:
        >>> print(explain("matmul: inner sizes differ", expected="(n, 3) @ (3, m)", given="(2, 3) @ (4, 5)"))
        matmul: inner sizes differ
          expected: (n, 3) @ (3, m)
          given:    (2, 3) @ (4, 5)
    """
    parts = (("expected:", expected), ("given:", given), ("where:", where), ("do:", do))
    lines = [problem]
    for label, value in parts:
        text = "" if value is None else str(value)
        if text:
            # Continuation lines are indented to stay under their label.
            lines.append(f"  {label:<10}" + text.replace("\n", "\n" + " " * 12))
    return "\n".join(lines)


_PACKAGE = os.path.dirname(os.path.abspath(__file__))


@functools.lru_cache(maxsize=4096)
def _skipped(filename: str, directories: tuple[str, ...]) -> bool:
    """Whether a frame of this file is not the user's; cached, as tracing asks for every op."""
    if filename.startswith(("<gradloom", "<frozen ")):
        return True
    path = os.path.abspath(filename)
    return any(path.startswith(directory.rstrip(os.sep) + os.sep) for directory in directories)


def user_frame(skip_dirs: Iterable[str] | None = None) -> str:
    """Names the innermost line of the call stack that is the user's own.

    Frames of the gradloom package, and of source that gradloom emitted (file names that start with `<gradloom`), are
    skipped.

    Args:
        skip_dirs: More directories whose frames are skipped, such as that of a framework that calls back.

    Returns:
        'file:line in function: source text' (without the text where the source is not at hand), or "" if no frame is
        the user's.

    Example:
        >>> def my_step():
        ...     return user_frame()
        >>> my_step().endswith("in my_step: return user_frame()")
        True
    """
    directories = (_PACKAGE, *(os.path.abspath(directory) for directory in skip_dirs or ()))
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not _skipped(code.co_filename, directories):
            text = linecache.getline(code.co_filename, frame.f_lineno, frame.f_globals).strip()
            return f"{code.co_filename}:{frame.f_lineno} in {code.co_name}" + (f": {text}" if text else "")
        frame = frame.f_back
    return ""
