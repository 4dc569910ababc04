"""Connections: what flows between the parts of a composed model, and expressions of them.

A connection is a name (`IOKey`), an input or output of a part (`Port`), a part that was called (`Wired`, in wired.py),
or an expression of others (`Expression`): operators, methods of Tensors and ops all take connections.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

from .. import ops, tree
from ..dtypes import dtype as to_dtype
from ..errors import OptionError, ShapeError, explain, user_frame
from ..ops.op import Kind, Op, adopt
from ..tensor.tensor import Tensor

# Methods of Tensors that read a value, or would leave the model.
_NOT_IN_MODELS = frozenset(
    (
        "backward", "item", "tolist", "numpy", "detach", "retain_grad", "register_hook", "data_ptr", "is_contiguous",
        "cpu", "cuda", "to", "register_post_accumulate_grad_hook", "storage_offset", "stride", "element_size",
        "new_tensor", "nonzero",
    )
)  # fmt: skip


def is_method(name: str) -> bool:
    """Whether a connection has this method: those of Tensors that give Tensors and change nothing."""
    return (
        not name.startswith("_")
        and not name.endswith("_")
        and name not in _NOT_IN_MODELS
        and callable(getattr(Tensor, name, None))
    )


class Connection:
    """A value that flows between the parts of a model; the base of all kinds of connections.

    Operators (`a + b`, `a @ w`, `a > 0`), indexing (`a[:, 0]`), methods of Tensors (`a.mean(axis=1)`, `a.reshape(-1, 4)`)
    and gradloom's ops give expressions, which are connections again.

    Example:
        >>> import gradloom as gl
        >>> x, w = gl.models.IOKey("x"), gl.models.IOKey("w", trainable=True)
        >>> model = gl.Model.create(output=(x @ w).mean(axis=1))
        >>> model.input_keys, model.output_keys
        (('x',), ('output',))
    """

    __slots__ = ("__weakref__",)
    __array_ufunc__ = None  # `array + connection` is ours

    def __getattr__(self, name: str) -> Any:
        if not is_method(name):
            raise AttributeError(f"a connection has no attribute '{name}'")
        return lambda *args, **kwargs: Expression(f"method:{name}", (self, *args), kwargs)

    @property
    def T(self) -> Expression:
        """The connection with its two axes swapped."""
        return Expression("method:t", (self,), {})

    @property
    def mT(self) -> Expression:
        """The connection with its last two axes swapped."""
        return Expression("method:transpose", (self, -1, -2), {})

    def __getitem__(self, key: Any) -> Expression:
        return Expression("operator:getitem", (self, key), {})

    def __iter__(self) -> Iterator:
        raise TypeError(
            explain(
                "a connection cannot be taken apart by iteration: its size is not known yet",
                where=user_frame(),
                do="index it (x[0], x[1]), or use x.split(...)[0]",
            )
        )

    def __bool__(self) -> bool:
        raise TypeError(
            explain(
                "a connection has no value while the model is composed, so it cannot be a condition",
                where=user_frame(),
                do="use x.where(...) or gradloom.where",
            )
        )

    # Comparing elementwise would break sets and dicts of connections: x.eq(y) and x.ne(y) are the expressions.
    __hash__ = object.__hash__


def _operator(name: str, swap: bool = False) -> Callable:
    if swap:
        return lambda self, other: Expression(f"operator:{name}", (other, self), {})
    return lambda self, *other: Expression(f"operator:{name}", (self, *other), {})


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
#: name in a document -> function
OPERATORS: dict[str, Callable] = {n: getattr(operator, n + "_" if n in ("and", "or") else n) for n in _BINARY}
OPERATORS |= {n: getattr(operator, n) for n in ("lt", "le", "gt", "ge", "neg", "abs", "invert", "getitem")}
for _name in OPERATORS:
    if _name != "getitem":
        setattr(Connection, f"__{_name}__", _operator(_name))
    if _name in _BINARY:
        setattr(Connection, f"__r{_name}__", _operator(_name, swap=True))


class Expression(Connection):
    """The result of an operator, a Tensor's method or an op on connections; it becomes a part of the model that it is used in.

    Attributes:
        target: "operator:add", "method:mean" or "op:relu".
        args, kwargs: Connections, and values that are fixed.
        line: The user's line.
    """

    __slots__ = ("args", "kwargs", "line", "target")

    def __init__(self, target: str, args: tuple, kwargs: dict[str, Any]):
        self.target, self.args, self.kwargs = target, args, kwargs
        self.line = user_frame()

    @property
    def label(self) -> str:
        """Its name in models: "add", "mean"."""
        return self.target.partition(":")[2]

    def operands(self) -> list[Connection]:
        """The connections that it is made of."""
        return [a for a in tree.flatten((self.args, self.kwargs))[0] if isinstance(a, Connection)]

    def __repr__(self) -> str:
        return f"<{self.label} of {', '.join(map(repr, self.operands()))}>"


def function(target: str) -> Callable:
    """What an expression's target stands for.

    Raises:
        OptionError: There is no such operator, method or op.
    """
    kind, _, name = target.partition(":")
    if kind == "operator" and name in OPERATORS:
        return OPERATORS[name]
    if kind == "method" and is_method(name):
        return getattr(Tensor, name)
    if kind == "op" and name in ops.REGISTRY:
        found = ops.REGISTRY[name]
        return lambda *args, **attrs: found.entry[type(next(a for a in args if isinstance(a, Tensor)))](*args, **attrs)
    raise OptionError(
        explain(f"unknown operation {target!r}", expected="an operator, a method of Tensors, or an op of gradloom")
    )


class IOKey(Connection):
    """A connection by its name, with what is known about it.

    Args:
        name: Its name in the model; None for one without a name (a value).
        shape: Sizes; None for those that are not known, as in `[None, 784]`.
        dtype: Its dtype.
        value: Its value: an array, a Tensor or a number. It is fixed, unless `trainable`.
        trainable: It is a parameter. Default: what feeds only parameters of layers (`weight=IOKey("w")`) is.
        expose: It is an output of the model, also if other parts use it.

    Example:
        >>> import gradloom as gl
        >>> model = gl.Model()
        >>> model |= gl.models.Linear(4)(input=gl.models.IOKey("x", shape=[None, 3]), output="y")
        >>> gl.compile(model, "numpy").get_parameters()["linear.weight"].shape
        (4, 3)
    """

    __slots__ = ("dtype", "expose", "line", "name", "shape", "trainable", "value")

    def __init__(
        self,
        name: str | None = None,
        shape: Any = None,
        dtype: Any = None,
        value: Any = None,
        trainable: bool | None = None,
        expose: bool | None = None,
    ):
        if name is not None:
            check_name(name)
        self.name, self.value, self.trainable, self.expose = name, value, trainable, expose
        self.shape = None if shape is None else to_shape(shape)
        self.dtype = None if dtype is None else to_dtype(dtype)
        self.line = user_frame()

    def __repr__(self) -> str:
        return f"'{self.name}'" if self.name else "<value>" if self.value is not None else "<connection>"


Input = IOKey  # as functional code calls it: x = Input("x")


class Port(Connection):
    """An input, parameter or output of a part: `layer.output`."""

    __slots__ = ("key", "part")

    def __init__(self, part: Any, key: str):
        self.part, self.key = part, key

    def __repr__(self) -> str:
        return f"'{self.part.label}.{self.key}'"


def check_name(name: Any) -> None:
    """Raises unless this can be the name of a connection."""
    if not isinstance(name, str) or not name.isidentifier():
        raise OptionError(
            explain(
                "the name of a connection is a Python identifier",
                expected="letters, digits and underscores, such as 'hidden_1'",
                given=repr(name),
                where=user_frame(),
            )
        )


def to_shape(shape: Any) -> tuple[int | None, ...]:
    """A shape that may have unknown sizes (None)."""
    try:
        sizes = (shape,) if isinstance(shape, int) else tuple(None if n is None else operator.index(n) for n in shape)
    except TypeError:
        sizes = (-1,)
    if any(n is not None and n < 0 for n in sizes):
        raise ShapeError(
            explain(
                "a shape is a list of sizes, with None for those that are not known",
                given=repr(shape),
                where=user_frame(),
            )
        )
    return sizes


def _entry(record: Op) -> Callable:
    return lambda *args, **attrs: Expression(f"op:{record.name}", args, attrs)


def _no_dtype(connection: Connection) -> Any:
    raise TypeError("a connection has no dtype while the model is composed")


adopt(Connection, Expression, IOKey, Port, kind=Kind(3, _entry, _entry, _no_dtype))
