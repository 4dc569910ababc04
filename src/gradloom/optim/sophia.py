"""Sophia."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import ops
from ..errors import ShapeError, explain
from ..graph.graph import PLACE
from ..tensor.grad_mode import no_grad
from ..tensor.tape import Raw
from ..tensor.tensor import Tensor
from .block import Block
from .bound import Optimizer
from .groups import check_betas, check_not_negative
from .rules import sophia


class SophiaG(Optimizer):
    """Sophia: momentum divided by an estimate of the Hessian's diagonal, clipped; the numbers of the authors' code (arXiv:2305.14342).

    Every ten steps or so give it a new estimate with `update_hessian`. Until the first one, elements move by lr and the momentum's sign.

    Args:
        params: Tensors or groups.
        lr: Rate.
        betas: Decay of the running means of the gradient and of the estimates.
        rho: An element is clipped where the momentum is more than rho * bs times the estimate.
        weight_decay: Shrinks p by lr * weight_decay.
        bs: Samples (of language models: tokens) in the batch that the loss of `update_hessian` is a mean over; 1 for estimates of the
            Hessian itself. The authors' code takes it in `step`.
        eps: Added in the denominator.
        maximize: Ascend.
        foreach, fused: As for `Adam`.

    Raises:
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0, 1.0], requires_grad=True)
        >>> curvature = gl.tensor([1.0, 100.0])
        >>> optimizer = gl.optim.SophiaG([w], lr=0.5, betas=(0.0, 0.0), rho=1.0, weight_decay=0.0, bs=1)
        >>> optimizer.update_hessian([curvature])
        >>> (0.5 * curvature * w * w).sum().backward()
        >>> optimizer.step()
        >>> w.tolist()
        [0.5, 0.5]
    """

    rule = sophia.sophia

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.965, 0.99),
        rho: float = 0.04,
        weight_decay: float = 1e-1,
        *,
        bs: float = 5120,
        eps: float = 1e-15,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        check_not_negative(lr=lr, rho=rho, weight_decay=weight_decay, bs=bs, eps=eps)
        check_betas(betas)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "rho": rho,
                "weight_decay": weight_decay,
                "bs": bs,
                "eps": eps,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )

    def update_hessian(self, hessian: Iterable[Tensor | None] | None = None) -> None:
        """Takes a new estimate of the Hessian's diagonal into the running mean; also in a compiled function.

        Args:
            hessian: The estimate, a Tensor of the parameter's shape (or None) for each parameter over all groups, such as u * (H u) for
                random signs u. Default: the squares of the gradients that the parameters have now, which should be of the mean loss with
                targets drawn from the model's own output (Gauss-Newton-Bartlett).

        Raises:
            ShapeError: Another number of estimates, or of another shape than their parameters.
        """
        params = [p for group in self.param_groups for p in group["params"]]
        with no_grad():
            if hessian is None:
                given = [None if p._grad is None or p.grad is None else p.grad * p.grad for p in params]
            else:
                given = list(hessian)
                _check(params, given)
            of = {p: h for p, h in zip(params, given, strict=True) if h is not None}
            for group in self.param_groups:
                chosen = [p for p in group["params"] if p in of]
                for block in self._of(group, chosen) if chosen else ():
                    self._average(group, block, [of[p] for p in block.params])

    def _average(self, group: dict[str, Any], block: Block, given: list[Tensor]) -> None:
        rule, flags = self._code(group)
        block.names(rule, block.flags(rule, flags))
        column = block.state["hessian"]
        beta2: Any = float(group["betas"][1])
        rest2: Any = 1.0 - beta2
        if PLACE.graph is not None:
            PLACE.state(column, "hessian")
            scalars = PLACE.host_scalars(
                lambda: (group["betas"][1], 1.0 - group["betas"][1]), ("beta2", "rest2"), block.params[0].dtype
            )
            beta2, rest2 = map(Raw.wrap, scalars)
        arrays = [h._array for h in given]
        arrays = [ops.flat(*arrays)] if block.flat else arrays
        column[:] = [
            (Raw.wrap(old) * beta2 + Raw.wrap(new) * rest2)._array for old, new in zip(column, arrays, strict=True)
        ]


def _check(params: list[Tensor], given: list) -> None:
    """Raises where the estimates do not fit the parameters."""
    if len(given) != len(params):
        raise ShapeError(
            explain("update_hessian takes one estimate for each parameter", expected=len(params), given=len(given))
        )
    for i, (p, h) in enumerate(zip(params, given, strict=True)):
        if h is not None and tuple(h.shape) != tuple(p.shape):
            raise ShapeError(
                explain(
                    f"the Hessian's estimate {i} has another shape than its parameter",
                    expected=tuple(p.shape),
                    given=tuple(h.shape),
                )
            )
