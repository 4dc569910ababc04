"""Arrays and containers as source text that gives the same bits."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends.base import Backend
from ..dtypes import int16
from .emit import literal

#: Arrays of so many elements are printed as numbers, larger ones as base64 of their bytes.
LITERAL = 64


def array_text(value: Any, backend: Backend, need: Callable[[str], str]) -> str:
    """An expression that gives a constant: an array of the backend, or NumPy's.

    The order in memory is kept too, as the last bits of a sum depend on it.

    Args:
        need: `need("np")` has a module imported, `need("to_bfloat16")` and `need("wide")` a function printed; it gives its name.
    """
    engine = None if isinstance(value, np.ndarray | np.generic) else backend.name
    host = _host(value, engine, backend)
    whole, order = host.shape, list(range(host.ndim))
    if engine in (None, "torch") and not host.flags.c_contiguous:
        strides = host.strides  # 0: one element is repeated along the axis
        host = host[tuple(slice(0, 1) if s == 0 and n else slice(None) for s, n in zip(strides, whole, strict=True))]
        order.sort(key=lambda a: -abs(strides[a]))
    kept = host.shape
    host = np.ascontiguousarray(host.transpose(order)).reshape([kept[a] for a in order])
    text = _elements(host, engine == "torch", need)
    if engine == "jax":
        text = _in_jax(value, text, host, need)
    elif engine is None and host.dtype.name == "bfloat16":
        text = f"{text}.view({need('ml_dtypes')}.bfloat16)"
    elif engine == "mlx":
        bits = str(value.dtype).endswith("bfloat16")
        name = "int16" if bits else host.dtype.name.replace("bool", "bool_")
        text = f"{need('mx')}.array({text}, dtype=mx.{name}){'.view(mx.bfloat16)' if bits else ''}"
    elif engine == "torch":
        text += ".view(torch.bfloat16)" if str(value.dtype).endswith("bfloat16") else ""
        text += f'.to("{value.device}")' if value.device.type != "cpu" else ""
    elif isinstance(value, np.generic):
        text = f"{text}[()]"
    if order != sorted(order):
        back = tuple(int(a) for a in np.argsort(order))
        text = f"{text}.{'permute' if engine == 'torch' else 'transpose'}({back})"
    if kept != whole:
        text = f"{text}.expand({whole})" if engine == "torch" else f"np.broadcast_to({text}, {whole})"
    return f"{need('to_bfloat16')}({text})" if type(value).__name__ == "Bfloat16" else text


def _host(value: Any, engine: str | None, backend: Backend) -> np.ndarray:
    """The elements in NumPy; of PyTorch's and MLX's bfloat16 the bits."""
    if engine in (None, "jax"):
        return np.asarray(value)  # as JAX holds them, also integers of 32 bits
    if str(value.dtype).endswith("bfloat16"):
        value = value.view(backend.native_dtype(int16))
    return np.asarray(backend.to_numpy(value))


def _elements(host: np.ndarray, torch: bool, need: Callable[[str], str]) -> str:
    """A contiguous array as text: PyTorch's or NumPy's of the same dtype. Where NumPy has none its bits, in uint16."""
    name = host.dtype.name if host.dtype.num < 256 else "uint16"
    make, kind = (f"{need('torch')}.tensor", f"torch.{name}") if torch else (f"{need('np')}.array", f'"{name}"')
    if host.size == 0:
        return f"{make.partition('.')[0]}.zeros({host.shape}, dtype={kind})"
    if host.size <= LITERAL and host.dtype.name == name and not (torch and name == "float16"):
        numbers = [str(x) for x in host.reshape(-1)]
        exact = True
        if host.dtype.kind == "f":  # the shortest numbers that give these bits; a NaN may have others
            exact = np.array([float(n) for n in numbers], host.dtype).tobytes() == host.tobytes()
            numbers = [n if np.isfinite(float(n)) else f'float("{n}")' for n in numbers]
        if exact:
            return f"{make}({_nested(numbers, host.shape)}, dtype={kind})"
    lines = textwrap.wrap(base64.b64encode(host.tobytes()).decode(), 108)
    data = "".join(f'\n    "{line}"' for line in lines)
    made = f"{need('base64')}.b64decode({data}\n)"
    if torch:
        return f"torch.frombuffer(bytearray({made}), dtype={kind}).reshape({host.shape})"
    return f"np.frombuffer({made}, dtype={kind}).reshape({host.shape}).copy()"


def _in_jax(value: Any, text: str, host: np.ndarray, need: Callable[[str], str]) -> str:
    if getattr(value, "weak_type", False) and host.ndim == 0:
        return f"{need('jnp')}.asarray({literal(host.item())})"
    if host.dtype.name == "bfloat16":
        text = f"{text}.view({need('jnp')}.bfloat16)"
    return f"{need('wide')}({text})" if host.dtype.itemsize == 8 else f"{need('jnp')}.asarray({text})"


def _nested(numbers: list[str], shape: tuple[int, ...]) -> str:
    """Numbers as nested lists."""
    if not shape:
        return numbers[0]
    if len(shape) == 1:
        return "[" + ", ".join(numbers) + "]"
    size = len(numbers) // shape[0]
    return "[" + ", ".join(_nested(numbers[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])) + "]"


def bracketed(left: str, parts: list[str], right: str) -> str:
    """The parts of a container in its brackets, on lines of their own if they are many."""
    text = left + ", ".join(parts) + ("," if left == "(" and len(parts) == 1 else "") + right
    if len(text) < 100:
        return text
    lines = ["    " + part.replace("\n", "\n    ") + "," for part in parts]
    return "\n".join([left, *lines, right])
