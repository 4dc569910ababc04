"""`save` and `load`: trees of Tensors and plain values in one file.

The file is in the safetensors format (https://github.com/huggingface/safetensors): its Tensors can be read by that
library too. What is around them (dicts, lists, numbers) is JSON in the metadata, with a checksum of all there is.
Nothing in a file is ever executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..backends.registry import backend_of
from ..dtypes import bfloat16, to_numpy_dtype
from ..dtypes import dtype as to_dtype
from ..errors import DTypeError, FileFormatError, GradloomError, OptionError, explain
from . import tape
from .arrays import as_array, wrap

__all__ = ["save", "load"]

_VERSION = "1"
_MARKS = ("gradloom", "tree", "checksum")  # what the metadata of our files hold
_LONGEST_HEADER = 100_000_000  # the format's own limit

_CODES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32",
    "int64": "I64", "uint64": "U64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
}  # fmt: skip
_DTYPES = {code: name for name, code in _CODES.items()}


# ----------------------------------------------------------------------------------------------------------- save


def save(obj: Any, path: Any) -> None:
    """Saves a tree of values to one file.

    The file appears whole or not at all: it is written beside its place, forced to disk and then moved there.

    Args:
        obj: Dicts (keys are strings or ints), lists, tuples, Tensors, NumPy arrays and scalars, bools, ints, floats,
            strings, None,
            nested as you like.
        path: A path, or an object with `write`.

    Raises:
        TypeError: Another type; the message says where in the tree.

    Example:
        >>> import gradloom as gl, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "checkpoint.safetensors")
        >>> gl.save({"weight": gl.ones(2), "epoch": 3}, path)
        >>> gl.load(path)
        {'weight': tensor([1., 1.]), 'epoch': 3}
    """
    writer = _Writer()
    tree = writer.encode(obj, ())
    head, arrays = writer.header(tree)
    if hasattr(path, "write"):
        for part in (head, *map(_bytes, arrays)):
            path.write(part)
        return
    target = os.path.realpath(os.fspath(path))
    draft = f"{target}.{secrets.token_hex(4)}.tmp"
    try:
        with open(draft, "xb") as file:
            for part in (head, *map(_bytes, arrays)):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
    if os.name == "posix":  # the new name is in the folder, which has to reach the disk too
        folder = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # some file systems cannot
                os.fsync(folder)
        finally:
            os.close(folder)


def _bytes(array: np.ndarray) -> Any:
    return memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


class _Writer:
    """Turns a tree into JSON and a list of arrays."""

    def __init__(self):
        self.arrays: dict[str, tuple[str, np.ndarray]] = {}  # name -> (code of the dtype, elements)
        self.names: dict[int, str] = {}  # id of a native array -> its name: Tensors that share one are stored once
        self.kept: list[Any] = []  # so that no id is used again
        self.open: set[int] = set()

    def encode(self, x: Any, where: tuple) -> Any:
        if isinstance(x, tape.Tensor):
            return {"$tensor": self.store(x._array, where, tensor=True)}
        if isinstance(x, np.ndarray):
            return {"$array": self.store(x, where)}
        if isinstance(x, np.generic):
            return {"$scalar": self.store(np.asarray(x), where)}
        if x is None or isinstance(x, (bool, str)):
            return x if type(x) in (bool, type(None)) else str.__str__(x)
        if isinstance(x, int):
            return int(x)
        if isinstance(x, float):
            return float(x) if math.isfinite(x) else {"$float": repr(float(x))}
        if not isinstance(x, (Mapping, list, tuple)):
            raise self.refused(x, where)
        if id(x) in self.open:
            raise TypeError(explain("save: the tree contains itself", where=_place(where)))
        self.open.add(id(x))
        try:
            return self.container(x, where)
        finally:
            self.open.discard(id(x))

    def container(self, x: Any, where: tuple) -> Any:
        if isinstance(x, (list, tuple)):
            items = [self.encode(v, (*where, i)) for i, v in enumerate(x)]
            return {"$tuple": items} if isinstance(x, tuple) else items
        for k in x:
            if isinstance(k, bool) or not isinstance(k, (str, int)):
                raise TypeError(
                    explain(
                        "save: a key of a dict is a string or an int",
                        given=f"{k!r} ({type(k).__name__})",
                        where=_place(where),
                    )
                )
        values = {k: self.encode(v, (*where, k)) for k, v in x.items()}
        if all(isinstance(k, str) and not k.startswith("$") for k in values):
            return values
        return {"$dict": [[k, v] for k, v in values.items()]}

    def refused(self, x: Any, where: tuple) -> TypeError:
        return TypeError(
            explain(
                f"save: cannot save an object of type {type(x).__module__}.{type(x).__qualname__}",
                expected="dicts, lists, tuples, Tensors, NumPy arrays, numbers, strings, None",
                where=_place(where),
                do="save what it consists of, such as its state_dict()",
            )
        )

    def store(self, native: Any, where: tuple, tensor: bool = False) -> str:
        if id(native) in self.names:
            return self.names[id(native)]
        concrete = getattr(native, "concrete", None)
        if concrete is not None:
            concrete("save()")
        host = backend_of(native).to_numpy(native) if tensor else native
        if tensor and backend_of(native).dtype_of(native) is bfloat16:
            code, host = "BF16", _bf16_bits(host)
        else:
            code = _CODES.get(host.dtype.name, "")
            if not code:
                raise TypeError(
                    explain(
                        f"save: cannot save an array of {host.dtype}",
                        expected="bools, integers, float16, bfloat16, float32 or float64",
                        where=_place(where),
                    )
                )
        host = np.ascontiguousarray(host, host.dtype.newbyteorder("<")).reshape(host.shape)
        name = self.unused(where)
        self.arrays[name] = (code, host)
        self.names[id(native)] = name
        self.kept.append(native)
        return name

    def unused(self, where: tuple) -> str:
        base = ".".join(map(str, where)) or "value"
        base = base.encode("utf-8", "replace").decode()  # lone surrogates are no UTF-8
        name, n = base, 1
        while name in self.arrays or name == "__metadata__":
            n += 1
            name = f"{base}#{n}"
        return name

    def header(self, tree: Any) -> tuple[bytes, list[np.ndarray]]:
        """The start of the file and the arrays that follow it, the widest elements first, so that all are aligned."""
        order = sorted(self.arrays.items(), key=lambda item: -item[1][1].dtype.itemsize)
        entries: dict[str, Any] = {
            "__metadata__": {"gradloom": _VERSION, "tree": json.dumps(tree, ensure_ascii=True, allow_nan=False)}
        }
        start = 0
        for name, (code, array) in order:
            entries[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [start, start + array.nbytes]}
            start += array.nbytes
        arrays = [array for _, (_, array) in order]
        entries["__metadata__"]["checksum"] = _checksum(entries, arrays)
        text = json.dumps(entries, ensure_ascii=True, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text, arrays


def _bf16_bits(host: np.ndarray) -> np.ndarray:
    """The bits of bfloat16 elements, which come as float32 where the package ml_dtypes is not installed."""
    if host.dtype == np.float32:
        return (host.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return np.ascontiguousarray(host).view(np.uint16).reshape(host.shape)


def _place(where: tuple) -> str:
    return "obj" + "".join(f"[{k!r}]" for k in where)


def _checksum(entries: dict, parts: Any) -> str:
    """Of the header, but for the checksum itself, and the data."""
    meta = {k: v for k, v in entries["__metadata__"].items() if k != "checksum"}
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps({**entries, "__metadata__": meta}, sort_keys=True, ensure_ascii=True).encode())
    for part in parts:
        digest.update(_bytes(part) if isinstance(part, np.ndarray) else part)
    return digest.hexdigest()


# ----------------------------------------------------------------------------------------------------------- load


def load(path: Any, map_location: Any = None, *, backend: Any = None) -> Any:
    """Loads what `save` saved. Tensors are made on the default backend, without history.

    A safetensors file of another program is loaded as a dict of its Tensors.

    Args:
        path: A path, or an object with `read`.
        map_location: The engine's name of a device for the Tensors.
        backend: Name or instance of a backend for the Tensors.

    Raises:
        FileFormatError: The file is damaged, cut off, or of another format.
        DTypeError: The backend does not have a Tensor's dtype.
        FileNotFoundError: There is no such file.
    """
    if map_location is not None and (callable(map_location) or isinstance(map_location, Mapping)):
        raise OptionError(
            explain("load: map_location is a device", expected="such as 'cpu' or 'cuda:0'", given=map_location)
        )
    if hasattr(path, "read"):
        name, content = "the file", path.read()
    else:
        name = os.fspath(path)
        with open(path, "rb") as file:
            content = file.read()
    with _reading(name):
        entries, data = _parse(content)
        meta = entries["__metadata__"]
        ours = any(mark in meta for mark in _MARKS)
        if ours:
            _check_ours(entries, data)
        arrays = {k: _array(data, v) for k, v in entries.items() if k != "__metadata__"}
        tree = json.loads(meta["tree"]) if ours else {k: {"$tensor": k} for k in arrays}
        plain = _decoder(arrays, map_location, backend)
        return plain(tree)


class _Damaged(Exception):
    """What is wrong with a file, and what it probably is."""

    def __init__(
        self, problem: str, do: str = "use another copy; if a program writes to it now, load it when that has ended"
    ):
        super().__init__(problem)
        self.do = do


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except _Damaged as error:
        raise FileFormatError(
            explain(f"cannot load {name}: {error}", expected="a file that save() wrote", do=error.do)
        ) from None
    except GradloomError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError) as error:
        raise FileFormatError(
            explain(
                f"cannot load {name}: it is damaged",
                expected="a file that save() wrote",
                given=error,
                do=_Damaged("").do,
            )
        ) from error


def _parse(content: bytes) -> tuple[dict, memoryview]:
    """The header's entries, checked, and the data."""
    if content[8:9] != b"{" and (content[:2] == b"PK" or content[:1] == b"\x80"):
        raise _Damaged(
            "it is a pickle of PyTorch or Python, which is not read because it can run code",
            "load it with torch.load(path, weights_only=True) where you trust it, and save that with gradloom.save",
        )
    if len(content) < 8:
        raise _Damaged(f"it is too short, {len(content)} bytes")
    length = int.from_bytes(content[:8], "little")
    if length > _LONGEST_HEADER or content[8:9] != b"{":
        raise _Damaged("it is no safetensors file, or its start is damaged", "check that this is the file you mean")
    if len(content) < 8 + length:
        raise _Damaged(f"it is cut off: {len(content)} bytes, the header alone takes {8 + length}")
    try:
        entries = json.loads(content[8 : 8 + length].decode())
    except ValueError as error:
        raise _Damaged(f"its header is damaged ({error})") from None
    data = memoryview(content)[8 + length :]
    meta = entries.setdefault("__metadata__", {})
    if not isinstance(meta, dict) or not all(isinstance(v, str) for v in meta.values()):
        raise _Damaged("its metadata are damaged")
    end = 0
    for name, entry in sorted(
        ((k, v) for k, v in entries.items() if k != "__metadata__"), key=lambda item: item[1]["data_offsets"]
    ):
        code, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if code not in _DTYPES:
            raise _Damaged(
                f"{name} has a dtype that is not known here, {code!r}", "convert it with the program that wrote it"
            )
        if any(type(n) is not int or n < 0 for n in (*shape, start, stop)):
            raise _Damaged(f"the entry of {name} in its header is damaged")
        width = 2 if code == "BF16" else np.dtype(_DTYPES[code]).itemsize
        if start != end or stop - start != math.prod(shape) * width:
            raise _Damaged(f"the entry of {name} in its header is damaged")
        end = stop
    if end != len(data):
        what = "cut off" if end > len(data) else "longer than it says"
        raise _Damaged(f"it is {what}: {len(data)} bytes of data, the header says {end}")
    return entries, data


def _check_ours(entries: dict, data: memoryview) -> None:
    meta = entries["__metadata__"]
    if not all(mark in meta for mark in _MARKS) or meta["checksum"] != _checksum(entries, [data]):
        raise _Damaged("its checksum does not fit: bytes of it have changed since it was written")
    if meta["gradloom"] != _VERSION:
        raise _Damaged(
            f"it has version {meta['gradloom']} of the format, this is version {_VERSION}", "update gradloom"
        )


def _array(data: memoryview, entry: dict) -> tuple[str, np.ndarray]:
    """(dtype's name, elements); bfloat16 as its bits. A copy: it can be written to and does not hold the whole file."""
    name = _DTYPES[entry["dtype"]]
    start, stop = entry["data_offsets"]
    host = np.dtype("uint16" if name == "bfloat16" else name).newbyteorder("<")
    return name, np.frombuffer(data[start:stop], host).astype(host.newbyteorder("="), copy=True).reshape(entry["shape"])


def _decoder(arrays: dict[str, tuple[str, np.ndarray]], device: Any, backend: Any) -> Any:
    """The function from JSON to the tree."""
    used: set[str] = set()

    def host(name: str) -> np.ndarray:
        dtype, array = arrays[name]
        return array if dtype != "bfloat16" else (array.astype(np.uint32) << np.uint32(16)).view(np.float32)

    def tensor(name: str) -> Any:
        dtype, _ = arrays[name]
        again = name in used  # stored once, but no Tensors share memory that did not say so
        used.add(name)
        try:
            return wrap(as_array(host(name), to_dtype(dtype), backend, again, device))
        except DTypeError as error:
            raise DTypeError(f"load: {name}: {error}") from error

    def numpy(name: str) -> np.ndarray:
        return host(name).astype(to_numpy_dtype(bfloat16)) if arrays[name][0] == "bfloat16" else host(name)

    def decode(x: Any) -> Any:
        if isinstance(x, list):
            return [decode(v) for v in x]
        if not isinstance(x, dict):
            return x
        tag = next(iter(x), "")
        if len(x) != 1 or not tag.startswith("$"):
            return {k: decode(v) for k, v in x.items()}
        value = x[tag]
        if tag == "$tensor":
            return tensor(value)
        if tag == "$array":
            return numpy(value)
        if tag == "$scalar":
            return numpy(value)[()]
        if tag == "$tuple":
            return tuple(decode(v) for v in value)
        if tag == "$dict":
            return {k: decode(v) for k, v in value}
        if tag == "$float":
            return float(value)
        raise _Damaged(f"its tree has an unknown part {tag!r}")

    return decode
