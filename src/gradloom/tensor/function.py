"""`autograd.Function`: an operation whose gradient the user writes."""

from __future__ import annotations

import copy
from typing import Any

from .. import ops
from ..errors import GradientError, explain
from ..ops.op import Op, Vjp
from .backprop import AGAIN
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
        self._kept: list = [(), (), ()]  # as what a node saves; here the third are the Tensors
        self._versions: tuple = ()
        self._places: dict[int, int] = {}  # which of the Tensors are results, and of these which
        self._node: Any = None  # during a pass that is recorded
        self._non_differentiable: tuple[int, ...] = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps Tensors for `backward`; one that is changed in place until then is an error."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save Tensors, but an argument is of type {type(t).__name__}"
                )
        self._kept[2] = tensors
        self._versions = tuple(t._version if t is not None else 0 for t in tensors)

    @property
    def saved_tensors(self) -> tuple:
        if not self._kept:
            raise GradientError(AGAIN)
        tensors = list(self._kept[2])
        for t, version in zip(tensors, self._versions, strict=True):
            if t is not None and t._version != version:
                raise GradientError(
                    "one of the variables needed for gradient computation has been modified by an inplace operation: a Tensor given "
                    f"to save_for_backward is at version {t._version}; expected version {version} instead."
                )
        if self._node is not None:  # a result has this operation for its history
            for i, place in self._places.items():
                tensors[i] = Raw.wrap(tensors[i]._array)
                tensors[i]._node = Output(self._node, place)
        return tuple(tensors)

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

    A subclass defines the static methods `forward(ctx, *args)` and `backward(ctx, *gradients)`; it is called by `apply`. As
    in PyTorch, they may also be three: `forward(*args)`, `setup_context(ctx, inputs, output)` and `backward`.

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
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        """Where it is defined, it fills `ctx`, and `forward` is called without it."""
        raise NotImplementedError("setup_context is not implemented.")

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
            if cls.setup_context is Function.setup_context:
                result = cls.forward(ctx, *args, **kwargs)
            else:
                result = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, result)
        results = result if isinstance(result, tuple) else (result,)
        if not (MODE.enabled and any(needs)):
            return result
        outs = [Raw.wrap(t._array) if isinstance(t, Tensor) else t for t in results]
        live = [
            k
            for k, t in enumerate(results)
            if isinstance(t, Tensor) and id(t) not in ctx._non_differentiable and t.is_floating_point()
        ]
        places = {id(t): place for place, k in enumerate(live) if all((t := results[k]) is not a for a in args)}
        ctx._places = {i: places[id(t)] for i, t in enumerate(ctx._kept[2]) if id(t) in places}
        attrs = {
            RESULTS: [(tuple(results[k].shape), results[k].dtype) if ctx._materialize else None for k in live],
            "ctx": ctx,
            "args": [(tuple(a.shape), a.dtype) if isinstance(a, Tensor) else None for a in args],
            # (place among the cotangents, or None; what zeros are made of)
            "results": [
                (live.index(k) if k in live else None, t if ctx._materialize and k not in live else None)
                for k, t in enumerate(results)
            ],
        }
        parents = tuple(a._node if n else None for a, n in zip(args, needs, strict=True))
        node = (_next(), cls._op().plan(needs), parents, attrs, None, ctx._kept if ctx._kept[2] else None)
        for place, k in enumerate(live):
            outs[k]._node = Output(node, place)
        return tuple(outs) if isinstance(result, tuple) else outs[0]

    @classmethod
    def _op(cls) -> Op:
        """The op that stands for the class in nodes: its vjp calls `backward`."""
        op = cls.__dict__.get("_record")
        if op is None:
            shape = {"variadic": True, "outputs": ("*results",)}
            op = Op(cls.__name__, lambda xp, *values: values, ("values",), (), differentiable=2, **shape)  # type: ignore[arg-type]
            vjp = Op(f"{cls.__name__}_vjp", lambda xp, gs, node: cls._vjp(gs, node), ("gs",), ("node",), **shape)  # type: ignore[arg-type]
            vjp.kernels = _Anything(cls._vjp)  # type: ignore[assignment]
            op.vjps.append(Vjp(vjp, (0,), (), (("node", "node", 0),), True))
            cls._record = op  # type: ignore[attr-defined]
        return op

    @classmethod
    def _vjp(cls, gs: tuple, node: tuple) -> tuple:
        """The cotangents of the arguments: arrays if those of the results are, else Tensors."""
        attrs = node[3]
        ctx, specs = attrs["ctx"], attrs["args"]
        recorded = any(isinstance(g, Tensor) for g in gs)
        if recorded and ctx._places:  # a copy, as the node must not be reached from itself
            ctx = copy.copy(ctx)
            ctx._node = node
        gradients: list[Any] = []
        for place, like in attrs["results"]:
            g = None if place is None else gs[place]
            if isinstance(like, Tensor):
                g = ops.zeros_like(like)
            gradients.append(g if g is None or isinstance(g, Tensor) else Raw.wrap(g))
        with set_grad_enabled(recorded):
            found = cls.backward(ctx, *gradients)
            found = found if isinstance(found, tuple) else (found,)
            if len(found) > len(specs) and all(f is None for f in found[len(specs) :]):
                found = found[: len(specs)]
            if len(found) != len(specs):
                raise GradientError(
                    explain(
                        f"function {cls.__name__}Backward returned an incorrect number of gradients",
                        expected=len(specs),
                        given=len(found),
                        do="return one gradient, or None, for each argument of forward",
                    )
                )
            fitted = [cls._fitted(i, f, specs[i], ctx.needs_input_grad[i]) for i, f in enumerate(found)]
        return tuple(f if f is None or recorded else f._array for f in fitted)

    @classmethod
    def _fitted(cls, i: int, g: Any, spec: tuple | None, wanted: bool) -> Any:
        """The gradient that `backward` gave for argument i, in its shape and dtype; None where none is wanted."""
        if g is None:
            return None
        if not isinstance(g, Tensor):
            raise GradientError(f"function {cls.__name__}Backward: expected Tensor or None (got {type(g).__name__})")
        if spec is None:
            raise GradientError(
                f"function {cls.__name__}Backward returned a gradient different from None at position {i + 1}, but the corresponding "
                "forward input was not a Tensor"
            )
        if not wanted:
            return None
        shape, dtype = spec
        if tuple(g.shape) != shape:
            tail = tuple(g.shape)[g.ndim - len(shape) :]
            if g.ndim < len(shape) or any(n not in (1, m) for n, m in zip(shape, tail, strict=True)):
                raise GradientError(
                    explain(
                        f"function {cls.__name__}Backward returned an invalid gradient at index {i}",
                        expected=f"shape {list(shape)}",
                        given=f"shape {list(g.shape)}",
                    )
                )
            g = ops.sum_to(g, shape=shape)
        return g if g.dtype is dtype else ops.astype(g, dtype=dtype)
