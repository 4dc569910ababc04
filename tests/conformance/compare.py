"""Runs one sample of PyTorch's `op_db` on PyTorch and on gradloom, and compares values, shapes, dtypes and gradients.

What gradloom refuses with an error of its own is counted as refused, with the reason; every other difference fails.
"""

import dataclasses
import functools
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

import gradloom as gl

from .mapping import DIFFERENT, SHAPE_ONLY, TOLERANCE, WIDER, find, refusal

DTYPES = ("float64", "float32", "int64", "bool")


class Refused(Exception):
    """The sample uses something that gradloom does not have; the text is the reason."""


@functools.cache
def entries() -> dict[str, Any]:
    """{name, with the variant after a colon: entry of op_db}."""
    from torch.testing._internal.common_methods_invocations import op_db

    return {f"{o.name}:{o.variant_test_name}" if o.variant_test_name else o.name: o for o in op_db}


@dataclasses.dataclass
class Result:
    """What became of an entry's samples."""

    passed: int = 0
    refused: Counter = dataclasses.field(default_factory=Counter)
    different: Counter = dataclasses.field(default_factory=Counter)
    failed: list[str] = dataclasses.field(default_factory=list)


def tolerance(name: str, dtype: str) -> dict[str, float]:
    """Arguments of `assert_allclose`: those of `torch.testing.assert_close` unless the table has wider ones."""
    rtol, atol = TOLERANCE[dtype]
    wider = WIDER.get(name, {}).get(dtype)
    return {"rtol": rtol, "atol": atol} if wider is None else {"rtol": wider, "atol": wider}


# ------------------------------------------------------------------------------------------------------ conversion


def ours(value: Any) -> Any:
    """A sample's value for gradloom: Tensors, dtypes and shapes converted, in sequences and dicts too."""
    if isinstance(value, torch.Tensor):
        if value.dtype.is_complex:
            raise Refused("complex numbers")
        if value.layout != torch.strided or value.is_nested:
            raise Refused("sparse tensors")
        if value.dtype not in _DTYPES:
            raise Refused(f"dtype {value.dtype}")
        t = gl.from_torch(value.detach().clone()) if value.dtype == torch.bfloat16 else None
        made = gl.tensor(value.detach().numpy().copy()) if t is None else t
        return made.requires_grad_() if value.requires_grad else made
    if isinstance(value, torch.dtype):
        if value not in _DTYPES:
            raise Refused(f"dtype {value}")
        return gl.dtype(str(value))
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, complex):
        raise Refused("complex numbers")
    if isinstance(value, torch.layout | torch.memory_format | torch.Generator):
        raise Refused(f"an argument of type {type(value).__name__}")
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, tuple | list):
        return type(value)(ours(v) for v in value)
    if isinstance(value, dict):
        return {k: ours(v) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(ours(value.start), ours(value.stop), ours(value.step))
    return value


_DTYPES = {
    getattr(torch, n)
    for n in ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
}


def copied(value: Any) -> Any:
    """A sample's value with Tensors of their own, so that an operation in place changes only the copy."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, tuple | list) and not isinstance(value, torch.Size):
        return type(value)(copied(v) for v in value)
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    return value


def leaves(value: Any) -> Iterator[Any]:
    """What a result or a list of arguments is made of, in order."""
    if isinstance(value, torch.Tensor | gl.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for v in value:
            yield from leaves(v)
    elif isinstance(value, dict):
        for k in value:
            yield from leaves(value[k])
    else:
        yield value


def array(t: Any) -> np.ndarray:
    t = t.detach()
    if isinstance(t, torch.Tensor):
        return (t.float() if t.dtype == torch.bfloat16 else t).resolve_conj().numpy()
    return (t.float() if t.dtype is gl.bfloat16 else t).numpy()


# ------------------------------------------------------------------------------------------------------- comparing


def check(name: str, mine: Any, expected: Any, dtype: str, random: bool) -> None:
    """Raises AssertionError unless gradloom's result is PyTorch's: structure, shapes, dtypes and values."""
    mine, expected = list(leaves(mine)), list(leaves(expected))
    assert len(mine) == len(expected), f"{len(mine)} results, not {len(expected)}"
    for i, (m, e) in enumerate(zip(mine, expected, strict=True)):
        where = f"result {i}: " if len(mine) > 1 else ""
        if not isinstance(e, torch.Tensor):
            assert type(m) is type(e) and (m == e or m != m), f"{where}{m!r}, not {e!r}"
            continue
        assert isinstance(m, gl.Tensor), f"{where}a {type(m).__name__}, not a Tensor"
        assert tuple(m.shape) == tuple(e.shape), f"{where}shape {tuple(m.shape)}, not {tuple(e.shape)}"
        theirs = str(e.dtype).removeprefix("torch.")
        assert m.dtype.name == theirs, f"{where}dtype {m.dtype.name}, not {theirs}"
        if not random:
            close(array(m), array(e), tolerance(name, theirs if theirs in TOLERANCE else dtype), f"{where}values")


def close(mine: np.ndarray, expected: np.ndarray, within: dict[str, float], what: str) -> None:
    try:
        np.testing.assert_allclose(mine, expected, **within)
    except AssertionError as error:
        text = re.sub(r"\s+", " ", str(error).strip())
        raise AssertionError(f"{what}: {text}") from None


def check_gradients(name: str, mine: list, expected: list, inputs: list, theirs: list, dtype: str) -> None:
    """Gradients of a random cotangent, of all results that have one."""
    pairs = [(m, e) for m, e in zip(leaves(mine), leaves(expected), strict=True) if isinstance(e, torch.Tensor)]
    for m, e in pairs:
        assert m.requires_grad == e.requires_grad, f"requires_grad is {m.requires_grad}, not {e.requires_grad}"
    pairs = [(m, e) for m, e in pairs if e.requires_grad]
    if not pairs:
        return
    rng = np.random.default_rng(0)
    g = [np.asarray(rng.standard_normal(tuple(e.shape))) for _, e in pairs]
    wanted = torch.autograd.grad(
        [e for _, e in pairs], theirs, [torch.tensor(c, dtype=e.dtype) for c, (_, e) in zip(g, pairs, strict=True)],
        allow_unused=True,
    )  # fmt: skip
    found = gl.autograd.grad(
        [m for m, _ in pairs], inputs, [gl.tensor(c, dtype=m.dtype) for c, (m, _) in zip(g, pairs, strict=True)],
        allow_unused=True,
    )  # fmt: skip
    for i, (m, e, t) in enumerate(zip(found, wanted, theirs, strict=True)):
        m = np.zeros(t.shape) if m is None else array(m)
        e = np.zeros(t.shape) if e is None else array(e)
        assert m.shape == e.shape, f"gradient {i} has shape {m.shape}, not {e.shape}"
        close(m, e, tolerance(name, dtype), f"gradient {i}")


# --------------------------------------------------------------------------------------------------------- a sample


def run(name: str, sample: Any, dtype: str, variant: str = "function") -> None:
    """One sample through one variant: the function, the method, or the method that works in place.

    Raises:
        Refused: gradloom does not have what the sample asks for.
        AssertionError: The results differ, or gradloom raises where it should not.
    """
    entry = entries()[name]
    gradients = dtype == "float64" and variant == "function" and entry.supports_autograd
    args = [sample.input, *sample.args]
    theirs, kwargs = (copied(args), copied(sample.kwargs)) if variant == "inplace" else (args, sample.kwargs)
    mine, options = ours(args), ours(sample.kwargs)
    fn, reference = call(name, variant)
    if variant == "inplace":
        theirs[0], mine[0] = theirs[0].detach(), mine[0].detach()
        with torch.no_grad():
            try:
                expected = reference(*theirs, **kwargs)
            except (RuntimeError, TypeError):
                return  # PyTorch cannot do it in place: the result has another shape or dtype
    else:
        expected = reference(*theirs, **kwargs)
    if any(isinstance(e, torch.Tensor) and e.dtype.is_complex for e in leaves(expected)):
        raise Refused("complex numbers")
    try:
        with gl.set_grad_enabled(variant != "inplace"):
            result = fn(*mine, **options)
        random = name in SHAPE_ONLY or drops(name, sample)
        check(name, result, expected, dtype, random)
        if variant == "inplace":
            check(name, mine[0], theirs[0], dtype, random)
        inputs = [(m, t) for m, t in zip(leaves([mine, options]), leaves([theirs, kwargs]), strict=True)]
        inputs = [(m, t) for m, t in inputs if isinstance(t, torch.Tensor) and t.requires_grad]
        if gradients and inputs and not random:
            check_gradients(name, result, expected, [m for m, _ in inputs], [t for _, t in inputs], dtype)
    except AssertionError:
        raise
    except Exception as error:
        reason = refusal(name, error)
        if reason is not None:
            raise Refused(reason) from error
        raise AssertionError(f"{type(error).__name__}: {error}") from error


def drops(name: str, sample: Any) -> bool:
    """Whether a share of something is dropped at random."""
    given = sample.args[9] if name == "nn.functional.multi_head_attention_forward" else 0
    return bool(sample.kwargs.get("dropout_p", given))


def compiled(name: str, sample: Any) -> None:
    """One float64 sample inside `gradloom.jit`, with gradients, against the same lines run eagerly.

    Raises:
        Refused: gradloom does not have what the sample asks for.
        AssertionError: The results differ, or it cannot be compiled.
    """
    given = ours([sample.input, *sample.args]), ours(sample.kwargs)
    flat, structure = gl.tree.flatten(given)
    where = [i for i, x in enumerate(flat) if isinstance(x, gl.Tensor)]
    tensors = [flat[i].detach() for i in where]
    needs = [flat[i].requires_grad for i in where]

    def run(*inputs: Any) -> list:
        inputs = tuple(x.detach().requires_grad_() if n else x for x, n in zip(inputs, needs, strict=True))
        values = list(flat)
        for i, x in zip(where, inputs, strict=True):
            values[i] = x
        args, kwargs = gl.tree.unflatten(structure, values)
        outs = list(leaves(find(name)(*args, **kwargs)))  # type: ignore[misc]
        loss = [(x * x).sum() for x in outs if isinstance(x, gl.Tensor) and x.requires_grad]
        wanted = [x for x, n in zip(inputs, needs, strict=True) if n]
        grads = gl.autograd.grad(sum(loss), wanted, allow_unused=True) if loss and wanted else ()
        return [x.detach() if isinstance(x, gl.Tensor) else x for x in [*outs, *(g for g in grads if g is not None)]]

    try:
        expected = run(*tensors)
    except Exception as error:
        reason = refusal(name, error)
        if reason is not None:
            raise Refused(reason) from error
        raise
    step = gl.jit(run)
    for _ in range(2):
        found = step(*tensors)
        assert len(found) == len(expected), f"{len(found)} results, not {len(expected)}"
        for i, (m, e) in enumerate(zip(found, expected, strict=True)):
            if not isinstance(e, gl.Tensor):
                assert m == e or m != m, f"{m!r}, not {e!r}"
                continue
            assert tuple(m.shape) == tuple(e.shape) and m.dtype is e.dtype, f"result {i}: {m.dtype} {m.shape}"
            if not drops(name, sample):
                close(array(m), array(e), tolerance(name, "float64"), f"result {i}")


def call(name: str, variant: str) -> tuple[Callable, Callable]:
    """gradloom's callable and PyTorch's."""
    entry = entries()[name]
    if variant == "function":
        return find(name), entry.op  # type: ignore[return-value]
    suffix = "_" if variant == "inplace" else ""
    method = entry.name + suffix
    return getattr(gl.Tensor, method), getattr(torch.Tensor, method)


def variants(name: str) -> list[str]:
    """The variants that both have."""
    entry = entries()[name]
    found = ["function"]
    for variant, theirs in (("method", entry.method_variant), ("inplace", entry.inplace_variant)):
        method = entry.name + ("_" if variant == "inplace" else "")
        if theirs is not None and hasattr(gl.Tensor, method) and hasattr(torch.Tensor, method):
            found.append(variant)
    return found


def samples(name: str, dtype: str, count: int | None) -> list[Any]:
    """The entry's samples in a dtype; `count` of them from first to last where that is given."""
    entry = entries()[name]
    if getattr(torch, dtype) not in entry.dtypes:
        return []
    torch.manual_seed(0)
    np.random.seed(0)
    gradients = dtype == "float64" and entry.supports_autograd
    found = list(entry.sample_inputs("cpu", getattr(torch, dtype), requires_grad=gradients))
    if count is None or len(found) <= count:
        return found
    if count == 1:
        return [found[len(found) // 2]]
    return [found[round(i)] for i in np.linspace(0, len(found) - 1, count)]


def compare(name: str, dtypes: tuple[str, ...], count: int | None, functions_only: bool = False) -> Result:
    """All of an entry: its samples, in these dtypes and in all variants; a sample counts once."""
    result = Result()
    for dtype in dtypes:
        for i, sample in enumerate(samples(name, dtype, count)):
            outcome(name, sample, dtype, f"{dtype} sample {i}", result, functions_only)
    return result


def outcome(name: str, sample: Any, dtype: str, label: str, result: Result, functions_only: bool) -> None:
    for variant in variants(name)[: 1 if functions_only else None]:
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                run(name, sample, dtype, variant)
        except Refused as error:
            result.refused[str(error)] += 1
            return
        except AssertionError as error:
            for pattern, reason in DIFFERENT.get(name, {}).items():
                if re.search(pattern, f"{dtype} {variant}: {error}"):
                    result.different[reason] += 1
                    return
            result.failed.append(f"{label}, {variant}, {described(sample)}: {error}"[:1500])
            return
    result.passed += 1


def described(sample: Any) -> str:
    """A sample in words: shapes in place of Tensors."""

    def text(v: Any) -> str:
        if isinstance(v, torch.Tensor):
            return f"{str(v.dtype).removeprefix('torch.')}{list(v.shape)}"
        if isinstance(v, tuple | list) and not isinstance(v, torch.Size):
            return "[" + ", ".join(map(text, v)) + "]"
        return repr(v)

    return ", ".join(
        [text(sample.input), *map(text, sample.args), *(f"{k}={text(v)}" for k, v in sample.kwargs.items())]
    )
