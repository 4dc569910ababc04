"""Muon, PyTorch's face."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .bound import Optimizer
from .groups import check_lr
from .rules import muon


class Muon(Optimizer):
    """Momentum made orthogonal, for the matrices of hidden layers; the numbers of `torch.optim.Muon`.

    PyTorch makes the update orthogonal in bfloat16, gradloom in the parameter's dtype (in float32 for dtypes of 16 bits). Vectors,
    embeddings and the last layer take another optimizer.

    Args:
        params: Tensors or groups, of matrices only.
        lr: Rate.
        weight_decay: Shrinks p by lr * weight_decay.
        momentum: Decay of the running mean of the gradient.
        nesterov: Look ahead along the momentum.
        ns_coefficients: a, b and c of the iteration X <- a X + (b A + c A A) X with A = X X'.
        eps: The smallest norm that the matrix is divided by before.
        ns_steps: Number of iterations, below 100.
        adjust_lr_fn: "original" (None): the rate times sqrt(max(1, rows / columns)); "match_rms_adamw": 0.2 * sqrt(max(rows, columns)),
            so that rates for AdamW fit.

    Raises:
        ValueError: An option out of range, or a parameter that is no matrix.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([[3.0, 0.0], [0.0, 1.0]], requires_grad=True)
        >>> optimizer = gl.optim.Muon([w], lr=0.1, weight_decay=0)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> [round(x, 1) for x in w.flatten().tolist()]  # a step of the same size along both axes
        [2.9, 0.0, 0.0, 0.9]
    """

    rule = muon.muon

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ):
        check_lr({"lr": lr})
        if not lr >= 0:
            raise ValueError(f"Learning rate should be >= 0 but is: {lr}")
        if not momentum >= 0:
            raise ValueError(f"momentum should be >= 0 but is: {momentum}")
        if not weight_decay >= 0:
            raise ValueError(f"weight decay should be >= 0 but is: {weight_decay}")
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        options = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        muon.check(options)
        super().__init__(params, options)

    def check_group(self, group: dict[str, Any]) -> None:
        """Raises for a parameter that is no matrix."""
        super().check_group(group)
        for p in group["params"]:
            if p.ndim != 2:
                raise ValueError(
                    f"Muon only supports 2D parameters whereas we found a parameter with size: {list(p.shape)}"
                )
