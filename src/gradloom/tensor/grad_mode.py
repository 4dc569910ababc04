"""Whether operations on Tensors are recorded: `no_grad`, `enable_grad`, `set_grad_enabled`, `inference_mode`.

Each works as a context manager and as a decorator, nests, and is per thread.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

from ..backends.conversion import HOOKS


class _Mode(threading.local):
    enabled = True
    inference = False


MODE = _Mode()


class _Block:
    """A mode that is entered by `with`, or around each call of a decorated function (and each step of a generator).

    Args:
        enabled: Whether to record.
        inference: The inference mode; None: leave it as it is.
    """

    def __init__(self, enabled: bool, inference: bool | None = None):
        self._enabled, self._inference = enabled, inference
        self._before: list[tuple[bool, bool]] = []

    def __enter__(self) -> None:
        self._before.append((MODE.enabled, MODE.inference))
        MODE.enabled = self._enabled
        if self._inference is not None:
            MODE.inference = self._inference

    def __exit__(self, *_: Any) -> None:
        MODE.enabled, MODE.inference = self._before.pop()

    def __call__(self, function: Callable) -> Callable:
        modes = (self._enabled, self._inference)  # each call has a block of its own: there may be several threads
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def steps(*args, **kwargs):
                generator = function(*args, **kwargs)
                resume, value = generator.send, None
                while True:
                    try:
                        with _Block(*modes):
                            result = resume(value)
                    except StopIteration as end:
                        return end.value
                    try:
                        resume, value = generator.send, (yield result)
                    except GeneratorExit:
                        with _Block(*modes):
                            generator.close()
                        raise
                    except BaseException as error:
                        resume, value = generator.throw, error

            return steps

        @functools.wraps(function)
        def run(*args, **kwargs):
            with _Block(*modes):
                return function(*args, **kwargs)

        return run


class set_grad_enabled(_Block):
    """Sets whether operations are recorded for `backward`.

    As in PyTorch it takes effect at once; as a context manager it restores the earlier mode at the end, and as a
    decorator it holds for the function only.

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
        super().__init__(bool(mode))
        self._first: tuple[bool, bool] | None = (MODE.enabled, MODE.inference)
        MODE.enabled = self._enabled

    def __enter__(self) -> None:
        super().__enter__()
        if self._first is not None:  # entered for the first time: __init__ has noted what to restore
            self._before[-1], self._first = self._first, None

    def __call__(self, function: Callable) -> Callable:
        if self._first is not None:
            (MODE.enabled, MODE.inference), self._first = self._first, None
        return super().__call__(function)


class _Switch(_Block):
    """A mode whose class is a decorator, too: `@no_grad` as well as `@no_grad()`."""

    _enabled = False

    def __new__(cls, function: Callable | None = None):
        made = super().__new__(cls)
        if function is None:
            return made
        if not callable(function):
            raise TypeError(f"{cls.__name__} takes a function to decorate or nothing, not {function!r}")
        made.__init__()  # type: ignore[misc]
        return made(function)

    def __init__(self, function: Callable | None = None):
        super().__init__(type(self)._enabled)


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

    _enabled = True


class inference_mode(_Block):
    """`no_grad` for prediction; `is_inference_mode_enabled` tells that it is on.

    Unlike PyTorch's, Tensors made inside may be used in recorded operations later: they are constants there.

    Args:
        mode: False leaves it: operations inside are recorded.

    Example:
        >>> import gradloom as gl
        >>> @gl.inference_mode()
        ... def predict(x):
        ...     return x * 2
        >>> predict(gl.tensor([1.0], requires_grad=True)).requires_grad
        False
    """

    def __new__(cls, mode: Any = True):
        made = super().__new__(cls)
        if callable(mode):  # used as a bare decorator
            made.__init__()  # type: ignore[misc]
            return made(mode)
        return made

    def __init__(self, mode: bool = True):
        super().__init__(not mode, bool(mode))


def is_grad_enabled() -> bool:
    """Whether operations are recorded now, in this thread."""
    return MODE.enabled


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside `inference_mode`."""
    return MODE.inference


HOOKS["no_grad"] = no_grad  # for backend.no_grad()
