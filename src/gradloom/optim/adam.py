"""Adam, AdamW, NAdam, RAdam and Adamax, PyTorch's face."""

from __future__ import annotations

from collections.abc import Iterable

from ..tensor.tensor import Tensor
from .bound import Optimizer
from .groups import check_betas, check_not_negative, refuse
from .rules import adam


def _check_tensors(betas: tuple, foreach: bool | None) -> None:
    """Betas that are Tensors, in PyTorch's words."""
    if isinstance(betas[0], Tensor) != isinstance(betas[1], Tensor):
        raise ValueError("betas must be either both floats or both Tensors")
    for i, beta in enumerate(betas):
        if isinstance(beta, Tensor) and foreach:
            raise ValueError(f"betas[{i}] as a Tensor is not supported for capturable=False and foreach=True")
        if isinstance(beta, Tensor) and beta.numel() != 1:
            raise ValueError(f"Tensor betas[{i}] must be 1-element")


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
        if foreach and isinstance(lr, Tensor):
            raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
        check_not_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        check_betas(betas)
        _check_tensors(betas, foreach)
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


class NAdam(Optimizer):
    """Adam with Nesterov's momentum; the numbers of `torch.optim.NAdam`.

    PyTorch holds the product of the momenta in float32, gradloom in float64.

    Args:
        params: Tensors or groups.
        lr: Rate.
        betas: Decay of the running means of the gradient and of its square.
        eps: Added to the root in the denominator.
        weight_decay: Adds weight_decay * p to the gradient (L2), or with `decoupled_weight_decay` shrinks p by lr * weight_decay.
        momentum_decay: How fast the momentum of a step, betas[0] * (1 - 0.96^(t * momentum_decay) / 2), comes up to betas[0].
        decoupled_weight_decay: AdamW's decay.
        foreach: False updates the parameters of a group one by one; default: together.
        maximize: Ascend.

    Raises:
        OptionError: capturable=True or differentiable=True.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.NAdam([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 3)
        0.894
    """

    rule = adam.nadam

    def __init__(
        self,
        params: Iterable,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ):
        check_not_negative(lr=lr, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
        check_betas(betas)
        refuse("NAdam", differentiable=differentiable, capturable=capturable)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
                "foreach": foreach,
            },
        )


class RAdam(Optimizer):
    """Adam whose first steps, until the variance can be rectified, are momentum; the numbers of `torch.optim.RAdam`.

    Args:
        params: Tensors or groups.
        lr: Rate.
        betas: Decay of the running means of the gradient and of its square.
        eps: Added to the root in the denominator.
        weight_decay: Adds weight_decay * p to the gradient (L2), or with `decoupled_weight_decay` shrinks p by lr * weight_decay.
        decoupled_weight_decay: AdamW's decay.
        foreach: False updates the parameters of a group one by one; default: together.
        maximize: Ascend.

    Raises:
        OptionError: capturable=True or differentiable=True.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.RAdam([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 4)
        0.8
    """

    rule = adam.radam

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ):
        check_not_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        check_betas(betas)
        refuse("RAdam", differentiable=differentiable, capturable=capturable)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "foreach": foreach,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )


class Adamax(Optimizer):
    """Adam with the largest gradient, which decays, in place of the root mean square; the numbers of `torch.optim.Adamax`.

    Args:
        params: Tensors or groups.
        lr: Rate.
        betas: Decay of the running mean of the gradient and of its largest size.
        eps: Added to the size of the gradient.
        weight_decay: Adds weight_decay * p to the gradient (L2).
        foreach: False updates the parameters of a group one by one; default: together.
        maximize: Ascend.

    Raises:
        OptionError: capturable=True or differentiable=True.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.Adamax([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 4)
        0.9
    """

    rule = adam.adamax

    def __init__(
        self,
        params: Iterable,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        check_not_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        check_betas(betas)
        refuse("Adamax", differentiable=differentiable, capturable=capturable)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "foreach": foreach,
                "maximize": maximize,
            },
        )
