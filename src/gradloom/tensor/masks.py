"""The masks of dropout: the one place where they are drawn, eagerly and in compiled steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import random
from ..dtypes import bool_
from ..graph.graph import PLACE
from .arrays import as_array, wrap
from .creation import default_generator


def random_mask(shape: tuple[int, ...], keep: float, backend: Any = None) -> Any:
    """A bool Tensor that is True with probability `keep`, from the default generator: the same on every backend.

    In a function that is being compiled the mask is an input, drawn anew on the host at each run.

    Args:
        keep: 0 to 1, rounded to a multiple of 1/65536.
        backend: Name or instance of a backend. Default: the current one.
    """

    def draw() -> np.ndarray:
        return random.bernoulli_mask(default_generator.next_key("dropout"), shape, keep)

    if PLACE.graph is not None:
        return wrap(PLACE.host_input(draw, shape, bool_, "mask"))
    return wrap(as_array(draw(), None, backend, False))
