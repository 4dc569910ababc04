"""Values in documents: what JSON does not have (tuples, slices, dtypes, arrays, ...) as objects of one field, and back.

Each field that is read is checked. What does not fit is a `FileFormatError` that says where in the document it is.
"""

from __future__ import annotations

import base64
import binascii
import collections.abc
import difflib
import functools
import inspect
import math
import reprlib
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..backends.registry import backend_of, get_backend
from ..dtypes import DType, bfloat16, float32, to_numpy_dtype
from ..dtypes import dtype as to_dtype
from ..errors import DTypeError, FileFormatError, OptionError, explain
from ..ops.op import kind_of
from ..tensor.arrays import wrap
from ..tensor.tensor import Tensor
from . import layers
from .part import Layer, Part, Slot

#: Arrays of more elements are written as base64.
SMALL = 32
#: How deep values may be nested.
_DEEPEST = 32
_DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")

#: The tags that are allowed in the arguments of expressions, in the options of layers, and in values of connections.
IN_EXPRESSIONS = frozenset(("tuple", "slice", "ellipsis", "float", "dtype", "dict", "operand"))
IN_OPTIONS = frozenset(("tuple", "slice", "ellipsis", "float", "dtype", "dict", "part", "array", "tensor"))
IN_VALUES = frozenset(("tuple", "float", "array", "tensor"))


def fault(path: str, problem: str, expected: object = None, given: object = None, do: object = None) -> FileFormatError:
    """The error for a place in a document."""
    return FileFormatError(
        explain(f"the document is not valid: {problem}", expected=expected, given=given, where=path or None, do=do)
    )


def short(value: Any) -> str:
    """A value in an error message."""
    return reprlib.repr(value)


def near(name: Any, known: Iterable[str]) -> str | None:
    """A hint at what may have been meant."""
    found = difflib.get_close_matches(str(name)[:200], list(known), 1)
    return f"did you mean '{found[0]}'?" if found else None


def fields(value: Any, path: str, required: Iterable[str] = (), optional: Iterable[str] = ()) -> dict[str, Any]:
    """The value, which is an object with these fields and no others."""
    if type(value) is not dict:
        raise fault(path, "this is an object", "{...}", short(value))
    required = tuple(required)
    allowed = (*required, *optional)
    for key in value:
        if key not in allowed:
            raise fault(path, f"the field {short(key)} is unknown", ", ".join(allowed), do=near(key, allowed))
    for key in required:
        if key not in value:
            raise fault(path, f"the field '{key}' is missing", ", ".join(required))
    return value


def of_type(value: Any, kind: Any, path: str, what: str) -> Any:
    """The value, if it is of that type; bools are no integers."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise fault(path, f"this is {what}", what, short(value))
    return value


# --------------------------------------------------------------------------------------------------------- writing


def encode(value: Any, path: str, part: Callable[[Part, str], int] | None = None) -> Any:
    """A value as JSON has it.

    Args:
        value: The value.
        path: Where it is in the model, for messages.
        part: Gives the number of a part; None where there cannot be one.

    Raises:
        OptionError: It is nothing that a document can hold.
    """
    if value is None or isinstance(value, (bool, str)):
        return value if value is None or type(value) is bool else str.__str__(value)
    if isinstance(value, np.generic) and part is not None:  # options are plain numbers; elsewhere it is an array
        return encode(value.item(), path, part)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if value is Ellipsis:
        return {"ellipsis": True}
    inner = functools.partial(encode, part=part)
    if isinstance(value, slice):
        ends = (value.start, value.stop, value.step)
        return {"slice": [inner(int(v) if isinstance(v, np.integer) else v, path) for v in ends]}
    if isinstance(value, (tuple, list)):
        items = [inner(v, f"{path}[{i}]") for i, v in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {"dict": {k: inner(v, f"{path}[{k!r}]") for k, v in value.items()}}
    if isinstance(value, Slot):
        return {"operand": value.index}
    if isinstance(value, Part) and part is not None:
        return {"part": part(value, path)}
    if isinstance(value, (Tensor, np.ndarray, np.generic)) or kind_of(type(value)) is not None:
        return _encode_array(value, path)
    try:
        return {"dtype": to_dtype(value).name}
    except DTypeError:
        pass
    raise OptionError(
        explain(
            f"a document cannot hold a value of type {type(value).__name__}",
            expected="numbers, strings, lists, tuples, dicts with names, slices, dtypes, arrays",
            given=short(value),
            where=path,
        )
    )


def _encode_array(value: Any, path: str) -> dict[str, Any]:
    """NumPy's arrays are "array": their floats take a backend's dtype. Others are "tensor": they keep theirs."""
    tag = "array" if isinstance(value, (np.ndarray, np.generic)) else "tensor"
    native = value.detach()._array if isinstance(value, Tensor) else value
    backend = backend_of(native) if tag == "tensor" else None
    host = np.asarray(native if backend is None else backend.to_numpy(native))
    try:
        d = to_dtype(host.dtype) if backend is None else backend.dtype_of(native)
    except DTypeError:
        raise OptionError(
            explain(
                "a document cannot hold an array of this dtype",
                expected=", ".join(_DTYPES),
                given=host.dtype,
                where=path,
            )
        ) from None
    stored = to_numpy_dtype(float32 if d is bfloat16 else d)
    host = np.ascontiguousarray(host.astype(stored)).reshape(host.shape)
    found: dict[str, Any] = {"dtype": d.name}
    if 0 < host.size <= SMALL and (host.dtype.kind != "f" or np.isfinite(host).all()):
        return {tag: {**found, "data": host.tolist()}}
    little = host.astype(stored.newbyteorder("<"), copy=False)
    text = base64.b64encode(little.tobytes()).decode("ascii")
    return {tag: {**found, "shape": list(host.shape), "base64": text}}


# --------------------------------------------------------------------------------------------------------- reading


class Decoder:
    """Reads values of a document.

    Args:
        allowed: The tags that may come.
        part: Gives the part of a number, for "part".

    Attributes:
        operands: The numbers of the operands that were read.
    """

    def __init__(self, allowed: frozenset[str], part: Callable[[Any, str], Part] | None = None):
        self.allowed, self.part = allowed, part
        self.operands: set[int] = set()

    def decode(self, value: Any, path: str, depth: int = 0) -> Any:
        """The value that `encode` wrote."""
        if depth > _DEEPEST:
            raise fault(path, f"values are nested more than {_DEEPEST} deep")
        if value is None or type(value) in (bool, str, int):
            return value
        if type(value) is float:
            if not math.isfinite(value):
                raise fault(path, "this number is not finite", '{"float": "nan"}, "inf" or "-inf"', value)
            return value
        if type(value) is list:
            return [self.decode(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(value)]
        if type(value) is not dict or len(value) != 1:
            raise fault(
                path, "this is no value", "a number, a string, null, a list, or an object of one field", short(value)
            )
        ((tag, inner),) = value.items()
        if tag not in self.allowed:
            raise fault(path, f"the kind of value {short(tag)} is not allowed here", ", ".join(sorted(self.allowed)))
        return getattr(self, "_" + tag)(inner, f"{path}.{tag}", depth + 1)

    def _tuple(self, value: Any, path: str, depth: int) -> tuple:
        of_type(value, list, path, "a list")
        return tuple(self.decode(value, path, depth))

    def _slice(self, value: Any, path: str, depth: int) -> slice:
        if type(value) is not list or len(value) != 3 or not all(n is None or type(n) is int for n in value):
            raise fault(path, "a slice is a list of three integers or null", "[start, stop, step]", short(value))
        return slice(*value)

    def _ellipsis(self, value: Any, path: str, depth: int) -> Any:
        if value is not True:
            raise fault(path, "an ellipsis is written as true", "true", short(value))
        return Ellipsis

    def _float(self, value: Any, path: str, depth: int) -> float:
        if value not in ("nan", "inf", "-inf"):
            raise fault(path, "this is no number", '"nan", "inf" or "-inf"', short(value))
        return float(value)

    def _dtype(self, value: Any, path: str, depth: int) -> DType:
        return dtype_named(value, path)

    def _dict(self, value: Any, path: str, depth: int) -> dict[str, Any]:
        if type(value) is not dict or not all(type(k) is str for k in value):
            raise fault(path, "this is an object", "{...}", short(value))
        return {k: self.decode(v, f"{path}.{k}", depth) for k, v in value.items()}

    def _operand(self, value: Any, path: str, depth: int) -> Slot:
        if type(value) is not int or not 0 <= value < 1000:
            raise fault(path, "an operand is a number from 0 to 999", given=short(value))
        self.operands.add(value)
        return Slot(value)

    def _part(self, value: Any, path: str, depth: int) -> Part:
        assert self.part is not None
        return self.part(value, path)

    def _array(self, value: Any, path: str, depth: int) -> np.ndarray:
        host, d = self._elements(value, path)
        return host.astype(to_numpy_dtype(bfloat16)) if d is bfloat16 else host

    def _tensor(self, value: Any, path: str, depth: int) -> Tensor:
        host, d = self._elements(value, path)
        return wrap(get_backend("numpy").from_numpy(host, d))

    def _elements(self, value: Any, path: str) -> tuple[np.ndarray, DType]:
        """(elements, dtype); bfloat16 as float32."""
        of_type(value, dict, path, "an object")
        if "data" in value:
            fields(value, path, ("dtype", "data"))
        else:
            fields(value, path, ("dtype", "shape", "base64"))
        d = dtype_named(value["dtype"], f"{path}.dtype")
        stored = to_numpy_dtype(float32 if d is bfloat16 else d)
        if "data" in value:
            return _listed(value["data"], stored, f"{path}.data"), d
        return _packed(value, stored, path), d


def dtype_named(name: Any, path: str) -> DType:
    """The dtype of this name."""
    if type(name) is not str or name not in _DTYPES:
        raise fault(path, "there is no such dtype", ", ".join(_DTYPES), short(name), near(name, _DTYPES))
    return to_dtype(name)


def shape_of(value: Any, path: str, unknown: bool = False) -> tuple:
    """A shape; with `unknown` sizes may be null."""
    ok = type(value) is list and len(value) <= 32
    if not ok or not all((type(n) is int and 0 <= n < 2**63) or (unknown and n is None) for n in value):
        sizes = "sizes, or null for those that are not known" if unknown else "sizes"
        raise fault(path, f"a shape is a list of {sizes}", "such as [8, 3]", short(value))
    return tuple(value)


def identifier(value: Any, path: str) -> str:
    """The name of a connection or a model."""
    if type(value) is not str or not value.isidentifier():
        raise fault(path, "this is no name", "letters, digits and underscores, such as 'hidden_1'", short(value))
    return value


def strings(value: Any, path: str) -> list[str]:
    """A list of strings."""
    if type(value) is not list or not all(type(v) is str for v in value):
        raise fault(path, "this is a list of strings", given=short(value))
    return value[:]


def is_value(value: Any, path: str) -> None:
    """Raises unless a connection can have this value: a number, an array, or nested lists of numbers."""
    if isinstance(value, (np.ndarray, Tensor)):
        return
    try:
        found = np.asarray(value)
        ok = value is not None and (found.dtype.kind in "bf" or np.can_cast(found.dtype, np.int64))
    except (ValueError, OverflowError):  # rows of several lengths
        ok = False
    if not ok:
        raise fault(path, "this is no value of a connection", "a number, an array, or lists of numbers", short(value))


def _listed(value: Any, stored: np.dtype, path: str) -> np.ndarray:
    """Nested lists of numbers as an array."""
    shape: list[int] = []
    level = value
    while type(level) is list:
        shape.append(len(level))
        if len(shape) > 32:
            raise fault(path, "an array has up to 32 axes")
        level = level[0] if level else None
    flat: list[Any] = [value]
    for n in shape:
        if not all(type(row) is list and len(row) == n for row in flat):
            raise fault(path, "the rows of an array have one length", given=short(value))
        flat = [v for row in flat for v in row]
    kinds = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float)}[stored.kind]
    for number in flat:
        if type(number) not in kinds:
            raise fault(path, f"these are numbers of dtype {stored}", given=short(number))
    try:
        found = np.array(flat, np.float64 if stored.kind == "f" else stored).reshape(shape)
        with np.errstate(over="ignore"):
            made = found.astype(stored)
    except (OverflowError, ValueError) as error:
        raise fault(path, f"a number does not fit into {stored}", given=error) from None
    if stored.kind == "f" and not np.isfinite(made).all():
        raise fault(path, f"a number does not fit into {stored}", given=short(value))
    return made


def _packed(value: dict[str, Any], stored: np.dtype, path: str) -> np.ndarray:
    """base64 as an array."""
    shape = shape_of(value["shape"], f"{path}.shape")
    text = of_type(value["base64"], str, f"{path}.base64", "a string")
    try:
        content = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise fault(f"{path}.base64", "this is no base64", given=error) from None
    if len(content) != math.prod(shape) * stored.itemsize:
        raise fault(
            f"{path}.base64", "its length does not fit the shape",
            f"{math.prod(shape) * stored.itemsize} bytes", f"{len(content)} bytes",
        )  # fmt: skip
    try:
        found = np.frombuffer(content, stored.newbyteorder("<")).astype(stored).reshape(shape)
    except ValueError as error:  # a size of 0 beside sizes that no array has
        raise fault(f"{path}.shape", "no array has this shape", given=error) from None
    if stored.kind == "b" and not np.isin(np.frombuffer(content, np.uint8), (0, 1)).all():
        raise fault(f"{path}.base64", "bools are bytes 0 and 1")
    return found


# --------------------------------------------------------------------------------------------------------- layers


@functools.cache
def registry() -> dict[str, type[Layer]]:
    """The layers that documents can have: those that `gradloom.models` exports, by the names of their classes."""
    own = layers.__name__ + "."
    found = {
        c for n, c in vars(layers).items() if isinstance(c, type) and issubclass(c, Layer) and not n.startswith("_")
    }
    return {c.__name__: c for c in sorted(found, key=lambda c: c.__name__) if c.__module__.startswith(own)}


def hints(cls: type[Layer]) -> dict[str, Any]:
    """{option: what its annotation says}, for all options of a layer."""
    parameters = inspect.signature(cls.__init__).parameters
    try:
        known = typing.get_type_hints(cls.__init__)
    except NameError:  # a name that only type checkers see
        known = {}
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {n: known.get(n, Any) for n, p in list(parameters.items())[1:] if p.kind in plain}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type that an annotation says."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, (str, typing.TypeVar)):
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, a) for a in args)
    if origin is typing.Literal:
        return value in args
    if isinstance(value, np.generic):
        value = value.item()
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    if origin is tuple and args and args[-1] is not Ellipsis:
        return isinstance(value, (tuple, list)) and len(value) == len(args) and all(map(fits, value, args))
    if origin in (tuple, list, collections.abc.Sequence, collections.abc.Iterable):
        return isinstance(value, (tuple, list)) and all(fits(v, a) for v in value for a in args[:1])
    if isinstance(origin, type):
        return isinstance(value, origin)
    return isinstance(value, hint) if isinstance(hint, type) else True


def hint_text(hint: Any) -> str:
    return inspect.formatannotation(hint)
