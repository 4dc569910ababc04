"""`Parameters`: the dict of a compiled model's parameters; and placeholders for those whose shapes are not known yet."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import OptionError, explain, user_frame


class Parameters(dict):
    """Arrays by name, as `get_parameters` and `evaluate` give them: a dict that JAX and PyTorch know as a tree.

    In gradients, `gradients["input_grad"]` computes the gradient of the input "input" when it is asked for. It is no
    item: iteration, `len` and optimizers do not see it.

    Example:
        >>> import numpy as np
        >>> import gradloom as gl
        >>> compiled = gl.compile(gl.models.Linear(2), "numpy", shapes={"input": [3, 4]})
        >>> x, ones = np.ones((3, 4), "float32"), np.ones((3, 2), "float32")
        >>> _, gradients = compiled.evaluate(compiled.get_parameters(), {"input": x}, output_gradients={"output": ones})
        >>> list(gradients), gradients["input_grad"].shape
        (['weight', 'bias'], (3, 4))
    """

    #: name of an input -> its gradient; set in the gradients that `evaluate` gives.
    _input_gradient: Callable[[str], Any] | None = None

    def __missing__(self, key: Any) -> Any:
        if self._input_gradient is not None and isinstance(key, str) and key.endswith("_grad"):
            return self._input_gradient(key.removesuffix("_grad"))
        raise KeyError(key)

    def copy(self) -> Parameters:
        """Another dict of the same arrays."""
        return Parameters(self)

    def __repr__(self) -> str:
        return f"Parameters({super().__repr__()})"


class Placeholder:
    """A parameter whose shape is not known before the first `evaluate`, which puts an array into its place.

    Attributes:
        name: The parameter's name.
        seed: For its initial values; None for those of `get_parameters`.
    """

    __slots__ = ("_array", "_waiting", "name", "seed")

    def __init__(self, name: str, seed: int | None):
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "_array", None)
        object.__setattr__(self, "_waiting", [])

    def then(self, do: Callable[[Any], None]) -> None:
        """Calls `do(array)` when the parameter has an array; at once, if it was filled before (in a copy of the dict)."""
        if self._array is None:
            self._waiting.append(do)
        else:
            do(self._array)

    def fill(self, array: Any) -> None:
        """The array that took this one's place in a dict."""
        object.__setattr__(self, "_array", array)
        waiting, self._waiting[:] = list(self._waiting), []
        for do in waiting:
            do(array)

    def __repr__(self) -> str:
        return f"<parameter {self.name}, not made yet>"

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise OptionError(
            explain(
                f"the parameter '{self.name}' has no values yet: its shape is not known",
                where=user_frame(),
                do="give shapes={...} to compile, or call evaluate once with these parameters, which fills them",
            )
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._refuse()

    shape = dtype = ndim = property(_refuse)
    __no_array_yet__ = __setattr__ = __array__ = __float__ = __len__ = __getitem__ = __iter__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __matmul__ = __neg__ = _refuse


def register_trees() -> None:
    """Makes `Parameters` a tree for JAX and PyTorch, where these have been imported."""
    if "jax" in sys.modules and "jax" not in _REGISTERED:
        from jax import tree_util

        def with_keys(p: Parameters) -> tuple:
            keys = sorted(p)
            return [(tree_util.DictKey(k), p[k]) for k in keys], tuple(keys)

        tree_util.register_pytree_with_keys(
            Parameters,
            with_keys,
            lambda keys, values: Parameters(zip(keys, values, strict=True)),
            lambda p: ([p[k] for k in sorted(p)], tuple(sorted(p))),
        )
        _REGISTERED.add("jax")
    if "torch" in sys.modules and "torch" not in _REGISTERED:
        from torch.utils import _pytree

        _pytree.register_pytree_node(
            Parameters,
            lambda p: (list(p.values()), list(p)),
            lambda values, keys: Parameters(zip(keys, values, strict=True)),
            serialized_type_name="gradloom.Parameters",
        )
        _REGISTERED.add("torch")


_REGISTERED: set[str] = set()
