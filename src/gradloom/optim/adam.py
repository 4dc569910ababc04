"""Adam and AdamW, PyTorch's face."""

from __future__ import annotations

from collections.abc import Iterable

from .bound import Optimizer
from .groups import refuse
from .rules import adam


class Adam(Optimizer):
    """Adam; the numbers of `torch.optim.Adam`.

    Args:
        params: Tensors or groups.
        lr: Rate.
        betas: Decay of the running means of the gradient and of its square.
        eps: Added to the root in the denominator.
        weight_decay: Adds weight_decay * p to the gradient (L2), or with `decoupled_weight_decay` shrinks p by lr * weight_decay.
        amsgrad: Divide by the largest running mean of squares so far.
        maximize: Ascend.
        decoupled_weight_decay: AdamW's decay.
        foreach: True updates the parameters of a group together by the printed rule, False one by one; either way without a fused
            kernel. Default: together, by the engine's fused kernel where there is one.
        fused: True demands that kernel (with foreach=False for one parameter at a time), False forbids it.

    Raises:
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        RuntimeError: fused=True and foreach=True.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.Adam([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 4)
        0.9
    """

    rule = adam.adam

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ):
        if lr < 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if eps < 0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        for i, beta in enumerate(betas):
            if not 0 <= beta < 1:
                raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
        if weight_decay < 0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        refuse(type(self).__name__, differentiable=differentiable, capturable=capturable)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )


class AdamW(Adam):
    """Adam with decoupled weight decay; the numbers of `torch.optim.AdamW`. See `Adam` for the options.

    Example:
        >>> import gradloom as gl
        >>> gl.optim.AdamW([gl.tensor([1.0], requires_grad=True)]).param_groups[0]["weight_decay"]
        0.01
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
