"""Loading of a module's state: all of it or nothing."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from typing import Any

from ..errors import ShapeError
from ..ops.op import kind_of
from ..tensor.arrays import as_array, backend_name, wrap
from ..tensor.grad_mode import no_grad
from ..tensor.inplace import replaced
from ..tensor.tensor import Tensor
from .parameter import Parameter

EXTRA_STATE = "_extra_state"  # PyTorch's key


class IncompatibleKeys(namedtuple("IncompatibleKeys", ("missing_keys", "unexpected_keys"))):
    __slots__ = ()

    def __repr__(self) -> str:
        return super().__repr__() if self.missing_keys or self.unexpected_keys else "<All keys matched successfully>"

    __str__ = __repr__


def has_extra_state(module: Any) -> bool:
    """Whether the module's class defines `get_extra_state` or `set_extra_state`, which the base refuses."""
    return not hasattr(type(module).set_extra_state, "undefined")


def load(root: Any, state_dict: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """`Module.load_state_dict`."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
    missing: list[str] = []
    errors: list[str] = []
    known: set[str] = set()
    changes: list[tuple] = []
    for path, module in root.named_modules(remove_duplicate=False):
        prefix = path + "." if path else ""
        for name, t in (*module._parameters.items(), *module._buffers.items()):
            if t is None or name in module._non_persistent_buffers_set:
                continue
            key = prefix + name
            known.add(key)
            if key in state_dict:
                new = _loadable(key, state_dict[key], t, assign, errors)
                if new is not None:
                    changes.append((module, name, t, new))
            else:
                missing.append(key)
        if has_extra_state(module):
            key = prefix + EXTRA_STATE
            known.add(key)
            if key in state_dict:
                changes.append((module, None, None, state_dict[key]))
            else:
                missing.append(key)
    unexpected = [key for key in state_dict if key not in known] if strict else []
    missing = missing if strict else []
    if missing:
        errors.insert(0, "Missing key(s) in state_dict: {}. ".format(", ".join(f'"{k}"' for k in missing)))
    if unexpected:
        errors.insert(0, "Unexpected key(s) in state_dict: {}. ".format(", ".join(f'"{k}"' for k in unexpected)))
    if errors:
        raise ShapeError(
            "Error(s) in loading state_dict for {}:\n\t{}".format(type(root).__name__, "\n\t".join(errors))
        )
    with no_grad():
        for module, name, t, new in changes:
            if name is None:
                module.set_extra_state(new)
            elif assign:
                setattr(module, name, new)
            else:
                replaced(t, new)
    return IncompatibleKeys(missing, unexpected)


def _loadable(key: str, value: Any, t: Tensor, assign: bool, errors: list[str]) -> Tensor | None:
    """The value as it is to be loaded into t; None, with a line in errors, where it does not fit."""
    if not isinstance(value, Tensor) and (not hasattr(value, "shape") or kind_of(type(value)) is None):
        errors.append(
            f'While copying the parameter named "{key}", expected a Tensor or an array from checkpoint but received '
            f"{type(value)}"
        )
        return None
    shape = tuple(value.shape)
    if not t.ndim and shape == (1,):
        value, shape = value[0], ()
    if shape != tuple(t.shape):
        errors.append(
            f"size mismatch for {key}: copying a param with shape {_size(shape)} from checkpoint, the shape in current "
            f"model is {_size(t.shape)}."
        )
        return None
    try:
        if not assign:
            # A copy: an optimizer may write into the parameter's array, and the checkpoint keeps its own.
            return wrap(as_array(value, t.dtype, backend_name(t), copy=True))
        if isinstance(t, Parameter):
            if isinstance(value, Parameter):
                return value.requires_grad_(t.requires_grad)
            return Parameter(value, requires_grad=t.requires_grad)
        return value if isinstance(value, Tensor) else wrap(as_array(value))
    except Exception as error:
        errors.append(
            f'While copying the parameter named "{key}", whose dimensions in the model are {_size(t.shape)} and whose '
            f"dimensions in the checkpoint are {_size(shape)}, an exception occurred : {error.args}."
        )
        return None


def _size(shape: Any) -> str:
    return f"gradloom.Size({list(shape)})"
