"""Checks of one op against numbers: its vjps against central differences, its dtypes, and all of it against PyTorch.

The functions take an op's record (`relu.op`), positional values (NumPy arrays, Python scalars, None) and attributes,
and run `record.forward` and the forwards of its vjps directly on the NumPy namespace: neither dispatch nor a tape is in
the way. So operands that an op would promote have to be given in one dtype.
"""

from typing import Any

import numpy as np

from gradloom.backends.numpy import xp
from gradloom.ops.op import Op
from gradloom.ops.reduce import sum_to

# The step of central differences in float64, and what they may differ from a vjp by: their own error is about 1e-9.
STEP = 1e-6
TOLERANCE = {"rtol": 1e-6, "atol": 1e-7}


def is_float(value: Any) -> bool:
    """Whether a value is an array of floats, of any engine."""
    return "float" in str(getattr(value, "dtype", ""))


def forward(record: Op, args: tuple, attrs: dict, namespace: Any = xp) -> tuple:
    """The op's results, always as a tuple; on NumPy unless another engine's namespace is given."""
    out = record.forward(namespace, *args, **attrs)
    return tuple(out) if len(record.outputs) > 1 else (out,)


def vjps(record: Op, args: tuple, attrs: dict, outs: tuple, g: Any, namespace: Any = xp) -> dict[int, Any]:
    """The cotangents that the op's vjps give: {index of the positional value: cotangent}.

    Args:
        g: The cotangent of the result; a tuple of them for an op with several differentiable results.
    """
    attrs = record.defaults | attrs
    args = args + tuple(record.defaults[name] for name in record.args[len(args) :] if not record.variadic)
    cotangents: dict[int, Any] = {}
    for vjp in record.vjps:
        # A vjp whose argument is None or a Python scalar is never run.
        if not any(is_float(a) for i in vjp.covers for a in args[i:] if record.argument(i) == i):
            continue
        values: list[Any] = []
        for kind, i in vjp.values:
            values += args[i:] if kind == "rest" else [args[i] if kind == "arg" else outs[i]]
        statics: dict[str, Any] = {}
        for name, kind, i in vjp.statics:
            if kind == "attr":
                statics[name] = attrs[i]
            elif kind == "shapes":
                statics[name] = tuple(np.shape(a) for a in args[i:])
            else:
                statics[name] = np.shape(args[i]) if kind == "shape" else namespace.dtype(args[i])
        result = vjp.op.forward(namespace, g, *values, **statics)
        for i, d in zip(vjp.covers, (result,) if len(vjp.covers) == 1 else result, strict=True):
            variadic = record.variadic and i == len(record.args) - 1
            for j, each in enumerate(d if variadic else (d,), start=i):
                if is_float(args[j]):
                    each = sum_to.op.forward(namespace, each, shape=np.shape(args[j])) if record.broadcasts else each
                    cotangents[j] = each
    return cotangents


def cotangent_for(record: Op, outs: tuple, seed: int = 0) -> Any:
    """A random cotangent for the differentiable results, in the form that the vjps take."""
    rng = np.random.default_rng(seed)
    g = tuple(np.asarray(rng.standard_normal(np.shape(o)), o.dtype) for o in outs[: record.differentiable])
    return g if len(g) > 1 else g[0]


def numeric(record: Op, args: tuple, attrs: dict, i: int, g: Any) -> np.ndarray:
    """The cotangent of positional value i by central differences, element by element."""
    gs = g if isinstance(g, tuple) else (g,)

    def at(x: np.ndarray) -> float:
        outs = forward(record, (*args[:i], x, *args[i + 1 :]), attrs)
        return sum(float(np.sum(o * c)) for o, c in zip(outs, gs, strict=False))

    base = args[i]
    result = np.zeros(base.shape)
    for where in np.ndindex(base.shape):
        up, down = base.copy(), base.copy()
        up[where] += STEP
        down[where] -= STEP
        result[where] = (at(up) - at(down)) / (2 * STEP)
    return result


def check_vjp(record: Op, args: tuple, attrs: dict | None = None, only: tuple[int, ...] | None = None) -> None:
    """Holds every vjp of an op against central differences in float64.

    Every float array among the operands has to have a vjp; each cotangent has to have its operand's shape.

    Args:
        args: Values away from kinks and ties; floats in float64.
        only: Indices of the float operands that have a gradient; default: all of them.
    """
    attrs = attrs or {}
    outs = forward(record, args, attrs)
    if not record.differentiable:
        assert not record.vjps, f"{record.name} is not differentiable and has vjps"
        return
    g = cotangent_for(record, outs)
    found = vjps(record, args, attrs, outs, g)
    wanted = {i for i, a in enumerate(args) if is_float(a)} if only is None else set(only)
    assert set(found) == wanted, f"{record.name} has vjps for operands {sorted(found)}, not {sorted(wanted)}"
    for i, d in found.items():
        assert np.shape(d) == args[i].shape, (
            f"{record.name}: cotangent {i} has shape {np.shape(d)}, not {args[i].shape}"
        )
        expected = numeric(record, args, attrs, i, g)
        np.testing.assert_allclose(d, expected, **TOLERANCE, err_msg=f"{record.name}, operand {i}, {attrs}")


def check_dtype(record: Op, args: tuple, attrs: dict | None = None, dtype: str = "float32") -> None:
    """Holds an op to keep a dtype: its floats in, out and its cotangents are all of that dtype."""
    attrs = attrs or {}
    args = tuple(a.astype(dtype) if is_float(a) else a for a in args)
    if not any(is_float(a) for a in args):
        return
    outs = forward(record, args, attrs)
    for name, out in zip(record.outputs, outs, strict=True):
        assert not is_float(out) or out.dtype == dtype or "dtype" in attrs, f"{record.name}: {name} is {out.dtype}"
    if not record.differentiable:
        return
    for i, d in vjps(record, args, attrs, outs, cotangent_for(record, outs)).items():
        assert d.dtype == dtype, f"{record.name}: cotangent {i} is {d.dtype}, not {dtype}"


def check_torch(record: Op, args: tuple, attrs: dict, reference: Any, tolerance: dict | None = None) -> None:
    """Holds an op, and its vjps where it has any, against PyTorch.

    Args:
        reference: `reference(*tensors)`, PyTorch's function; its results (one, or several) are compared in order.
        tolerance: Arguments of `numpy.testing.assert_allclose`; default `TOLERANCE`.
    """
    import torch

    tolerance = tolerance or TOLERANCE
    tensors = [torch.tensor(a, requires_grad=is_float(a)) if isinstance(a, np.ndarray) else a for a in args]
    expected = reference(*tensors)
    expected = (expected,) if isinstance(expected, torch.Tensor) else tuple(expected)
    outs = forward(record, args, attrs)
    for name, out, e in zip(record.outputs, outs, expected, strict=True):
        assert np.shape(out) == tuple(e.shape), f"{record.name}: {name} has shape {np.shape(out)}, not {tuple(e.shape)}"
        assert str(out.dtype) == str(e.dtype).removeprefix("torch."), f"{record.name}: {name} is {out.dtype}"
        np.testing.assert_allclose(out, e.detach().numpy(), **tolerance, err_msg=f"{record.name}: {name}")
    needing = [(i, t) for i, t in enumerate(tensors) if isinstance(t, torch.Tensor) and t.requires_grad]
    if not record.differentiable or not expected[0].requires_grad:
        return
    g = cotangent_for(record, outs)
    found = vjps(record, args, attrs, outs, g)
    gs = [torch.tensor(c) for c in (g if isinstance(g, tuple) else (g,))]
    gradients = torch.autograd.grad(
        expected[: record.differentiable], [t for _, t in needing], gs, allow_unused=True, materialize_grads=True
    )
    for (i, _), e in zip(needing, gradients, strict=True):
        np.testing.assert_allclose(found[i], e.numpy(), **tolerance, err_msg=f"{record.name}: cotangent {i}")
