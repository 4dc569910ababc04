"""Losses of margins, of distances, and of given likelihoods.

`reduction` is "mean", "sum" or "none"; `size_average` and `reduce` are PyTorch's older names for it. None of them
broadcasts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import OptionError
from . import functional as F
from .distance import PairwiseDistance
from .loss import _Loss, _WeightedLoss


class PoissonNLLLoss(_Loss):
    """exp(input) - target * input, for counts.

    Args:
        log_input: The input is the logarithm of the expected count, rather than the count.
        full: Add Stirling's approximation of log(target!), where target > 1.
        eps: Added within the logarithm of the input, if that is a count.
        reduction: "mean", "sum" or "none".

    Example:
        >>> import gradloom as gl
        >>> gl.nn.PoissonNLLLoss()(gl.zeros(2), gl.tensor([1.0, 3.0]))
        tensor(1.)
    """

    def __init__(
        self, log_input: bool = True, full: bool = False, size_average: Any = None, eps: float = 1e-8,
        reduce: Any = None, reduction: str = "mean",
    ):  # fmt: skip
        super().__init__(size_average, reduce, reduction)
        self.log_input, self.full, self.eps = log_input, full, eps

    def forward(self, input: Any, target: Any) -> Any:
        return F.poisson_nll_loss(input, target, self.log_input, self.full, eps=self.eps, reduction=self.reduction)


class GaussianNLLLoss(_Loss):
    """(log(var) + (input - target)**2 / var) / 2; Nix and Weigend 1994.

    Args:
        full: Add log(2 * pi) / 2.
        eps: The least variance.
        reduction: "mean", "sum" or "none".
    """

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        self.full, self.eps = full, eps

    def forward(self, input: Any, target: Any, var: Any) -> Any:
        """The loss; var has the shape of input, or this with a last axis of 1 or without its last axis."""
        return F.gaussian_nll_loss(input, target, var, self.full, self.eps, self.reduction)


class HingeEmbeddingLoss(_Loss):
    """For distances: input where target is 1, max(0, margin - input) where it is -1."""

    def __init__(self, margin: float = 1.0, size_average: Any = None, reduce: Any = None, reduction: str = "mean"):
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input: Any, target: Any) -> Any:
        return F.hinge_embedding_loss(input, target, self.margin, reduction=self.reduction)


class SoftMarginLoss(_Loss):
    """log(1 + exp(-target * input)) for targets of 1 and -1."""

    def __init__(self, size_average: Any = None, reduce: Any = None, reduction: str = "mean"):
        super().__init__(size_average, reduce, reduction)

    def forward(self, input: Any, target: Any) -> Any:
        return F.soft_margin_loss(input, target, reduction=self.reduction)


class MultiLabelMarginLoss(_Loss):
    """The sum of max(0, 1 - input[y] + input[i]) over all targets y and all classes i that are no target, divided by C.

    `input` holds scores (N, C) or (C,); `target` has its shape and holds class indices, up to the first -1 of a row.
    """

    def __init__(self, size_average: Any = None, reduce: Any = None, reduction: str = "mean"):
        super().__init__(size_average, reduce, reduction)

    def forward(self, input: Any, target: Any) -> Any:
        return F.multilabel_margin_loss(input, target, reduction=self.reduction)


class MultiLabelSoftMarginLoss(_WeightedLoss):
    """The mean over the classes of the `BCEWithLogitsLoss` of input (N, C) and target (N, C).

    Args:
        weight: (C,), what each class counts; or None.
        reduction: "mean", "sum" or "none".
    """

    def __init__(self, weight: Any = None, size_average: Any = None, reduce: Any = None, reduction: str = "mean"):
        super().__init__(weight, size_average, reduce, reduction)

    def forward(self, input: Any, target: Any) -> Any:
        return F.multilabel_soft_margin_loss(input, target, self.weight, reduction=self.reduction)


class MultiMarginLoss(_WeightedLoss):
    """The sum over all classes but the target of max(0, margin - input[target] + input)**p, divided by C.

    Args:
        p: 1 or 2.
        margin: The margin.
        weight: (C,), what a row with this target counts; or None.
        reduction: "mean", "sum" or "none".

    `input` holds scores (N, C) or (C,), `target` class indices (N,) or ().

    Example:
        >>> import gradloom as gl
        >>> gl.nn.MultiMarginLoss()(gl.tensor([[0.1, 0.2, 0.4, 0.8]]), gl.tensor([3]))
        tensor(0.3250)
    """

    def __init__(
        self, p: int = 1, margin: float = 1.0, weight: Any = None, size_average: Any = None, reduce: Any = None,
        reduction: str = "mean",
    ):  # fmt: skip
        super().__init__(weight, size_average, reduce, reduction)
        if p not in (1, 2):
            raise OptionError("only p == 1 and p == 2 supported")
        self.p, self.margin = p, margin

    def forward(self, input: Any, target: Any) -> Any:
        return F.multi_margin_loss(input, target, self.p, self.margin, self.weight, reduction=self.reduction)


class CosineEmbeddingLoss(_Loss):
    """1 - cos(input1, input2) where target is 1, max(0, cos - margin) where it is -1, for vectors (N, D) or (D,)."""

    def __init__(self, margin: float = 0.0, size_average: Any = None, reduce: Any = None, reduction: str = "mean"):
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input1: Any, input2: Any, target: Any) -> Any:
        return F.cosine_embedding_loss(input1, input2, target, self.margin, reduction=self.reduction)


class MarginRankingLoss(_Loss):
    """max(0, -target * (input1 - input2) + margin): a target of 1 wants the first to be larger, -1 the second."""

    def __init__(self, margin: float = 0.0, size_average: Any = None, reduce: Any = None, reduction: str = "mean"):
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input1: Any, input2: Any, target: Any) -> Any:
        return F.margin_ranking_loss(input1, input2, target, self.margin, reduction=self.reduction)


class TripletMarginLoss(_Loss):
    """max(0, margin + d(anchor, positive) - d(anchor, negative)); Balntas et al. 2016.

    Args:
        margin: The margin, above 0.
        p, eps: Of d, which is `PairwiseDistance`.
        swap: Use d(positive, negative) in place of d(anchor, negative) where it is smaller.
        reduction: "mean", "sum" or "none".
    """

    def __init__(
        self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, size_average: Any = None,
        reduce: Any = None, reduction: str = "mean",
    ):  # fmt: skip
        super().__init__(size_average, reduce, reduction)
        if margin <= 0:
            raise OptionError(f"TripletMarginLoss: expected margin to be greater than 0, got {margin} instead")
        self.margin, self.p, self.eps, self.swap = margin, p, eps, swap

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:
        return F.triplet_margin_loss(
            anchor, positive, negative, self.margin, self.p, self.eps, self.swap, reduction=self.reduction
        )


class TripletMarginWithDistanceLoss(_Loss):
    """`TripletMarginLoss` with a distance function of two Tensors.

    Args:
        distance_function: Default: `PairwiseDistance`.
        margin: The margin, above 0.
        swap: Use d(positive, negative) in place of d(anchor, negative) where it is smaller.
        reduction: "mean", "sum" or "none".
    """

    def __init__(
        self, *, distance_function: Callable | None = None, margin: float = 1.0, swap: bool = False,
        reduction: str = "mean",
    ):  # fmt: skip
        super().__init__(reduction=reduction)
        if margin <= 0:
            raise OptionError(
                f"TripletMarginWithDistanceLoss: expected margin to be greater than 0, got {margin} instead"
            )
        self.distance_function: Any = PairwiseDistance() if distance_function is None else distance_function
        self.margin, self.swap = margin, swap

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:
        return F.triplet_margin_with_distance_loss(
            anchor, positive, negative, distance_function=self.distance_function, margin=self.margin, swap=self.swap,
            reduction=self.reduction,
        )  # fmt: skip
