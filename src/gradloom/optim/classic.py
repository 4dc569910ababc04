"""Adadelta, Adagrad, RMSprop, Rprop and ASGD, PyTorch's face."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..tensor.tape import Raw
from ..tensor.tensor import Tensor
from .bound import Optimizer
from .groups import check_not_negative, refuse
from .rules import classic


class Adadelta(Optimizer):
    """Steps as large as the last ones were, for the size of the gradient; the numbers of `torch.optim.Adadelta`.

    Args:
        params: Tensors or groups.
        lr: Factor of the steps.
        rho: Decay of the running means of the squared gradient and of the squared step.
        eps: Added to both under the root.
        weight_decay: Adds weight_decay * p to the gradient (L2).
        foreach: False updates the parameters of a group one by one; default: together.
        maximize: Ascend.

    Raises:
        OptionError: capturable=True or differentiable=True.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.Adadelta([w], lr=10.0)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 4)
        0.9684
    """

    rule = classic.adadelta

    def __init__(
        self,
        params: Iterable,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        check_not_negative(lr=lr)
        if not 0 <= rho <= 1:
            raise ValueError(f"Invalid rho value: {rho}")
        check_not_negative(eps=eps, weight_decay=weight_decay)
        refuse("Adadelta", differentiable=differentiable, capturable=capturable)
        super().__init__(
            params,
            {
                "lr": lr,
                "rho": rho,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "foreach": foreach,
            },
        )


class Adagrad(Optimizer):
    """Rates that fall with the sum of all squared gradients so far; the numbers of `torch.optim.Adagrad`.

    Args:
        params: Tensors or groups.
        lr: Rate.
        lr_decay: Divides the rate of step t by 1 + (t - 1) * lr_decay.
        weight_decay: Adds weight_decay * p to the gradient (L2).
        initial_accumulator_value: Where the sums start.
        eps: Added to the root in the denominator.
        foreach: False updates the parameters of a group one by one; default: together.
        maximize: Ascend.
        fused: True demands the engine's fused kernel, False forbids it.

    Raises:
        OptionError: differentiable=True, or fused=True and the engine of a parameter has no fused kernel of the rule.
        RuntimeError: fused=True and foreach=True.
        ValueError: A negative option.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.Adagrad([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 4)
        0.9
    """

    rule = classic.adagrad

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        check_not_negative(
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )
        refuse("Adagrad", differentiable=differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "eps": eps,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "foreach": foreach,
                "maximize": maximize,
                "fused": fused,
            },
        )

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        """{parameter: {"step": number, "sum": Tensor}}, as in PyTorch also of parameters that were not updated yet. A copy."""
        found = super().state
        return {
            p: found.get(p) or {"step": 0.0, "sum": Raw.wrap(self.rule.first("sum", p._array, group))}
            for group in self.param_groups
            for p in group["params"]
        }


class RMSprop(Optimizer):
    """Gradients over the root of their running mean square; the numbers of `torch.optim.RMSprop`.

    Args:
        params: Tensors or groups.
        lr: Rate.
        alpha: Decay of the running mean square.
        eps: Added to the root in the denominator.
        weight_decay: Adds weight_decay * p to the gradient (L2).
        momentum: Factor of the running sum of the steps.
        centered: Divide by the root of the variance in place of the mean square.
        foreach: False updates the parameters of a group one by one; default: together.
        maximize: Ascend.

    Raises:
        OptionError: capturable=True or differentiable=True.
        ValueError: A negative option.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.RMSprop([w], lr=0.1, alpha=0.75)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 4)
        0.8
    """

    rule = classic.rmsprop

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        check_not_negative(lr=lr, eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        refuse("RMSprop", differentiable=differentiable, capturable=capturable)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "alpha": alpha,
                "eps": eps,
                "centered": centered,
                "weight_decay": weight_decay,
                "foreach": foreach,
                "maximize": maximize,
            },
        )


class Rprop(Optimizer):
    """Steps by the sign of the gradient alone, for full batches; the numbers of `torch.optim.Rprop`.

    Args:
        params: Tensors or groups.
        lr: The first step size.
        etas: Factors of an element's step size where its gradient changed its sign, and where it kept it.
        step_sizes: The smallest and the largest.
        foreach: False updates the parameters of a group one by one; default: together.
        maximize: Ascend.

    Raises:
        OptionError: capturable=True or differentiable=True.
        ValueError: A negative rate, or etas that are not 0 < etas[0] < 1 < etas[1].

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.Rprop([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> optimizer.step()
        >>> round(w.item(), 4)
        0.78
    """

    rule = classic.rprop

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        check_not_negative(lr=lr)
        if not 0 < etas[0] < 1 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        refuse("Rprop", differentiable=differentiable, capturable=capturable)
        super().__init__(
            params, {"lr": lr, "etas": etas, "step_sizes": step_sizes, "foreach": foreach, "maximize": maximize}
        )


class ASGD(Optimizer):
    """SGD with a rate that falls, and the mean of the parameters in `state[p]["ax"]`; the numbers of `torch.optim.ASGD`.

    PyTorch holds the rate of the next step and the weight in the mean in float32, gradloom in float64.

    Args:
        params: Tensors or groups.
        lr: Rate of the first step.
        lambd: Decay of the parameters, times the rate, and of the rate.
        alpha: The rate of step t + 1 is lr / (1 + lambd * lr * t)^alpha.
        t0: The mean begins at this step.
        weight_decay: Adds weight_decay * p to the gradient (L2).
        foreach: False updates the parameters of a group one by one; default: together.
        maximize: Ascend.

    Raises:
        OptionError: capturable=True or differentiable=True.
        ValueError: A negative rate or weight_decay.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.ASGD([w], lr=0.1, t0=0)
        >>> for _ in range(2):
        ...     optimizer.zero_grad()
        ...     (w * w).sum().backward()
        ...     optimizer.step()
        >>> round(w.item(), 3), round(optimizer.state[w]["ax"].item(), 3)
        (0.64, 0.64)
    """

    rule = classic.asgd

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        check_not_negative(lr=lr, weight_decay=weight_decay)
        refuse("ASGD", differentiable=differentiable, capturable=capturable)
        super().__init__(
            params,
            {
                "lr": lr,
                "lambd": lambd,
                "alpha": alpha,
                "t0": t0,
                "weight_decay": weight_decay,
                "foreach": foreach,
                "maximize": maximize,
            },
        )
