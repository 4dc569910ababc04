"""Schedule-Free SGD and AdamW, with `train()` and `eval()` as in the authors' package."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..errors import TraceError, explain
from ..graph.graph import PLACE
from ..tensor.grad_mode import no_grad
from ..tensor.tape import Raw
from .block import Kept
from .bound import Optimizer
from .groups import check_betas, check_not_negative
from .rules import schedule_free


class ScheduleFree(Optimizer):
    """Base of the Schedule-Free optimizers: the parameters are y while training, and the average x in `eval()`."""

    def _beta(self, group: dict[str, Any]) -> float:
        """What x weighs in y."""
        raise NotImplementedError

    def train(self) -> None:
        """Sets the parameters to y, where gradients are taken: before training goes on. It begins in this mode."""
        self._switch(True)

    def eval(self) -> None:
        """Sets the parameters to the average x: before the model is evaluated or saved."""
        self._switch(False)

    def _switch(self, train: bool) -> None:
        if PLACE.graph is not None:
            raise TraceError(
                explain(
                    f"{type(self).__name__}.{'train' if train else 'eval'}() in a compiled function",
                    do="call it outside",
                )
            )
        for group in self.param_groups:
            if group["train_mode"] == train:
                continue
            beta = self._beta(group)
            kept: dict[Any, Kept] = dict(self._rest)
            for block in self._blocks_of(group):
                kept.update(block.rest())
            with no_grad():
                for p in group["params"]:
                    if p in kept and kept[p].step:
                        # y = (1 - beta) * z + beta * x
                        p.lerp_(Raw.wrap(kept[p].arrays["z"]), 1.0 - beta if train else 1.0 - 1.0 / beta)
            group["train_mode"] = train

    def _step(self, closure: Callable | None = None) -> Any:
        if not all(group["train_mode"] for group in self.param_groups):
            raise RuntimeError(
                explain(
                    f"{type(self).__name__}.step() in eval mode, in which the parameters are the average x",
                    do="call optimizer.train() before training goes on, and optimizer.eval() before the model is evaluated or saved",
                )
            )
        return super()._step(closure)

    def _goes_on(self, group: dict, code: tuple, engine: str) -> bool:
        return group["train_mode"] and super()._goes_on(group, code, engine)


class SGDScheduleFree(ScheduleFree):
    """Schedule-Free SGD; the numbers of `schedulefree.SGDScheduleFree` (arXiv:2405.15682).

    The parameters hold y, the point where gradients are taken. Call `eval()` before the model is evaluated or saved, and `train()` before
    training goes on. Steps, weights and the largest rate are counted for each parameter, from its own first gradient on, where the
    authors' class counts for the group. Needs no schedule; the rate may be changed all the same.

    Args:
        params: Tensors or groups.
        lr: Rate.
        momentum: What the average x weighs in y; between 0 and 1.
        weight_decay: Adds weight_decay * y to the gradient (L2).
        warmup_steps: The rate grows linearly to lr over so many steps.
        r: Step t weighs t ** r in the average.
        weight_lr_power: And the largest rate so far to this power.
        maximize: Ascend.
        foreach, fused: As for `Adam`.

    Raises:
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        RuntimeError: `step` is called in eval mode.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.SGDScheduleFree([w], lr=0.25)
        >>> for _ in range(2):
        ...     optimizer.zero_grad()
        ...     (w * w).sum().backward()
        ...     optimizer.step()
        >>> round(w.item(), 4)
        0.3625
        >>> optimizer.eval()
        >>> round(w.item(), 4)
        0.375
        >>> optimizer.train()
    """

    rule = schedule_free.sgd_schedule_free

    def __init__(
        self,
        params: Iterable,
        lr: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        check_not_negative(lr=lr, weight_decay=weight_decay, warmup_steps=warmup_steps)
        if not 0 < momentum < 1:
            raise ValueError(f"Momentum must be between 0 and 1 exclusive: {momentum}")
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "weight_decay": weight_decay,
                "warmup_steps": warmup_steps,
                "r": r,
                "weight_lr_power": weight_lr_power,
                "train_mode": True,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )

    def _beta(self, group: dict[str, Any]) -> float:
        return group["momentum"]


class AdamWScheduleFree(ScheduleFree):
    """Schedule-Free AdamW; the numbers of `schedulefree.AdamWScheduleFree` 1.3 and later (arXiv:2405.15682).

    See `SGDScheduleFree` for `train()`, `eval()` and what is counted.

    Args:
        params: Tensors or groups.
        lr: Rate.
        betas: What the average x weighs in y, more than 0; decay of the running mean of the gradient's square.
        eps: Added to the root in the denominator.
        weight_decay: Adds lr * weight_decay * y to the step.
        warmup_steps: The rate grows linearly to lr over so many steps.
        r: Step t weighs t ** r in the average.
        weight_lr_power: And the largest rate so far to this power.
        maximize: Ascend.
        foreach, fused: As for `Adam`.

    Raises:
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        RuntimeError: `step` is called in eval mode.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0], requires_grad=True)
        >>> optimizer = gl.optim.AdamWScheduleFree([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 4)
        0.9
    """

    rule = schedule_free.adamw_schedule_free

    def __init__(
        self,
        params: Iterable,
        lr: float = 0.0025,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        check_not_negative(lr=lr, eps=eps, weight_decay=weight_decay, warmup_steps=warmup_steps)
        check_betas(betas)
        if betas[0] == 0:
            raise ValueError(f"Invalid beta parameter at index 0: {betas[0]}")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "warmup_steps": warmup_steps,
                "r": r,
                "weight_lr_power": weight_lr_power,
                "train_mode": True,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )

    def _beta(self, group: dict[str, Any]) -> float:
        return group["betas"][0]
