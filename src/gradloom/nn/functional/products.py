"""Linear and bilinear maps."""

from __future__ import annotations

from typing import Any

from ... import ops
from ...errors import ShapeError, explain

linear = ops.linear


def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """`input1 @ weight[k] @ input2 + bias[k]` for each k: (..., i), (..., j), (k, i, j) give (..., k)."""
    lead = tuple(input1.shape[:-1])
    if lead != tuple(input2.shape[:-1]):
        raise ShapeError(
            explain(
                "bilinear: the leading axes differ", expected="(..., i) and (..., j)",
                given=f"{list(input1.shape)} and {list(input2.shape)}",
            )
        )  # fmt: skip
    a, b = input1.reshape(-1, input1.shape[-1]), input2.reshape(-1, input2.shape[-1])
    out = ops.einsum(a, weight, b, equation="ni,kij,nj->nk").reshape(*lead, weight.shape[0])
    return out if bias is None else out + bias
