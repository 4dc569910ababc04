"""SGD, PyTorch's face."""

from __future__ import annotations

from collections.abc import Iterable

from .bound import Optimizer
from .groups import check_not_negative, refuse
from .rules import sgd


class SGD(Optimizer):
    """Stochastic gradient descent with momentum and weight decay; the numbers of `torch.optim.SGD`.

    Args:
        params: Tensors or groups.
        lr: Rate.
        momentum: Factor of the running sum of gradients.
        dampening: The gradient enters that sum times 1 - dampening.
        weight_decay: Adds weight_decay * p to the gradient (L2).
        nesterov: Look ahead along the momentum; needs momentum and no dampening.
        maximize: Ascend.
        foreach: True updates the parameters of a group together by the printed rule, False one by one; either way without a fused
            kernel. Default: together, by the engine's fused kernel where there is one.
        fused: True demands that kernel (with foreach=False for one parameter at a time), False forbids it.

    Raises:
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        RuntimeError: fused=True and foreach=True.
        ValueError: A negative option, or Nesterov without momentum.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.SGD([w], lr=0.5)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> w.item()
        0.0
    """

    rule = sgd.sgd

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        check_not_negative(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        refuse("SGD", differentiable=differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )
