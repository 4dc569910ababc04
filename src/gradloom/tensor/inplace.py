"""The in-place methods of Tensors: the operation is computed out of place, and its result stored in the Tensor's
memory.

So they are differentiable, work through views and on every engine; see `storage`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import ops
from ..dtypes import bool_, float32, float64
from ..errors import DTypeError, ShapeError, explain
from ..graph.graph import PLACE
from ..ops.op import SCALARS, kind_of
from . import tape
from .arrays import as_array, backend_name, cast, engine, frozen, wrap
from .creation import draw, drawn, like
from .grad_mode import MODE
from .storage import assign

_CATEGORY = {"bool": 0, "uint": 1, "int": 1, "float": 2}
_NAMES = {"float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long",
          "int32": "Int", "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool"}  # fmt: skip


def torch_name(d: Any) -> str:
    """PyTorch's name of a dtype in its messages."""
    return _NAMES[d.name]


def store(t: Any, value: Any) -> Any:
    """Puts the Tensor `value`, the result of an operation, into t's memory, and returns t.

    Raises:
        ShapeError: The result has another shape.
        DTypeError: The result's dtype is of a higher category (float into an integer Tensor).
        GradientError: t is a leaf that requires a gradient.
    """
    if tuple(value._array.shape) != tuple(t._array.shape):
        raise ShapeError(f"output with shape {list(t.shape)} doesn't match the broadcast shape {list(value.shape)}")
    mine, other = t.dtype, value.dtype
    if other is not mine:
        if _CATEGORY[other.kind] > _CATEGORY[mine.kind]:
            raise DTypeError(
                f"result type {torch_name(other)} can't be cast to the desired output type {torch_name(mine)}"
            )
        value = cast(value, mine)
    elif value is t:
        return t
    return assign(t, value)


def replaced(t: Any, value: Any) -> Any:
    """Puts a Tensor or number, cast to t's dtype and broadcast to its shape, into t's memory."""
    if not isinstance(value, tape.Tensor):
        if type(value) not in SCALARS:
            value = wrap(as_array(value, t.dtype, backend_name(t), False))
        elif t.dtype.kind != "float" and isinstance(value, float):
            value = bool(value) if t.dtype.kind == "bool" else int(value)
    shape = tuple(t._array.shape)
    if not isinstance(value, tape.Tensor):
        new = wrap(like(t._array, shape, value, t.dtype))
    else:
        value = cast(value, t.dtype)
        if tuple(value._array.shape) != shape:
            value = ops.broadcast_to(value, shape=shape)
        new = value.clone()  # memory of its own: an optimizer may write t's in place
    if MODE.enabled and not t.is_leaf:
        # t stays part of its graph, with a gradient of 0 for what it was computed from.
        new = ops.where(wrap(like(t._array, shape, True, bool_)), new, t)
    return assign(t, new)


def _from(name: str) -> Any:
    """The in-place form of the method `name`."""

    def method(self, *args, **kwargs):
        before = frozen(self)  # what a vjp saves must not change
        return store(self, getattr(before, name)(*(before if a is self else a for a in args), **kwargs))

    method.__name__ = method.__qualname__ = f"{name}_"
    method.__doc__ = f"`{name}`, in place: computed, checked, and stored in this Tensor's memory. Returns the Tensor."
    return method


def _operator(name: str) -> Any:
    def method(self, other):
        before = frozen(self)
        return store(self, getattr(before, name)(before if other is self else other))

    method.__doc__ = f"`{name}` in place."
    return method


class InPlace:
    """What changes a Tensor's memory."""

    if TYPE_CHECKING:  # what Tensor has

        def __getattr__(self, name: str) -> Any: ...

    add_, sub_, mul_, div_ = _from("add"), _from("sub"), _from("mul"), _from("div")
    subtract_, multiply_, divide_, true_divide_ = sub_, mul_, div_, div_
    floor_divide_, remainder_, pow_ = _from("floor_divide"), _from("remainder"), _from("pow")
    neg_, abs_, sign_, reciprocal_, square_ = (
        _from("neg"),
        _from("abs"),
        _from("sign"),
        _from("reciprocal"),
        _from("square"),
    )
    negative_ = neg_
    sqrt_, rsqrt_, exp_, log_, expm1_, log1p_ = (_from(n) for n in ("sqrt", "rsqrt", "exp", "log", "expm1", "log1p"))
    sin_, cos_, tan_, tanh_, sigmoid_, erf_ = (_from(n) for n in ("sin", "cos", "tan", "tanh", "sigmoid", "erf"))
    floor_, ceil_, round_, trunc_, relu_ = (_from(n) for n in ("floor", "ceil", "round", "trunc", "relu"))
    clamp_, clamp_min_, clamp_max_, lerp_ = (_from(n) for n in ("clamp", "clamp_min", "clamp_max", "lerp"))
    clip_ = clamp_
    addcmul_, addcdiv_, addmm_ = _from("addcmul"), _from("addcdiv"), _from("addmm")
    tril_, triu_, cumsum_, cumprod_ = _from("tril"), _from("triu"), _from("cumsum"), _from("cumprod")
    masked_fill_ = _from("masked_fill")
    index_add_, index_copy_, index_fill_ = _from("index_add"), _from("index_copy"), _from("index_fill")
    scatter_, scatter_add_ = _from("scatter"), _from("scatter_add")
    logical_not_, bitwise_not_ = _from("logical_not"), _from("bitwise_not")
    logical_and_, logical_or_, logical_xor_ = _from("logical_and"), _from("logical_or"), _from("logical_xor")
    bitwise_and_, bitwise_or_, bitwise_xor_ = _from("bitwise_and"), _from("bitwise_or"), _from("bitwise_xor")

    __iadd__, __isub__, __imul__, __itruediv__ = (_operator(f"__{n}__") for n in ("add", "sub", "mul", "truediv"))
    __ifloordiv__, __imod__, __ipow__ = (_operator(f"__{n}__") for n in ("floordiv", "mod", "pow"))
    __iand__, __ior__, __ixor__ = (_operator(f"__{n}__") for n in ("and", "or", "xor"))

    def zero_(self) -> Any:
        """Sets all elements to 0."""
        return replaced(self, 0)

    def fill_(self, value: Any) -> Any:
        """Sets all elements to a number or a Tensor of one element."""
        if isinstance(value, tape.Tensor) and value.ndim:
            raise ShapeError(
                f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions."
            )
        return replaced(self, value)

    def copy_(self, src: Any, non_blocking: bool = False) -> Any:
        """Takes over the elements of `src`, which are cast and broadcast; of another backend too.

        Args:
            src: A Tensor, an array or a number.
            non_blocking: Allowed; engines that can compute later do so in any case.
        """
        if isinstance(src, tape.Tensor) and kind_of(type(src._array)) is not kind_of(type(self._array)):
            src = src.to(backend=self.backend)
        return replaced(self, src)

    def fill_diagonal_(self, fill_value: float) -> Any:
        """Sets the main diagonal of a matrix to a number."""
        if self.ndim != 2:
            raise ShapeError(f"fill_diagonal_ takes a matrix, not {self.ndim} dimensions")
        self.diagonal().fill_(fill_value)
        return self

    def normal_(self, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Any:
        """Fills the Tensor with normal random numbers."""
        return _drawn(self, "normal", generator, float(mean), float(std))

    def uniform_(self, from_: float = 0.0, to: float = 1.0, *, generator: Any = None, **kwargs: float) -> Any:
        """Fills the Tensor with uniform random numbers in [from, to)."""
        low = kwargs.pop("from", from_)
        if kwargs:
            raise TypeError(f"uniform_() got an unexpected keyword argument '{next(iter(kwargs))}'")
        return _drawn(self, "uniform", generator, float(low), float(to))

    def bernoulli_(self, p: float = 0.5, *, generator: Any = None) -> Any:
        """Fills the Tensor with 1 (with probability p) and 0."""
        hits = draw("uniform", generator, tuple(self.shape), dtype=float64) < p
        return replaced(self, wrap(as_array(hits, self.dtype, backend_name(self), False)))

    def random_(self, from_: int = 0, to: int | None = None, *, generator: Any = None) -> Any:
        """Fills the Tensor with random integers in [from, to), or [0, from)."""
        low, high = (0, from_) if to is None else (from_, to)
        values = draw("randint", generator, tuple(self.shape), low, high)
        return replaced(self, wrap(as_array(values, self.dtype, backend_name(self), False)))


def _drawn(t: Any, kind: str, generator: Any, a: float, b: float) -> Any:
    if t.dtype.kind != "float":
        raise DTypeError(
            explain(f"{kind}_ fills Tensors of a float dtype", given=t.dtype, do="use random_ for integers")
        )
    shape, precision = tuple(t.shape), float32 if t.dtype.itemsize < 4 else t.dtype
    chosen = engine(None if PLACE.graph is not None else backend_name(t))
    return replaced(t, wrap(drawn(kind, generator, shape, t.dtype, chosen, shape, a, b, dtype=precision)))
