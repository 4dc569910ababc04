"""What the training loop is made of beside the steps: a model of whatever it is given, modes, interruptions, checks."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..errors import OptionError, ShapeError, explain
from ..models.compiled import CompiledModel
from ..models.part import Part
from ..nn.module import Module
from ..tensor.tensor import Tensor


@contextlib.contextmanager
def interruptible(interrupt: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls `interrupt`, in the main thread; elsewhere signals do not arrive, and nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: interrupt())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """The model in eval mode; afterwards each of its modules has its old mode."""
    modes = [(m, m.training) for m in model.modules()]
    if any(training for _, training in modes):
        model.eval()
    try:
        yield
    finally:
        for m, training in modes:
            if m.training is not training:
                m.training = training


def check_counts(**counts: Any) -> None:
    """Raises where one is neither None nor a whole number of 1 or more (0 for how long to train).

    Raises:
        OptionError: With the name.

    Example:
        >>> check_counts(epochs=0, limit=None)
        >>> check_counts(limit=0)  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        OptionError: limit is a count
    """
    for name, value in counts.items():
        least = 0 if name in ("epochs", "steps") else 1
        optional = name not in ("accumulate", "validate_every")
        if value is None and optional:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise OptionError(
                explain(
                    f"{name} is a count",
                    expected=f"a whole number of {least} or more" + (", or None" if optional else ""),
                    given=repr(value),
                )
            )


def to_module(model: Any, inputs: Any) -> Module:
    """A composed model as a module, with the shapes of the first inputs (and any number of samples, where the layers allow it)."""
    if not isinstance(model, (CompiledModel, Part)):
        raise OptionError(
            explain(
                "that is no model",
                expected="a gradloom.nn.Module, a gradloom.Model, or what gradloom.compile gives",
                given=type(model).__name__,
            )
        )
    named = inputs if isinstance(inputs, Mapping) else dict(zip(model.input_keys, listed(inputs), strict=False))
    shapes = {n: list(x.shape) for n, x in named.items()}
    try:
        return model.to_module({n: [None, *s[1:]] for n, s in shapes.items()})
    except ShapeError:
        return model.to_module(shapes)


def listed(inputs: Any) -> list:
    """Inputs by position."""
    return list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]


def batches_in(batches: Any, limit: int | None) -> int | None:
    """How many batches an epoch has; None where that is not known."""
    try:
        return len(batches) if limit is None else min(len(batches), limit)
    except TypeError:
        return limit


def describe(x: Any) -> str:
    """Shapes and dtypes of a batch, in short."""
    if isinstance(x, Tensor):
        return f"{list(x.shape)} {x.dtype.name}"
    if isinstance(x, Mapping):
        return "{" + ", ".join(f"{k}: {describe(v)}" for k, v in x.items()) + "}"
    if isinstance(x, (tuple, list)):
        return "(" + ", ".join(map(describe, x)) + ")"
    return repr(x)
