"""Prodigy."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .bound import Optimizer
from .groups import check_options
from .rules import prodigy


class Prodigy(Optimizer):
    """Adam that finds its rate: `lr` is a factor, to be left at 1 or given a schedule from 1 to 0.

    The paper is arXiv:2306.06101; the numbers and defaults are those of the authors' `prodigyopt`, and with
    `use_bias_correction=True` those of `optax.contrib.prodigy`. The state of each parameter has the estimate, `d`; it is the same
    for all, and all are in one group.

    Args:
        params: Tensors.
        lr: Factor of the estimated rate.
        betas: Decay of the running means of the gradient and of its square.
        beta3: Decay of the sums that the estimate is made of; None: the root of betas[1].
        eps: Added to the root in the denominator, times the estimate.
        weight_decay: Shrinks p by weight_decay times the rate, or without `decouple` adds weight_decay * p to the gradient (L2).
        decouple: AdamW's decay.
        use_bias_correction: Correct the means for having started at zero.
        safeguard_warmup: Leave lr out of the estimate's denominator: for schedules that warm up.
        d0: First estimate; too small rather than too large.
        d_coef: Factor of the estimate: what to tune.
        growth_rate: The estimate grows by this factor a step at most.
        maximize: Ascend.
        foreach: True demands what is always done here, all parameters together.
        fused: True demands the engine's fused kernel, False forbids it.

    Raises:
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        RuntimeError: fused=True and foreach=True.
        ValueError: An option out of range, foreach=False, or a second group. At a step: parameters that differ in dtype or device,
            or of which only some have gradients.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([3.0, 4.0], requires_grad=True)
        >>> optimizer = gl.optim.Prodigy([w])
        >>> for _ in range(100):
        ...     optimizer.zero_grad()
        ...     (w * w).sum().backward()
        ...     optimizer.step()
        >>> bool(w.norm() < 0.5)
        True
    """

    rule = prodigy.prodigy

    def __init__(
        self,
        params: Iterable,
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0,
        decouple: bool = True,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float = math.inf,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        if not d0 > 0:
            raise ValueError(f"Invalid d0 value: {d0}")
        if not eps > 0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        check_options(lr=lr, betas=betas, weight_decay=weight_decay, d_coef=d_coef)
        if beta3 is not None and not 0 <= beta3 < 1:
            raise ValueError(f"Invalid beta3 value: {beta3}")
        if not growth_rate >= 1:
            raise ValueError(f"Invalid growth_rate value: {growth_rate}")
        if foreach is False:
            raise ValueError("Prodigy updates all parameters together, and not one by one: leave foreach out")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "beta3": beta3,
                "eps": eps,
                "weight_decay": weight_decay,
                "decouple": decouple,
                "use_bias_correction": use_bias_correction,
                "safeguard_warmup": safeguard_warmup,
                "d0": d0,
                "d_coef": d_coef,
                "growth_rate": growth_rate,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )
