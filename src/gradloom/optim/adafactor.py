"""Adafactor, PyTorch's face."""

from __future__ import annotations

from collections.abc import Iterable

from .bound import Optimizer
from .groups import check_lr
from .rules import adafactor


class Adafactor(Optimizer):
    """Adam's scaling in the memory of two vectors for each matrix, and no momentum; the numbers of `torch.optim.Adafactor`.

    Args:
        params: Tensors or groups. Of those with two axes or more the last two are factored.
        lr: The largest relative step (the paper has 0.01), and the factor of weight_decay.
        beta2_decay: The mean of squares of step t forgets t^beta2_decay of what it was.
        eps: (smallest root of the mean of squares, default the step above 1 of the dtype; smallest size of a parameter).
        d: The largest root mean square of an update, for its size.
        weight_decay: Shrinks p by lr * weight_decay.
        foreach: False and None: each parameter by itself in any case; True only excludes fused kernels.
        maximize: Ascend.

    Raises:
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.ones(3, 2, requires_grad=True)
        >>> optimizer = gl.optim.Adafactor([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> [tuple(optimizer.state[w][k].shape) for k in ("row_var", "col_var")], round(w[0, 0].item(), 4)
        ([(3, 1), (1, 2)], 0.9)
    """

    rule = adafactor.adafactor

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ):
        check_lr({"lr": lr})
        if not lr >= 0:
            raise ValueError(f"Learning rate should be >= 0 but is: {lr}")
        if not beta2_decay <= 0:
            raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        if eps[0] is not None and not eps[0] >= 0:
            raise ValueError(f"epsilon1 should be >= 0 but is: {eps[0]}")
        if not eps[1] >= 0:
            raise ValueError(f"epsilon2 should be >= 0 but is: {eps[1]}")
        if not d >= 1:
            raise ValueError(f"Clipping threshold d should be >= 1 but is: {d}")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay should be >= 0 but is: {weight_decay}")
        super().__init__(
            params,
            {
                "lr": lr,
                "beta2_decay": beta2_decay,
                "eps": eps,
                "d": d,
                "weight_decay": weight_decay,
                "foreach": foreach,
                "maximize": maximize,
            },
        )
