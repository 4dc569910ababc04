"""Shampoo and SOAP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..dtypes import bfloat16, float16
from ..errors import DTypeError, explain
from .bound import Optimizer
from .groups import check_options
from .rules import shampoo


def _check_frequency(every: int) -> None:
    if every < 1 or every != int(every):
        raise ValueError(f"Invalid precondition_frequency value: {every}")


class _OfMatrices(Optimizer):
    """What Shampoo and SOAP share."""

    def check_group(self, group: dict[str, Any]) -> None:
        """Raises for options out of range, and for parameters of a dtype that is too coarse for roots and bases of matrices."""
        super().check_group(group)
        _check_frequency(group["precondition_frequency"])
        for p in group["params"]:
            if p.dtype in (float16, bfloat16):
                raise DTypeError(
                    explain(
                        f"{type(self).__name__} computes roots or bases of matrices, in the dtype of the parameter",
                        expected="float32 or float64",
                        given=p.dtype.name,
                        do="keep the parameters in float32 and compute in 16 bits under autocast",
                    )
                )


class Shampoo(_OfMatrices):
    """Gradients multiplied along each axis by the inverse root of a matrix of their second moments.

    The paper is arXiv:1802.09568 (algorithm 2). The inverse roots come of products alone (a coupled Newton iteration with a ridge of 1e-6
    of the matrix's norm), so that accelerators are fast at them. `torch_optimizer.Shampoo` takes the (-1/k)-th power of the matrix of a
    parameter of k axes, where the paper, and this, have -1/(2k).

    An axis of length n has a state of n * n numbers, and with precondition_frequency > 1 of twice as many. XLA takes some tenths of a
    second to compile each root.

    Args:
        params: Tensors or groups, of float32 or float64.
        lr: Rate.
        momentum: Factor of the running sum of preconditioned gradients.
        weight_decay: Adds weight_decay * p to the gradient (L2), or with `decoupled_weight_decay` shrinks p by lr * weight_decay.
        eps: Added to the diagonals of the matrices.
        beta2: 1 sums second moments up, as in the paper; less is the decay of their running mean.
        precondition_frequency: The inverse roots are computed at the first step and at each so many steps after it. Under `gradloom.jit`
            there are two compiled forms then, with and without them.
        max_preconditioner_dim: Of longer axes only the diagonal of the matrix is kept.
        decoupled_weight_decay: AdamW's decay.
        maximize: Ascend.
        foreach: False updates the parameters of a group one by one; default: together.
        fused: True demands the engine's fused kernel, False forbids it.

    Raises:
        DTypeError: A parameter of float16 or bfloat16.
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        RuntimeError: fused=True and foreach=True.
        ShapeError: A parameter of more than 8 axes.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([[3.0, 0.0], [0.0, 1.0]], requires_grad=True)
        >>> optimizer = gl.optim.Shampoo([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> [round(x, 2) for x in w.flatten().tolist()]  # the first step is of the same size along both axes
        [2.9, 0.0, 0.0, 0.9]
    """

    rule = shampoo.shampoo

    def __init__(
        self,
        params: Iterable,
        lr: float = 0.1,
        momentum: float = 0,
        weight_decay: float = 0,
        eps: float = 1e-4,
        beta2: float = 1.0,
        precondition_frequency: int = 1,
        max_preconditioner_dim: int = 1024,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        check_options(lr=lr, momentum=momentum, weight_decay=weight_decay)
        _check_frequency(precondition_frequency)
        if not eps > 0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        if not 0 < beta2 <= 1:
            raise ValueError(f"Invalid beta2 value: {beta2}")
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "weight_decay": weight_decay,
                "eps": eps,
                "beta2": beta2,
                "precondition_frequency": precondition_frequency,
                "max_preconditioner_dim": max_preconditioner_dim,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )


class SOAP(_OfMatrices):
    """Adam in the eigenbases of Shampoo's matrices.

    The paper is arXiv:2409.11321; the update and the defaults are those of the authors' code, whose first step, too, only makes the
    bases and leaves the parameters as they are. Its first bases are eigenvectors (`eigh`), of the first gradient; here they begin as
    the identity and come near the eigenvectors by the power method, as the authors' do from there on.

    An axis of length n has a state of 2 * n * n numbers. Axes that are too long, and vectors, keep the identity: Adam.

    Args:
        params: Tensors or groups, of float32 or float64.
        lr: Rate.
        betas: Decay of the running means of the gradient and of its square in the eigenbasis.
        shampoo_beta: Decay of the running means of the matrices; None: betas[1].
        eps: Added to the root in the denominator.
        weight_decay: Shrinks p by lr * weight_decay.
        precondition_frequency: The bases move at the first step and at each so many steps after it. Under `gradloom.jit` there are two
            compiled forms then, with and without that.
        max_precond_dim: The longest axis that has a basis. (XLA compiles some 15 ms for each column of each basis.)
        precondition_1d: Vectors have a basis, too.
        maximize: Ascend.
        foreach: False updates the parameters of a group one by one; default: together.
        fused: True demands the engine's fused kernel, False forbids it.

    Raises:
        DTypeError: A parameter of float16 or bfloat16.
        OptionError: fused=True, and the engine of a parameter has no fused kernel of the rule.
        RuntimeError: fused=True and foreach=True.
        ShapeError: A parameter of more than 8 axes.
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([[3.0, 0.0], [0.0, 1.0]], requires_grad=True)
        >>> optimizer = gl.optim.SOAP([w], lr=0.1, weight_decay=0)
        >>> for _ in range(2):
        ...     optimizer.zero_grad()
        ...     (w * w).sum().backward()
        ...     optimizer.step()
        >>> [round(x, 2) for x in w.flatten().tolist()]
        [2.9, 0.0, 0.0, 0.9]
    """

    rule = shampoo.soap

    def __init__(
        self,
        params: Iterable,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        max_precond_dim: int = 10000,
        precondition_1d: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        check_options(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay)
        _check_frequency(precondition_frequency)
        if shampoo_beta is not None and not 0 <= shampoo_beta < 1:
            raise ValueError(f"Invalid shampoo_beta value: {shampoo_beta}")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "shampoo_beta": shampoo_beta,
                "eps": eps,
                "weight_decay": weight_decay,
                "precondition_frequency": precondition_frequency,
                "max_precond_dim": max_precond_dim,
                "precondition_1d": precondition_1d,
                "maximize": maximize,
                "foreach": foreach,
                "fused": fused,
            },
        )
