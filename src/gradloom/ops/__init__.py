"""Every operation of gradloom, by name, and `xp`: the array namespace made of these operations.

Code written over `xp` runs on this one too, and then takes Tensors and traced values.
"""

from types import SimpleNamespace as _SimpleNamespace
from typing import Any as _Any

from ..dtypes import DType as _DType
from .activations import *  # noqa: F403
from .attention import *  # noqa: F403
from .conv import *  # noqa: F403
from .creation import *  # noqa: F403
from .elementwise import *  # noqa: F403
from .indexing import *  # noqa: F403
from .layout import *  # noqa: F403
from .linalg import *  # noqa: F403
from .loss import *  # noqa: F403
from .namespace import INDEX, NAMESPACE
from .norm import *  # noqa: F403
from .op import REGISTRY, kind_of, not_an_array
from .operators import *  # noqa: F403
from .pool import *  # noqa: F403
from .random import *  # noqa: F403
from .reduce import *  # noqa: F403


def dtype(x: _Any) -> _DType:
    """The gradloom dtype of a Tensor, a traced value or an engine's array.

    Raises:
        DTypeError: If it is none of these.

    Example:
        >>> import numpy as np
        >>> from gradloom import ops
        >>> ops.dtype(np.zeros(2, "float16"))
        gradloom.float16
    """
    kind = kind_of(type(x))
    if kind is None:
        raise not_an_array("dtype", type(x))
    return kind.dtype(x)


xp = _SimpleNamespace(dtype=dtype, **{name: globals()[name] for name in NAMESPACE})
