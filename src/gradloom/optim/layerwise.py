"""LAMB, LARS and NovoGrad."""

from __future__ import annotations

from collections.abc import Iterable

from .bound import Optimizer
from .groups import check_options
from .rules import layerwise


class LAMB(Optimizer):
    """Adam whose step is as long, relative to the parameter, as the rate says: for large batches.

    Biases and the weights of norms are usually given in a group with `adapt=False` and `weight_decay=0`.

    The update of the paper (arXiv:1904.00962), the numbers of `optax.lamb`, the defaults of timm's `Lamb`. timm besides clips all
    gradients to a norm of 1 (call `nn.utils.clip_grad_norm_` for that) and does not adapt groups without weight decay.

    Args:
        params: Tensors or groups.
        lr: Rate.
        betas: Decay of the running means of the gradient and of its square.
        eps: Added to the root in the denominator.
        weight_decay: Adds weight_decay * p to Adam's step, before its norm is taken.
        bias_correction: Correct the means for having started at zero.
        adapt: Multiply the rate by the norm of p through that of the step (by 1, where one of them is 0).
        trust_clip: That ratio is at most 1.
        maximize: Ascend.
        foreach: False updates the parameters of a group one by one; default: together.
        fused: True demands the engine's fused kernel, False forbids it.

    Raises:
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        RuntimeError: fused=True and foreach=True.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([3.0, 4.0], requires_grad=True)
        >>> optimizer = gl.optim.LAMB([w], lr=0.1, weight_decay=0)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round((w - gl.tensor([3.0, 4.0])).norm().item(), 3)  # a tenth of the norm of w
        0.5
    """

    rule = layerwise.lamb

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        *,
        bias_correction: bool = True,
        adapt: bool = True,
        trust_clip: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        check_options(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "bias_correction": bias_correction,
                "adapt": adapt,
                "trust_clip": trust_clip,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )


class LARS(Optimizer):
    """SGD whose rate is scaled for each parameter by its norm through that of its gradient: for large batches.

    Biases and the weights of norms are usually given in a group with `adapt=False` and `weight_decay=0`.

    The numbers and defaults of timm's `Lars` (there `always_adapt=True`). In the paper (arXiv:1708.03888) and in `optax.lars` the rate is
    inside of the momentum buffer, which differs when it changes; optax divides by the norm of gradient and decay together.

    Args:
        params: Tensors or groups.
        lr: Rate.
        momentum: Factor of the running sum of steps.
        dampening: A step enters that sum times 1 - dampening.
        weight_decay: Adds weight_decay * p to the gradient (L2).
        nesterov: Look ahead along the momentum; needs momentum and no dampening.
        trust_coeff: The norm of a step, relative to that of p, at a rate of 1.
        eps: Added to the norm of the gradient.
        adapt: Scale the rate so; it is not where the norm of p or of the gradient is 0.
        trust_clip: The scaled rate is at most lr (LARC).
        maximize: Ascend.
        foreach: False updates the parameters of a group one by one; default: together.
        fused: True demands the engine's fused kernel, False forbids it.

    Raises:
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        RuntimeError: fused=True and foreach=True.
        ValueError: An option out of range, or Nesterov without momentum.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([3.0, 4.0], requires_grad=True)
        >>> optimizer = gl.optim.LARS([w], lr=1.0, trust_coeff=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round((w - gl.tensor([3.0, 4.0])).norm().item(), 3)  # a tenth of the norm of w
        0.5
    """

    rule = layerwise.lars

    def __init__(
        self,
        params: Iterable,
        lr: float = 1.0,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        trust_coeff: float = 0.001,
        eps: float = 1e-8,
        *,
        adapt: bool = True,
        trust_clip: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        check_options(lr=lr, momentum=momentum, weight_decay=weight_decay, eps=eps)
        if not trust_coeff > 0:
            raise ValueError(f"Invalid trust_coeff value: {trust_coeff}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "trust_coeff": trust_coeff,
                "eps": eps,
                "adapt": adapt,
                "trust_clip": trust_clip,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )


class NovoGrad(Optimizer):
    """Momentum of gradients that are divided by their norms: Adam with one second moment for each parameter.

    The paper is arXiv:1905.11286; the numbers and defaults are those of NVIDIA's code (timm's `NvNovoGrad`). `optax.novograd` has other
    defaults, betas=(0.9, 0.25) and eps=1e-6.

    Args:
        params: Tensors or groups.
        lr: Rate.
        betas: Decay of the sum of steps, and of the running mean of the squared norm of the gradient.
        eps: Added to the root in the denominator.
        weight_decay: Adds weight_decay * p to the divided gradient.
        grad_averaging: Steps enter their sum times 1 - betas[0].
        amsgrad: Divide by the largest running mean of squares so far.
        maximize: Ascend.
        foreach: False updates the parameters of a group one by one; default: together.
        fused: True demands the engine's fused kernel, False forbids it.

    Raises:
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        RuntimeError: fused=True and foreach=True.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([3.0, 4.0], requires_grad=True)
        >>> optimizer = gl.optim.NovoGrad([w], lr=0.5)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> [round(x, 3) for x in w.tolist()]
        [2.7, 3.6]
    """

    rule = layerwise.novograd

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.95, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0,
        grad_averaging: bool = False,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        check_options(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "grad_averaging": grad_averaging,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )
