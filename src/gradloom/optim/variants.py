"""Relatives of Adam that PyTorch does not have: AdaBelief, Yogi, Adan, ADOPT and AdEMAMix, with the options of their authors' code."""

from __future__ import annotations

from collections.abc import Iterable

from .bound import Optimizer
from .groups import check_betas, check_not_negative
from .rules import variants


class AdaBelief(Optimizer):
    """Adam that divides by how far gradients are from their running mean; the numbers of `adabelief_pytorch` (arXiv:2010.07468).

    Those of `optax.adabelief` with rectify=False. `amsgrad` counts with `rectify` too, where the authors' code leaves it unused.

    Args:
        params: Tensors or groups.
        lr: Rate.
        betas: Decay of the running means of the gradient and of its squared distance from that mean.
        eps: Added to the second mean at each step, and to the root in the denominator.
        weight_decay: Shrinks p by lr * weight_decay.
        amsgrad: Divide by the largest second mean so far.
        weight_decouple: False adds weight_decay * p to the gradient (L2) instead.
        fixed_decay: Decoupled decay shrinks p by weight_decay, whatever the rate is.
        rectify: RAdam's rate in the first steps.
        degenerated_to_sgd: Where that has none, p moves by lr times the mean of the gradient; False: not at all.
        maximize: Ascend.
        foreach, fused: As for `Adam`.

    Raises:
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.AdaBelief([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 4)
        0.8
    """

    rule = variants.adabelief

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0,
        amsgrad: bool = False,
        weight_decouple: bool = True,
        fixed_decay: bool = False,
        rectify: bool = True,
        degenerated_to_sgd: bool = True,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        check_not_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        check_betas(betas)
        if fixed_decay and not weight_decouple:
            raise ValueError("fixed_decay is a way of decoupled decay and needs weight_decouple=True")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "weight_decouple": weight_decouple,
                "fixed_decay": fixed_decay,
                "rectify": rectify,
                "degenerated_to_sgd": degenerated_to_sgd,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )


class Yogi(Optimizer):
    """Adam whose mean of squares shrinks slowly; the numbers of `torch_optimizer.Yogi` and `optax.yogi` (Zaheer et al., NeurIPS 2018).

    Args:
        params: Tensors or groups.
        lr: Rate.
        betas: Decay of the running means of the gradient and of its square.
        eps: Added to the root in the denominator.
        initial_accumulator: Where both means start.
        weight_decay: Adds weight_decay * p to the gradient (L2).
        maximize: Ascend.
        foreach, fused: As for `Adam`.

    Raises:
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.Yogi([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 3)
        0.9
    """

    rule = variants.yogi

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-3,
        initial_accumulator: float = 1e-6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        check_not_negative(lr=lr, eps=eps, initial_accumulator=initial_accumulator, weight_decay=weight_decay)
        check_betas(betas)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "initial_accumulator": initial_accumulator,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )


class Adan(Optimizer):
    """Adaptive Nesterov momentum; the numbers of the authors' code (arXiv:2208.06677).

    Clip the gradient's norm before the step with `nn.utils.clip_grad_norm_`, where the authors' class has `max_grad_norm`. Steps are
    counted for each parameter, where theirs counts for the group.

    Args:
        params: Tensors or groups.
        lr: Rate.
        betas: Decay of the running means of the gradient, of its change, and of the square of the gradient ahead.
        eps: Added to the root in the denominator.
        weight_decay: Divides p by 1 + lr * weight_decay after the step.
        no_prox: Multiply it by 1 - lr * weight_decay before the step instead, as AdamW.
        maximize: Ascend.
        foreach, fused: As for `Adam`.

    Raises:
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.Adan([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 4)
        0.9
    """

    rule = variants.adan

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        no_prox: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        check_not_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        check_betas(betas)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "no_prox": no_prox,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )


class ADOPT(Optimizer):
    """Adam that divides by the squares before this gradient, and averages after that; the numbers of `optax.contrib.adopt`.

    Taniguchi et al., 2024 (arXiv:2411.02853). The first step of a parameter leaves it as it is, but for decoupled decay.

    Args:
        params: Tensors or groups.
        lr: Rate.
        betas: Decay of the running means of the scaled gradient and of the gradient's square.
        eps: The root in the denominator is at least this.
        weight_decay: Adds weight_decay * p to the gradient (L2), or with `decoupled` shrinks p by lr * weight_decay.
        decoupled: AdamW's decay.
        clip_power: The scaled gradient of step t is clipped to +- (t - 1) ** clip_power; None: it is not.
        maximize: Ascend.
        foreach, fused: As for `Adam`.

    Raises:
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.ADOPT([w], lr=0.1)
        >>> for _ in range(2):
        ...     optimizer.zero_grad()
        ...     (w * w).sum().backward()
        ...     optimizer.step()
        >>> round(w.item(), 4)
        0.99
    """

    rule = variants.adopt

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.9999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        *,
        clip_power: float | None = 0.25,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        check_not_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        check_betas(betas)
        if clip_power is not None and clip_power <= 0:
            raise ValueError(f"Invalid clip_power value: {clip_power}")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "decoupled": decoupled,
                "clip_power": clip_power,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )


class AdEMAMix(Optimizer):
    """AdamW with a second, very slow mean of the gradient; the numbers of the authors' code (arXiv:2409.03137).

    Args:
        params: Tensors or groups.
        lr: Rate.
        betas: Decay of the fast mean of the gradient, of the mean of its square, and of the slow mean.
        alpha: What the slow mean weighs. (The paper takes 5 to 10, the authors' class 2.)
        beta3_warmup: Over so many steps the third beta grows from the first to its value.
        alpha_warmup: Over so many steps alpha grows from 0 to its value.
        eps: Added to the root in the denominator.
        weight_decay: Shrinks p by lr * weight_decay.
        maximize: Ascend.
        foreach, fused: As for `Adam`.

    Raises:
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.AdEMAMix([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 4)
        0.9
    """

    rule = variants.ademamix

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 2.0,
        beta3_warmup: int | None = None,
        alpha_warmup: int | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        check_not_negative(lr=lr, eps=eps, weight_decay=weight_decay, alpha=alpha)
        check_betas(betas)
        check_not_negative(beta3_warmup=beta3_warmup or 0, alpha_warmup=alpha_warmup or 0)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "alpha": alpha,
                "beta3_warmup": beta3_warmup,
                "alpha_warmup": alpha_warmup,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )
