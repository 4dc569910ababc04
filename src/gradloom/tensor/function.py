"""`autograd.Function`: an operation whose gradient the user writes."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..errors import GradientError, explain
from ..ops.op import Op
from .grad_mode import MODE, no_grad, set_grad_enabled
from .tape import RESULTS, Output, Raw, _next
from .tensor import Tensor


class Context:
    """What `forward` leaves for `backward`.

    Attributes:
        saved_tensors: What `save_for_backward` was given.
        needs_input_grad: For each argument of `forward` whether its gradient is wanted.
    """

    def __init__(self, needs: tuple[bool, ...]):
        self.needs_input_grad = needs
        self._saved: tuple = ()
        self._versions: tuple = ()
        self._non_differentiable: tuple[int, ...] = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps Tensors for `backward`; one that is changed in place until then is an error."""
        self._saved = tensors
        self._versions = tuple(t._version if t is not None else 0 for t in tensors)

    @property
    def saved_tensors(self) -> tuple:
        for t, version in zip(self._saved, self._versions, strict=True):
            if t is not None and t._version != version:
                raise GradientError(
                    "one of the variables needed for gradient computation has been modified by an inplace operation: a Tensor given "
                    f"to save_for_backward is at version {t._version}; expected version {version} instead."
                )
        return self._saved

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Results of `forward` that carry no gradient."""
        self._non_differentiable = tuple(id(t) for t in tensors)

    def set_materialize_grads(self, value: bool) -> None:
        """False: results that nothing depends on get None in place of zeros as their gradient."""
        self._materialize = value


class _Anything(dict):
    """A kernel table whose entries do not depend on the type: the user's code takes Tensors of any engine."""

    def __init__(self, call: Any):
        super().__init__()
        self.call = call

    def __missing__(self, _: type) -> Any:
        return self.call


class Function:
    """Base of operations with a gradient of their own.

    A subclass defines the static methods `forward(ctx, *args)` and `backward(ctx, *gradients)`; it is called by `apply`.

    Example:
        >>> import gradloom as gl
        >>> class Cube(gl.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.save_for_backward(x)
        ...         return x**3
        ...
        ...     @staticmethod
        ...     def backward(ctx, g):
        ...         (x,) = ctx.saved_tensors
        ...         return 3 * x**2 * g
        >>> x = gl.tensor(2.0, requires_grad=True)
        >>> Cube.apply(x).backward()
        >>> x.grad
        tensor(12.)
    """

    @staticmethod
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        """Computes the result; runs without recording."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Gives a gradient, or None, for each argument of `forward`."""
        raise NotImplementedError("You must implement the backward function to use Function with backward mode AD.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Runs the operation on Tensors."""
        needs = tuple(isinstance(a, Tensor) and a._node is not None for a in args)
        ctx = Context(needs)
        with no_grad():
            result = cls.forward(ctx, *args, **kwargs)
        results = result if isinstance(result, tuple) else (result,)
        if not (MODE.enabled and any(needs)):
            return result
        outs = [Raw.wrap(t._array) if isinstance(t, Tensor) else t for t in results]
        live = [
            k
            for k, t in enumerate(results)
            if isinstance(t, Tensor) and id(t) not in ctx._non_differentiable and t.is_floating_point()
        ]
        op = Op(
            cls.__name__,
            lambda xp, *values: values,
            ("values",),
            (),
            variadic=True,
            outputs=("*results",),
            differentiable=2,
        )
        op.define_vjp(("values",), lambda xp, gs: cls._vjp(ctx, args, results, live, gs))
        op.vjps[0].op.kernels = _Anything(lambda gs: cls._vjp(ctx, args, results, live, gs))  # type: ignore[assignment]
        specs = [(tuple(results[k].shape), results[k].dtype) for k in live]
        parents = tuple(a._node if n else None for a, n in zip(args, needs, strict=True))
        node = (_next(), op.plan(needs), parents, {RESULTS: specs}, None, None)
        for place, k in enumerate(live):
            outs[k]._node = Output(node, place)
        return tuple(outs) if isinstance(result, tuple) else outs[0]

    @classmethod
    def _vjp(cls, ctx: Context, args: tuple, results: tuple, live: list[int], gs: tuple) -> tuple:
        recorded = isinstance(gs[0], Tensor)
        gradients: list[Any] = [None] * len(results)
        for k, g in zip(live, gs, strict=True):
            gradients[k] = g if recorded else Raw.wrap(g)
        if ctx._materialize:
            gradients = [
                ops.zeros_like(t) if g is None and isinstance(t, Tensor) else g
                for g, t in zip(gradients, results, strict=True)
            ]
        with set_grad_enabled(recorded):
            found = cls.backward(ctx, *gradients)
        found = found if isinstance(found, tuple) else (found,)
        if len(found) > len(args) and all(f is None for f in found[len(args) :]):
            found = found[: len(args)]
        if len(found) != len(args):
            raise GradientError(
                explain(
                    f"function {cls.__name__}Backward returned an incorrect number of gradients",
                    expected=len(args),
                    given=len(found),
                    do="return one gradient, or None, for each argument of forward",
                )
            )
        for i, (a, f) in enumerate(zip(args, found, strict=True)):
            if f is not None and isinstance(a, Tensor) and tuple(f.shape) != tuple(a.shape):
                raise GradientError(
                    explain(
                        f"function {cls.__name__}Backward returned an invalid gradient at index {i}",
                        expected=f"shape {list(a.shape)}",
                        given=f"shape {list(f.shape)}",
                    )
                )
        return tuple(None if f is None else f if recorded else f._array for f in found)
