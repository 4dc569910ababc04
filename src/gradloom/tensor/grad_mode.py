"""Whether operations on Tensors are recorded: `no_grad`, `enable_grad`, `set_grad_enabled`, `inference_mode`.

Each works as a context manager and as a decorator, nests, and is per thread.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any


class _Mode(threading.local):
    enabled = True
    inference = False


MODE = _Mode()


class set_grad_enabled:
    """Sets whether operations are recorded for `backward`.

    As in PyTorch it takes effect at once; as a context manager it restores the earlier mode at the end.

    Args:
        mode: True to record.

    Example:
        >>> import gradloom as gl
        >>> x = gl.tensor(2.0, requires_grad=True)
        >>> with gl.set_grad_enabled(False):
        ...     y = x * x
        >>> y.requires_grad
        False
    """

    def __init__(self, mode: bool):
        self._mode = bool(mode)
        self._before: list[tuple[bool, bool]] = [(MODE.enabled, MODE.inference)]
        self._fresh = True
        MODE.enabled = self._mode

    def __enter__(self) -> None:
        if self._fresh:
            self._fresh = False  # entered for the first time: __init__ has noted what to restore
        else:
            self._before.append((MODE.enabled, MODE.inference))
        MODE.enabled = self._mode

    def __exit__(self, *_: Any) -> None:
        MODE.enabled, MODE.inference = self._before.pop()


class _Switch:
    """A mode that is entered by `with` or around each call of a decorated function (or each step of a generator)."""

    _enabled = True
    _inference: bool | None = None

    def __init__(self, function: Callable | None = None):
        self._before: list[tuple[bool, bool]] = []

    def __new__(cls, function: Callable | None = None):
        made = super().__new__(cls)
        if callable(function):  # used as a bare decorator: @no_grad
            return cls()(function)
        return made

    def __enter__(self) -> None:
        self._before.append((MODE.enabled, MODE.inference))
        MODE.enabled = self._enabled
        if self._inference is not None:
            MODE.inference = self._inference

    def __exit__(self, *_: Any) -> None:
        MODE.enabled, MODE.inference = self._before.pop()

    def __call__(self, function: Callable) -> Callable:
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def steps(*args, **kwargs):
                generator = function(*args, **kwargs)
                sent = None
                while True:
                    with type(self)():
                        try:
                            value = generator.send(sent)
                        except StopIteration as end:
                            return end.value
                    sent = yield value

            return steps

        @functools.wraps(function)
        def run(*args, **kwargs):
            with type(self)():
                return function(*args, **kwargs)

        return run


class no_grad(_Switch):
    """Operations inside are not recorded: no gradients, less memory.

    Example:
        >>> import gradloom as gl
        >>> x = gl.tensor([1.0], requires_grad=True)
        >>> with gl.no_grad():
        ...     y = x * 2
        >>> y.requires_grad
        False
    """

    _enabled = False


class enable_grad(_Switch):
    """Operations inside are recorded, also within `no_grad`.

    Example:
        >>> import gradloom as gl
        >>> x = gl.tensor([1.0], requires_grad=True)
        >>> with gl.no_grad(), gl.enable_grad():
        ...     y = x * 2
        >>> y.requires_grad
        True
    """


class inference_mode(_Switch):
    """`no_grad` for prediction; `is_inference_mode_enabled` tells that it is on.

    Unlike PyTorch's, Tensors made inside may be used in recorded operations later: they are constants there.

    Example:
        >>> import gradloom as gl
        >>> @gl.inference_mode()
        ... def predict(x):
        ...     return x * 2
        >>> predict(gl.tensor([1.0], requires_grad=True)).requires_grad
        False
    """

    _enabled = False
    _inference = True


def is_grad_enabled() -> bool:
    """Whether operations are recorded now, in this thread."""
    return MODE.enabled


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside `inference_mode`."""
    return MODE.inference
