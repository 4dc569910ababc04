"""Lion."""

from __future__ import annotations

from collections.abc import Iterable

from .bound import Optimizer
from .groups import check_betas, check_not_negative
from .rules import sign


class Lion(Optimizer):
    """Lion: every element moves by lr, in the direction of a running mean; the numbers of the authors' code (arXiv:2302.06675).

    The rate wants to be three to ten times smaller than Adam's, and the decay as much larger.

    Args:
        params: Tensors or groups.
        lr: Rate.
        betas: What the running mean weighs in the direction, and its own decay.
        weight_decay: Shrinks p by lr * weight_decay.
        maximize: Ascend.
        foreach, fused: As for `Adam`.

    Raises:
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0, -3.0], requires_grad=True)
        >>> optimizer = gl.optim.Lion([w], lr=0.5)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> w.tolist()
        [0.5, -2.5]
    """

    rule = sign.lion

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        check_not_negative(lr=lr, weight_decay=weight_decay)
        check_betas(betas)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )
