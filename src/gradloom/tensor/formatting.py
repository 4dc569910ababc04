"""How Tensors are printed: as PyTorch prints them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from ..dtypes import bool_, default_dtype, int64
from ..errors import OptionError, explain
from .arrays import known


@dataclasses.dataclass
class PrintOptions:
    """Digits after the point, elements above which to summarise, items shown at each edge then, line length."""

    precision: int = 4
    threshold: int = 1000
    edgeitems: int = 3
    linewidth: int = 80


OPTIONS = PrintOptions()


def set_printoptions(
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
) -> None:
    """Sets how Tensors are printed; what is None stays.

    Args:
        precision: Digits after the point. Default 4.
        threshold: Tensors with more elements are summarised. Default 1000.
        edgeitems: Items at the start and the end of each axis of a summary. Default 3.
        linewidth: Characters in a line. Default 80.

    Raises:
        OptionError: A negative value.

    Example:
        >>> import gradloom as gl
        >>> gl.set_printoptions(precision=2)
        >>> gl.tensor([1.5, 2.25])
        tensor([1.50, 2.25])
        >>> gl.set_printoptions(precision=4)
    """
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    for name, value in given.items():
        if value is None:
            continue
        if isinstance(value, bool) or (not isinstance(value, int) and value != math.inf) or value < 0:
            raise OptionError(
                explain(f"{name} is a number of characters or elements", expected="an int >= 0", given=value)
            )
        setattr(OPTIONS, name, value)


class _Number:
    """How the elements of one Tensor are written, each with the same width."""

    def __init__(self, values: np.ndarray):
        self.width, self.float = 1, values.dtype.kind == "f"
        self.integral, self.scientific = True, False
        if not self.float:
            self.width = max((len(str(v)) for v in values.tolist()), default=1)
            return
        shown = values[np.isfinite(values) & (values != 0)]
        if not shown.size:
            return
        size = np.abs(shown)
        low, high = float(size.min()), float(size.max())
        self.integral = bool((shown == np.ceil(shown)).all())
        self.scientific = high / low > 1000 or high > 1e8 or low < 1e-4
        self.width = max(len(self._text(v)) for v in shown.tolist())

    def _text(self, value: Any) -> str:
        if not self.float:
            return str(value)
        if self.scientific:
            return f"{value:.{OPTIONS.precision}e}"
        if self.integral:
            return f"{value:.0f}" + ("." if math.isfinite(value) else "")
        return f"{value:.{OPTIONS.precision}f}"

    def __call__(self, value: Any) -> str:
        return self._text(value).rjust(self.width)


def _edges(a: np.ndarray) -> np.ndarray:
    """The elements that a summary shows."""
    n = OPTIONS.edgeitems
    for axis, size in enumerate(a.shape):
        if size > 2 * n:
            a = np.take(a, [*range(n), *range(size - n, size)], axis)
    return a


def _body(a: np.ndarray, indent: int, summary: bool, number: _Number) -> str:
    if not a.ndim:
        return number(a.item())
    n = OPTIONS.edgeitems
    cut = summary and len(a) > 2 * n
    head, tail = (a[:n], a[len(a) - n :]) if cut else (a, a[:0])
    if a.ndim == 1:
        items = [number(v) for v in head.tolist()] + [" ..."] * cut + [number(v) for v in tail.tolist()]
        per_line = max(1, math.floor((OPTIONS.linewidth - indent) / (number.width + 2)))
        lines = [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    parts = [_body(r, indent + 1, summary, number) for r in head] + ["..."] * cut
    parts += [_body(r, indent + 1, summary, number) for r in tail]
    return "[" + ("," + "\n" * (a.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def format_tensor(t: Any, prefix: str = "tensor(") -> str:
    """The text of a Tensor as PyTorch prints it; of a traced value, whose elements are not known, its shape and dtype.

    Args:
        t: The Tensor.
        prefix: What stands before the elements.
    """
    indent = len(prefix)
    dtype, shape = t.dtype, tuple(t.shape)
    common = dtype in (default_dtype(), int64, bool_)
    suffixes = []
    device = _device(t)
    if device:
        suffixes.append(f"device='{device}'")
    values = _values(t)
    if values is None:
        body = "..."
        suffixes += [f"size={shape}", f"dtype={dtype!r}"]
    elif not values.size:
        body = "[]"
        if len(shape) != 1:
            suffixes.append(f"size={shape}")
        if dtype is not default_dtype():
            suffixes.append(f"dtype={dtype!r}")
    else:
        summary = values.size > OPTIONS.threshold
        shown = _edges(values) if summary else values
        body = _body(values, indent, summary, _Number(shown.reshape(-1)))
        if not common:
            suffixes.append(f"dtype={dtype!r}")
    if t.requires_grad:
        suffixes.append("requires_grad=True" if t.is_leaf else f"grad_fn={t.grad_fn!r}")
    return prefix + body + _suffixed(prefix + body, suffixes, indent) + ")"


def _suffixed(text: str, suffixes: list[str], indent: int) -> str:
    """What follows the elements, on the last line as far as it goes."""
    out, last = "", len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if last + len(suffix) + 2 > OPTIONS.linewidth:
            out += ",\n" + " " * indent + suffix
            last = indent + len(suffix)
        else:
            out += ", " + suffix
            last += len(suffix) + 2
    return out


def _values(t: Any) -> np.ndarray | None:
    """The elements, floats as float64; None where they are not known yet."""
    a = known(t._array)
    return a if a is None or a.dtype.kind in "biu" else a.astype(np.float64)


def _device(t: Any) -> str | None:
    """The device, where it is not the CPU."""
    if getattr(t._array, "concrete", None) is not None:
        return None
    name = str(t.device)
    return None if name.startswith("cpu") else name
