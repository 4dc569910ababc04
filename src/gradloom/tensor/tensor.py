"""The eager Tensor: PyTorch's, over an array of any backend. Its maths is in `ops`, its history in `tape`, its aliasing in `storage`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..backends.registry import backend_of, default_backend
from ..dtypes import DType
from ..errors import DTypeError, GradientError, ShapeError
from ..ops.op import KINDS, SCALARS, kind_of
from . import tape
from .arrays import as_array, axis
from .autograd import backward as run_backward
from .formatting import format_tensor
from .indexing import indexing, put_value
from .methods import Methods
from .storage import STRUCTURE, assign, copied, make_view, share
from .tape import Leaf

_new = object.__new__


class Size(tuple):
    """A shape; `numel()` is its number of elements."""

    __slots__ = ()

    def numel(self) -> int:
        return math.prod(self)

    def __repr__(self) -> str:
        return f"gradloom.Size({list(self)})"


class Tensor(Methods):
    """An n-dimensional array of a backend with, if asked for, the history of how it was computed.

    Make one with `gradloom.tensor(data)`. Operations, dtypes, views, in-place changes and gradients follow PyTorch.

    Args:
        data: A number, nested sequence, NumPy array or array of any backend. Copied, as `gradloom.tensor` does.

    Attributes:
        grad: The gradient that `backward` accumulated, or None.
        native: The engine's own array. Do not write to it.

    Example:
        >>> import gradloom as gl
        >>> x = gl.tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        tensor([2., 4.])
    """

    # Set on every instance; _node is None where there is no history.
    _array: Any
    _node: Any
    # Set when needed.
    _cell: Any = None
    _base: Any = None
    _lens: Any = None
    _strides: Any = None  # of a view, once asked for
    _version: int = 0
    _grad: Any = None
    _retains: bool = False  # retain_grad() was called
    _leaf: Any = None  # while no gradient is required: the Leaf with its hooks, from when one was
    _name: str | None = None

    __array_ufunc__ = None  # ndarray + Tensor asks the Tensor

    def __new__(cls, data: Any = None, *args: Any, **kwargs: Any):
        return _new(cls)

    def __init__(self, data: Any, dtype: Any = None, requires_grad: bool = False):
        self._array, self._node = as_array(data, dtype, copy=True), None
        if requires_grad:
            self.requires_grad_()

    # ------------------------------------------------------------------------------------------------ what it is

    @property
    def native(self) -> Any:
        return self._array

    @property
    def dtype(self) -> DType:
        x = self._array
        return KINDS[type(x)].dtype(x) if type(x) in KINDS else backend_of(x).dtype_of(x)

    @property
    def shape(self) -> Size:
        return Size(self._array.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or its entry `dim`."""
        return self.shape if dim is None else self.shape[axis(dim, self.ndim)]

    @property
    def ndim(self) -> int:
        return len(self._array.shape)

    def dim(self) -> int:
        """Number of axes."""
        return len(self._array.shape)

    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self._array.shape)

    def nelement(self) -> int:
        """Number of elements."""
        return self.numel()

    def element_size(self) -> int:
        """Bytes per element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.numel() * self.dtype.itemsize

    @property
    def backend(self) -> str:
        """Name of the backend that holds the array."""
        x = self._array
        return default_backend().name if hasattr(x, "concrete") else backend_of(x).name

    @property
    def device(self) -> str:
        """The engine's name of the device that holds the array."""
        x = self._array
        # A traced value has none yet: it is the one that the function is compiled for.
        return str(default_backend().device) if hasattr(x, "concrete") else backend_of(x).device_of(x)

    def is_floating_point(self) -> bool:
        """Whether the dtype is a float."""
        return self.dtype.kind == "float"

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(self.shape[0]))

    def __hash__(self) -> int:
        return id(self)

    # --------------------------------------------------------------------------------------------------- gradients

    @property
    def requires_grad(self) -> bool:
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Sets whether operations on this leaf are recorded.

        Raises:
            GradientError: The dtype is no float, or the Tensor is the result of a recorded operation.
        """
        if requires_grad == (self._node is not None):
            return self
        if not self.is_leaf:
            raise GradientError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a "
                "subgraph that doesn't require differentiation use var_no_grad = var.detach()."
            )
        if requires_grad and self.dtype.kind != "float":
            raise GradientError(f"only Tensors of floating point dtype can require gradients; this one is {self.dtype}")
        if requires_grad:
            self._node, self._leaf = self._leaf or Leaf(self), None
        else:
            self._node, self._leaf = None, self._node
        STRUCTURE.version += 1
        return self

    @property
    def is_leaf(self) -> bool:
        return self._node is None or type(self._node) is Leaf

    @property
    def grad_fn(self) -> Any:
        """What made this Tensor, for display; None for a leaf."""
        return None if self.is_leaf else GradFn(self._node)

    @property
    def grad(self) -> Tensor | None:
        g = self._grad
        if g is not None and type(g) is not Tensor:
            g = g()  # a compiled step did not keep it: raises and says so
        return g

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got {type(value).__name__}")
            if value is self:
                raise GradientError("can't assign Variable as its own grad")
            if value.shape != self.shape:
                raise ShapeError(
                    f"assigned grad has data of a different size: the Tensor has {list(self.shape)}, the gradient {list(value.shape)}"
                )
            if value.dtype is not self.dtype:
                raise DTypeError(
                    f"assigned grad has data of a different type: {value.dtype} for a Tensor of {self.dtype}"
                )
        if (value is None) is not (self._grad is None):
            STRUCTURE.version += 1
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self.grad = None

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Sequence[Tensor] | Tensor | None = None,
    ) -> None:
        """Accumulates the gradient of this Tensor into the `grad` of the leaves it was computed from.

        Args:
            gradient: Cotangent of this Tensor's shape; may be left out for one element (it is 1 then).
            retain_graph: Keep what another backward pass needs. Default: `create_graph`.
            create_graph: Record the pass itself, for higher derivatives.
            inputs: Accumulate into these only.

        Raises:
            GradientError: No recorded history; several elements and no `gradient`; a second pass; a saved Tensor changed in place.

        Example:
            >>> import gradloom as gl
            >>> x = gl.tensor(3.0, requires_grad=True)
            >>> (x**2).backward()
            >>> x.grad
            tensor(6.)
        """
        run_backward(self, gradient, retain_graph, create_graph, inputs)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Any:
        """Calls `hook(grad)` when the gradient of this Tensor is computed; what it returns replaces the gradient.

        Returns:
            A handle with `remove()`.
        """
        if self._node is None:
            raise GradientError("cannot register a hook on a tensor that doesn't require gradient")
        return Handle(tape.hooks_of(self._node), hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> Any:
        """Calls `hook(tensor)` after `backward` has accumulated into this leaf's `grad`."""
        if type(self._node) is not Leaf:
            raise GradientError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        if self._node.after is None:
            self._node.after = {}
        return Handle(self._node.after, hook)

    def retain_grad(self) -> None:
        """Makes `backward` keep the gradient of this computed Tensor in `grad`."""
        if self._node is None:
            raise GradientError("can't retain_grad on Tensor that has requires_grad=False")
        if type(self._node) is not Leaf and not self._retains:
            tape.retain(self)

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad` was called on this computed Tensor."""
        return self._retains

    def detach(self) -> Tensor:
        """A Tensor over the same memory without history; changes in place are seen by both."""
        return share(self, _new(Tensor))

    def detach_(self) -> Tensor:
        """Drops this Tensor's history.

        Raises:
            GradientError: It is a view, whose history is that of its base.
        """
        if self._base is not None and self._node is not None:
            raise GradientError("Can't detach views in-place. Use detach() instead.")
        self._node, self._retains = None, False
        return self

    @property
    def data(self) -> Tensor:
        """As `detach()`; assigning gives this Tensor the array of another one, without recording."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"data must be a Tensor, not {type(value).__name__}")
        node = self._node
        self._cell = self._base = self._lens = self._strides = None  # other aliases keep the old memory, as in PyTorch
        share(value, self)
        self._node = node
        self._version += 1
        STRUCTURE.version += 1

    def __copy__(self) -> Tensor:
        made = share(self, _new(type(self)))
        made.__dict__.update(_users(self))
        return made.requires_grad_() if self._node is not None else made

    def __deepcopy__(self, memo: dict) -> Tensor:
        if not self.is_leaf:
            raise GradientError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol: detach() it, or clone() it."
            )
        made = memo[id(self)] = copied(self, _new(type(self)), memo)
        made.__dict__.update(copy.deepcopy(_users(self), memo))
        if self._node is not None:
            made._node = Leaf(made)
        made._grad, made._name = copy.deepcopy(self.grad, memo), self._name
        return made

    # --------------------------------------------------------------------------------------------- out to Python

    def numpy(self) -> np.ndarray:
        """The elements as a NumPy array, which may share memory.

        Raises:
            GradientError: The Tensor requires a gradient: use `tensor.detach().numpy()`.
        """
        if self._node is not None:
            raise GradientError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        return _concrete(self, "numpy()")

    def item(self) -> bool | int | float:
        """The one element as a Python number."""
        if self.numel() != 1:
            raise ShapeError(f"a Tensor with {self.numel()} elements cannot be converted to Scalar")
        return _concrete(self, "item()").item()

    def tolist(self) -> Any:
        """The elements as nested lists."""
        return _concrete(self, "tolist()").tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        a = self.numpy()
        return a.astype(dtype) if dtype is not None and a.dtype != dtype else a.copy() if copy else a

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self._array.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()

    def __bool__(self) -> bool:
        if self.numel() != 1:
            raise ShapeError(
                "Boolean value of Tensor with more than one value is ambiguous"
                if self.numel()
                else "Boolean value of Tensor with no values is ambiguous"
            )
        return bool(_concrete(self, "bool()").item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind == "float":
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __repr__(self) -> str:
        return format_tensor(self)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if not self.ndim and spec else repr(self)

    # -------------------------------------------------------------------------------------------------- arithmetic

    __add__ = __radd__ = ops.add
    __mul__ = __rmul__ = ops.multiply
    __sub__, __truediv__ = ops.subtract, ops.divide
    __floordiv__, __mod__, __pow__, __matmul__ = ops.floor_divide, ops.remainder, ops.pow, ops.matmul
    __neg__, __abs__ = ops.negative, ops.abs
    __and__ = __rand__ = ops.bitwise_and
    __or__ = __ror__ = ops.bitwise_or
    __xor__ = __rxor__ = ops.bitwise_xor
    __invert__ = ops.bitwise_not
    __lt__, __le__, __gt__, __ge__ = ops.less, ops.less_equal, ops.greater, ops.greater_equal

    def __rsub__(self, other: Any) -> Tensor:
        return ops.subtract(other, self)

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.divide(other, self)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return ops.floor_divide(other, self)

    def __rmod__(self, other: Any) -> Tensor:
        return ops.remainder(other, self)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.pow(other, self)

    def __rmatmul__(self, other: Any) -> Tensor:
        return ops.matmul(other, self)

    def __eq__(self, other: Any) -> Any:
        return ops.equal(self, other) if _comparable(other) else False

    def __ne__(self, other: Any) -> Any:
        return ops.not_equal(self, other) if _comparable(other) else True

    def __getitem__(self, key: Any) -> Tensor:
        key, indices = indexing(self, key)
        return ops.getitem(self, *indices, key=key)

    def __setitem__(self, key: Any, value: Any) -> None:
        key, indices = indexing(self, key)
        assign(self, ops.put(self, put_value(self, value), *indices, key=key))


class GradFn:
    """A node of the tape, for display: `name()` and `next_functions`."""

    __slots__ = ("_node",)

    def __init__(self, node: Any):
        self._node = node if type(node) is tuple else node.node

    def name(self) -> str:
        """Name of the operation."""
        return self._node[1].op.name

    @property
    def next_functions(self) -> tuple:
        """What made the operands."""
        return tuple(None if p is None or type(p) is Leaf else GradFn(p) for p in self._node[2])

    def __repr__(self) -> str:
        return f"<{self.name()}>"


def _comparable(other: Any) -> bool:
    return isinstance(other, Tensor) or type(other) in SCALARS or kind_of(type(other)) is not None


class Handle:
    """Removes a hook: `handle.remove()`, or at the end of a `with` block."""

    __slots__ = ("_hooks",)

    def __init__(self, hooks: dict, hook: Callable):
        self._hooks = hooks
        hooks[self] = hook

    def remove(self) -> None:
        """Removes the hook; a second call does nothing."""
        self._hooks.pop(self, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


def _users(t: Tensor) -> dict[str, Any]:
    """The attributes that users, or a subclass, gave a Tensor."""
    return {k: v for k, v in vars(t).items() if not k.startswith("_")}


def _concrete(t: Tensor, what: str) -> np.ndarray:
    """The elements as a NumPy array; under `gradloom.jit` there are none yet, which the traced value's `concrete` says."""
    x = t._array
    concrete = getattr(x, "concrete", None)
    if concrete is not None:
        concrete(what)  # raises
    return backend_of(x).to_numpy(x)


tape.adopt_tensors(Tensor)
for _name, _function in list(vars(Tensor).items()):
    # Operators go straight to the tape; the public function's dispatch would cost a tenth of an addition.
    if _name.startswith("__") and hasattr(_function, "op"):
        setattr(Tensor, _name, _function.op.entry[Tensor])
tape.make_view = make_view
