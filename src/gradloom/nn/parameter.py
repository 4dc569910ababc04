"""Tensors that a module owns: parameters, which are trained, and buffers, which are not."""

from __future__ import annotations

from typing import Any

from ..tensor.arrays import as_array, wrap
from ..tensor.storage import share
from ..tensor.tape import adopt_tensors
from ..tensor.tensor import Tensor


class Parameter(Tensor):
    """A Tensor that a Module which it is set as an attribute of lists among its parameters.

    Results of operations on it are plain Tensors.

    Args:
        data: A Tensor, whose memory is shared, as in PyTorch; or data that `gradloom.tensor` takes, which is copied.
        requires_grad: Record operations on it for `backward`.

    Example:
        >>> import gradloom as gl
        >>> gl.nn.Parameter(gl.ones(2))
        Parameter containing:
        tensor([1., 1.], requires_grad=True)
    """

    def __init__(self, data: Any = None, requires_grad: bool = True):
        _take(self, data)
        if requires_grad:
            self.requires_grad_()

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        adopt_tensors(cls)

    def __deepcopy__(self, memo: dict) -> Parameter:
        made = memo.get(id(self))
        if made is None:
            made = type(self).__new__(type(self))
            made.__dict__.update({k: v for k, v in self.__dict__.items() if not k.startswith("_")})
            Parameter.__init__(made, _copied(self), self.requires_grad)
            if isinstance(self._grad, Tensor):
                made._grad = wrap(_copied(self._grad)._array)
            memo[id(self)] = made
        return made

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class Buffer(Tensor):
    """A Tensor that a Module which it is set as an attribute of lists among its buffers.

    Args:
        data: As for `Parameter`.
        persistent: It is part of the module's `state_dict`.
    """

    def __init__(self, data: Any = None, *, persistent: bool = True):
        _take(self, data)
        self.persistent = persistent

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        adopt_tensors(cls)

    def __deepcopy__(self, memo: dict) -> Buffer:
        made = memo.get(id(self))
        if made is None:
            made = memo[id(self)] = type(self)(_copied(self), persistent=self.persistent)
        return made


def rebind(t: Tensor, array: Any) -> None:
    """Gives a leaf a native array of its own, of any dtype or engine; Tensors that shared its memory keep that."""
    t._cell = t._base = t._lens = None
    t._array = array
    t._version += 1


def _take(t: Tensor, data: Any) -> None:
    if isinstance(data, Tensor):
        share(data, t)
    else:
        t._array, t._node = as_array([] if data is None else data), None


def _copied(t: Tensor) -> Tensor:
    return wrap(as_array(t, copy=True))


adopt_tensors(Parameter, Buffer)
