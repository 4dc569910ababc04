"""Helpers for training: clipping of gradients, parameters as one vector, a module called with other parameters."""

from __future__ import annotations

import math
import types
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from .. import ops
from ..errors import BackendError, GradientError, OptionError, ShapeError, TraceError, explain, user_frame
from ..graph.graph import PLACE
from ..tensor.creation import tensor
from ..tensor.grad_mode import no_grad
from ..tensor.tensor import Tensor

__all__ = [
    "clip_grad_norm_", "clip_grads_with_norm_", "clip_grad_value_", "get_total_norm", "parameters_to_vector",
    "vector_to_parameters", "functional_call",
]  # fmt: skip


def _listed(tensors: Any) -> list:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _check_foreach(foreach: bool | None) -> None:
    """Raises if a kernel over all Tensors at once is demanded. (One over their concatenation was slower on every CPU engine.)"""
    if foreach:
        raise BackendError(
            explain(
                "foreach=True was passed, and there is no kernel that takes all gradients at once",
                do="leave foreach out; gradloom.jit compiles the clipping of all gradients into the step",
            )
        )


def beside(t: Tensor, like: Tensor) -> Tensor:
    """The Tensor on the backend and device of another; itself if it is there."""
    if t.backend == like.backend and t.device == like.device:
        return t
    return t.to(device=like.device, backend=like.backend)


def get_total_norm(
    tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Any:
    """The norm of all elements of all Tensors together, 0-d, beside the first of them; 0 if there are none.

    Args:
        tensors: A Tensor or an iterable of them.
        norm_type: The order; math.inf for the largest absolute value.
        error_if_nonfinite: Raise if it is NaN or infinite.
        foreach: False and None are the same: there is one way to compute it. True is refused.

    Raises:
        GradientError: The norm is not finite, and `error_if_nonfinite`.
        TraceError: `error_if_nonfinite` in a function that `gradloom.jit` compiles.
        BackendError: foreach=True.

    Example:
        >>> import gradloom as gl
        >>> gl.nn.utils.get_total_norm([gl.tensor([3.0, 0.0]), gl.tensor(4.0)])
        tensor(5.)
    """
    _check_foreach(foreach)
    tensors, order = _listed(tensors), float(norm_type)
    if error_if_nonfinite and PLACE.graph is not None:
        raise TraceError(
            explain(
                "error_if_nonfinite=True needs the value of the norm, which a compiled function does not have when it "
                "is traced",
                where=user_frame(),
                do="leave it out, return the norm from the function and look at it there",
            )
        )
    if not tensors:
        return tensor(0.0)
    with no_grad():
        norms = [beside(ops.norm(t, ord=order), tensors[0]) for t in tensors]
        total = ops.norm(ops.stack(*norms, axis=0), ord=order)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise GradientError(
            f"The total norm of order {order} for gradients from `parameters` is non-finite, so it cannot be clipped. "
            "To disable this error and scale the gradients by the non-finite norm anyway, set "
            "`error_if_nonfinite=False`"
        )
    return total


def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Any, foreach: bool | None = None) -> None:
    """Scales the gradients in place by max_norm / (total_norm + 1e-6) where that is below 1.

    Args:
        parameters: A Tensor or an iterable of them; those without a gradient are left out.
        max_norm: The largest norm.
        total_norm: What `get_total_norm` gave.
        foreach: False and None are the same: there is one way to compute it. True is refused.

    Raises:
        BackendError: foreach=True.

    Example:
        >>> import gradloom as gl
        >>> x = gl.tensor([3.0, 4.0], requires_grad=True)
        >>> (x * x / 2).sum().backward()
        >>> gl.nn.utils.clip_grads_with_norm_(x, max_norm=1.0, total_norm=gl.tensor(10.0))
        >>> x.grad
        tensor([0.3000, 0.4000])
    """
    _check_foreach(foreach)
    with no_grad():
        if not isinstance(total_norm, Tensor):
            total_norm = tensor(float(total_norm))
        scale = ops.clip(float(max_norm) / (total_norm + 1e-6), max=1.0)
        for p in _listed(parameters):
            g = p.grad
            if g is not None:
                factor = beside(scale, g)
                g.mul_(factor if factor.dtype is g.dtype else factor.to(g.dtype))


def clip_grad_norm_(
    parameters: Any,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Any:
    """Scales the gradients in place so that their norm, taken together, is at most max_norm.

    Args:
        parameters: A Tensor or an iterable of them; those without a gradient are left out.
        max_norm: The largest norm.
        norm_type: The order; math.inf for the largest absolute value.
        error_if_nonfinite: Raise if the norm is NaN or infinite; the gradients are not changed then.
        foreach: False and None are the same: there is one way to compute it. True is refused.

    Returns:
        The norm before, 0-d.

    Raises:
        GradientError, TraceError, BackendError: As `get_total_norm`.

    Example:
        >>> import gradloom as gl
        >>> x = gl.tensor([3.0, 4.0], requires_grad=True)
        >>> (x * x / 2).sum().backward()
        >>> gl.nn.utils.clip_grad_norm_([x], max_norm=1.0)
        tensor(5.)
        >>> x.grad
        tensor([0.6000, 0.8000])
    """
    generator = isinstance(parameters, types.GeneratorType)
    parameters = _listed(parameters)
    if generator and not parameters:
        warnings.warn("`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=2)
    grads = [g for p in parameters if (g := p.grad) is not None]
    total = get_total_norm(grads, norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(parameters, max_norm, total, foreach)
    return total


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Holds each element of the gradients within ±clip_value, in place; NaN stays NaN.

    Args:
        parameters: A Tensor or an iterable of them; those without a gradient are left out.
        clip_value: The largest absolute value.
        foreach: False and None are the same: there is one way to compute it. True is refused.

    Raises:
        BackendError: foreach=True.

    Example:
        >>> import gradloom as gl
        >>> x = gl.tensor([3.0, 0.1], requires_grad=True)
        >>> (x * x / 2).sum().backward()
        >>> gl.nn.utils.clip_grad_value_(x, 0.5)
        >>> x.grad
        tensor([0.5000, 0.1000])
    """
    _check_foreach(foreach)
    bound = float(clip_value)
    with no_grad():
        for p in _listed(parameters):
            g = p.grad
            if g is not None:
                g.clamp_(-bound, bound)


def parameters_to_vector(parameters: Iterable[Any]) -> Any:
    """The elements of all parameters as one vector; gradients pass.

    Args:
        parameters: Tensors of one backend.

    Raises:
        ShapeError: There are none.

    Example:
        >>> import gradloom as gl
        >>> gl.nn.utils.parameters_to_vector([gl.ones(2, 1), gl.zeros(2)])
        tensor([1., 1., 0., 0.])
    """
    parts = [p.reshape(-1) for p in parameters]
    if not parts:
        raise ShapeError("parameters_to_vector: expected a non-empty list of Tensors")
    return ops.concat(*parts, axis=0)


def vector_to_parameters(vec: Any, parameters: Iterable[Any]) -> None:
    """Copies the parts of a vector into parameters, in place; elements beyond the last parameter are left out.

    Args:
        vec: A Tensor, as `parameters_to_vector` gives it.
        parameters: Tensors, which keep their dtypes.

    Raises:
        TypeError: vec is no Tensor.
        ShapeError: It has fewer elements than the parameters; nothing is changed then.

    Example:
        >>> import gradloom as gl
        >>> layer = gl.nn.Linear(2, 1)
        >>> gl.nn.utils.vector_to_parameters(gl.tensor([1.0, 2.0, 3.0]), layer.parameters())
        >>> layer.weight.tolist(), layer.bias.tolist()
        ([[1.0, 2.0]], [3.0])
    """
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected gradloom.Tensor, but got: {type(vec).__name__}")
    parameters, at = list(parameters), 0
    needed = sum(p.numel() for p in parameters)
    if vec.ndim != 1 or vec.numel() < needed:
        raise ShapeError(
            explain(
                "vector_to_parameters: the vector does not fit the parameters",
                expected=f"a vector of {needed} elements",
                given=f"shape {list(vec.shape)}",
            )
        )
    with no_grad():
        for p in parameters:
            n = p.numel()
            p.copy_(vec[at : at + n].reshape(tuple(p.shape)))
            at += n


def functional_call(
    module: Any, parameter_and_buffer_dicts: Any, args: Any = None, kwargs: dict[str, Any] | None = None, *,
    tie_weights: bool = True, strict: bool = False,
) -> Any:  # fmt: skip
    """Calls a module with the given Tensors in place of its parameters and buffers; `torch.func.functional_call`.

    Afterwards the module has its own again, also when it raised. Gradients reach the given Tensors, and a buffer that
    the module changes in place is changed there. One that it replaces is put into the dict.

    Args:
        module: The module.
        parameter_and_buffer_dicts: {path: Tensor}, paths as in `state_dict`; or a sequence of such dicts without common
            paths. Parameters and buffers that are not in it are the module's own; other paths mean nothing.
        args: The arguments: a tuple, or a single one.
        kwargs: The keyword arguments.
        tie_weights: A Tensor of the module that has several paths is replaced under all of them.
        strict: The paths have to be exactly the module's.

    Raises:
        OptionError: Two dicts have a path in common, or one Tensor of the module gets two different ones.
        ShapeError: Paths are missing or unexpected, if strict.

    Example:
        >>> import gradloom as gl
        >>> layer = gl.nn.Linear(2, 1, bias=False)
        >>> w = gl.tensor([[1.0, 2.0]], requires_grad=True)
        >>> gl.nn.utils.functional_call(layer, {"weight": w}, gl.ones(2))
        tensor([3.], grad_fn=<linear>)
    """
    single = isinstance(parameter_and_buffer_dicts, Mapping)
    dicts: list[Any] = [parameter_and_buffer_dicts] if single else list(parameter_and_buffer_dicts)
    given: dict[str, Any] = {}
    for d in dicts:
        common = given.keys() & d.keys()
        if common:
            raise OptionError(
                f"{sorted(common)} appeared in multiple dictionaries; behavior of functional call is ambiguous"
            )
        given.update(d)
    for path, t in given.items():
        if not isinstance(t, Tensor):
            raise TypeError(f"functional_call: {path} is not a Tensor, but {type(t).__name__}")
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    changes = _replacements(module, given, tie_weights, strict)
    before = [(table, name, table[name]) for table, name, _, _ in changes]
    try:
        for table, name, t, _ in changes:
            table[name] = t
        return module(*args, **(kwargs or {}))
    finally:
        for table, name, t, path in changes:
            now = table.get(name)
            if now is not t and path is not None and isinstance(now, Tensor):  # the module replaced it
                next(d for d in dicts if path in d)[path] = now
        for table, name, t in before:
            table[name] = t


def _replacements(module: Any, given: dict[str, Any], tie: bool, strict: bool) -> list[tuple]:
    """(table, name, Tensor, its path if that was given) of each parameter and buffer that is replaced."""
    places: dict[str, tuple[Any, str]] = {}
    for prefix, m in module.named_modules(remove_duplicate=False):
        for table in (m._parameters, m._buffers):
            places.update({f"{prefix}.{name}" if prefix else name: (table, name) for name in table})
    if strict:
        unexpected = [path for path in given if path not in places]
        missing = [path for path, (table, name) in places.items() if table[name] is not None and path not in given]
        if unexpected or missing:
            raise ShapeError(
                explain(
                    f"functional_call: the paths are not those of {type(module).__name__}",
                    given="; ".join(f"{what}: {', '.join(x)}" for what, x in
                                    (("unexpected", unexpected), ("missing", missing)) if x),
                )
            )  # fmt: skip
    found: dict[tuple[int, str], tuple] = {}
    new_of: dict[int, tuple[str, Any]] = {}
    for path, t in given.items():
        if path not in places:
            continue
        table, name = places[path]
        found[id(table), name] = (table, name, t, path)
        if tie and table[name] is not None:
            other, known = new_of.setdefault(id(table[name]), (path, t))
            if known is not t:
                raise OptionError(f"functional_call got different values for {other} and {path}, which are tied")
    for table, name in places.values():
        if (id(table), name) not in found and table[name] is not None and id(table[name]) in new_of:
            found[id(table), name] = (table, name, new_of[id(table[name])][1], None)
    return list(found.values())
