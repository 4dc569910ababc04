"""Averages of a model's parameters over training, with PyTorch's names: the plain average (SWA) and the moving one (EMA)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from .. import ops
from ..errors import ShapeError, explain
from ..graph.graph import PLACE
from ..nn.batchnorm import _BatchNorm
from ..nn.module import Module
from ..nn.utils import beside
from ..tensor.arrays import as_array, backend_name, wrap
from ..tensor.creation import tensor
from ..tensor.grad_mode import no_grad
from ..tensor.tensor import Tensor
from .lr_scheduler import SWALR

__all__ = [
    "AveragedModel", "SWALR", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn",
    "update_bn",
]  # fmt: skip


def _check_decay(decay: float) -> None:
    if decay < 0.0 or decay > 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable:
    """An in-place moving average for `AveragedModel(multi_avg_fn=)`: decay * average + (1 - decay) * current.

    Args:
        decay: What the average so far counts, from 0 to 1.

    Returns:
        A function of the averages, the current values (lists of Tensors of one dtype), and the number averaged so far.

    Raises:
        ValueError: Another decay.

    Example:
        >>> import gradloom as gl
        >>> averages = [gl.zeros(2)]
        >>> gl.optim.swa_utils.get_ema_multi_avg_fn(0.9)(averages, [gl.ones(2)], 1)
        >>> averages
        [tensor([0.1000, 0.1000])]
    """
    _check_decay(decay)

    @no_grad()
    def ema_update(ema_param_list: list, current_param_list: list, _: Any) -> None:
        for average, current in zip(ema_param_list, current_param_list, strict=True):
            if average.is_floating_point():
                average.lerp_(current, 1 - decay)
            else:
                average.copy_(average * decay + current * (1 - decay))

    return ema_update


def get_swa_multi_avg_fn() -> Callable:
    """An in-place average of all values alike, for `AveragedModel(multi_avg_fn=)`.

    With a Tensor as the number averaged the weight 1 / (n + 1) is of the default dtype, as in PyTorch.

    Returns:
        A function of the averages, the current values (lists of Tensors of one dtype), and the number averaged so far.

    Example:
        >>> import gradloom as gl
        >>> averages = [gl.zeros(2)]
        >>> gl.optim.swa_utils.get_swa_multi_avg_fn()(averages, [gl.ones(2)], 3)
        >>> averages
        [tensor([0.2500, 0.2500])]
    """

    @no_grad()
    def swa_update(averaged_param_list: list, current_param_list: list, num_averaged: Any) -> None:
        for average, current in zip(averaged_param_list, current_param_list, strict=True):
            if average.is_floating_point():
                average.lerp_(current, 1 / (num_averaged + 1))
            else:  # as `get_swa_avg_fn`; PyTorch's form for lists raises for integers
                average.copy_(average + (current - average) / (num_averaged + 1))

    return swa_update


def get_ema_avg_fn(decay: float = 0.999) -> Callable:
    """A moving average for `AveragedModel(avg_fn=)`: decay * average + (1 - decay) * current.

    Args:
        decay: What the average so far counts, from 0 to 1.

    Returns:
        A function of the average, the current value and the number averaged so far, which gives the new average.

    Raises:
        ValueError: Another decay.

    Example:
        >>> import gradloom as gl
        >>> gl.optim.swa_utils.get_ema_avg_fn(0.75)(gl.zeros(2), gl.ones(2), 1)
        tensor([0.2500, 0.2500])
    """
    _check_decay(decay)

    @no_grad()
    def ema_update(ema_param: Any, current_param: Any, num_averaged: Any) -> Any:
        return decay * ema_param + (1 - decay) * current_param

    return ema_update


def get_swa_avg_fn() -> Callable:
    """An average of all values alike, for `AveragedModel(avg_fn=)`; it is that one's default.

    Returns:
        A function of the average, the current value and the number averaged so far, which gives the new average.

    Example:
        >>> import gradloom as gl
        >>> gl.optim.swa_utils.get_swa_avg_fn()(gl.zeros(2), gl.ones(2), 3)
        tensor([0.2500, 0.2500])
    """

    @no_grad()
    def swa_update(averaged_param: Any, current_param: Any, num_averaged: Any) -> Any:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)

    return swa_update


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of the model's; `torch.optim.swa_utils.AveragedModel`.

    It starts as a copy of the model as it is now; the first `update_parameters` copies the parameters again, and each
    later one averages. Its `state_dict` is laid out as PyTorch's. `update_parameters` may be called in a function that
    `gradloom.jit` compiles; both the copy and the average are computed there, and the number averaged chooses.

    Args:
        model: The model.
        device: Where the averages are kept. Default: where the model is.
        avg_fn: A function of an average, the current value and the number averaged so far, which gives the new average.
        multi_avg_fn: One that changes a list of averages in place; the lists hold the Tensors of one dtype, backend and
            device. Default: the plain average.
        use_buffers: Average the buffers, too. Otherwise they are those of the model at the last update.

    Attributes:
        module: The copy.
        n_averaged: How many updates there were; 0-d, int64.

    Raises:
        AssertionError: Both functions are given.

    Source:
        P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018.

    Example:
        >>> import gradloom as gl
        >>> from gradloom.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
        >>> model = gl.nn.Linear(1, 1, bias=False)
        >>> average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        >>> for value in (1.0, 2.0):
        ...     with gl.no_grad():
        ...         _ = model.weight.fill_(value)
        ...     average.update_parameters(model)
        >>> average(gl.ones(1))
        tensor([1.1000], grad_fn=<linear>)
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Callable[[Any, Any, Any], Any] | None = None,
        multi_avg_fn: Callable[[list, list, Any], None] | None = None,
        use_buffers: bool = False,
    ):
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device=device)
        like = next((t for _, t in self.module.__jit_slots__()), None)
        count = tensor(0, dtype="int64", device=device if like is None else None)
        self.register_buffer("n_averaged", count if like is None else beside(count, like))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The copy's."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Takes the model's parameters into the averages.

        Args:
            model: The model, or one of its shape.

        Raises:
            ShapeError: It has other parameters or buffers; nothing is changed then.
        """
        params, buffers = _pairs(self.module, model, "parameters"), _pairs(self.module, model, "buffers")
        if self.use_buffers:
            params += buffers
        with no_grad():
            # The Tensors that functions are given have no history, and are no parameters: they hold the arrays.
            averages = [wrap(mine._array) for mine, _ in params]
            currents = [beside(wrap(other._array), mine) for mine, other in params]
            if PLACE.graph is not None:
                new = self._averaged(averages, currents)
                first = self.n_averaged == 0
                new = [ops.where(first, c, a) for c, a in zip(currents, new, strict=True)]
            else:
                new = currents if self.n_averaged.item() == 0 else self._averaged(averages, currents)
            for (mine, _), value in zip(params, new, strict=True):
                mine.copy_(value)
            if not self.use_buffers:
                for mine, other in buffers:
                    mine.copy_(beside(wrap(other._array), mine))
            self.n_averaged.add_(1)

    def _averaged(self, averages: list[Any], currents: list[Any]) -> list[Any]:
        """The new averages; those given may be changed."""
        count = wrap(self.n_averaged._array)
        if self.multi_avg_fn is None:
            fn = self.avg_fn or get_swa_avg_fn()
            return [fn(a, c, beside(count, a)) for a, c in zip(averages, currents, strict=True)]
        groups: dict[Any, list[int]] = {}
        for i, a in enumerate(averages):
            groups.setdefault((a.dtype, a.backend, a.device), []).append(i)
        for members in groups.values():
            self.multi_avg_fn(
                [averages[i] for i in members], [currents[i] for i in members], beside(count, averages[members[0]])
            )
        return averages


def _pairs(average: Module, model: Module, kind: str) -> list[tuple[Tensor, Tensor]]:
    """(the average's Tensor, the model's) of all parameters or buffers, by their order."""
    mine, other = (dict(getattr(m, f"named_{kind}")()) for m in (average, model))
    pairs = list(zip(mine.values(), other.values(), strict=False))
    if len(mine) != len(other) or any(tuple(a.shape) != tuple(b.shape) for a, b in pairs):
        shapes = [{name: list(t.shape) for name, t in found.items()} for found in (mine, other)]
        raise ShapeError(
            explain(
                f"AveragedModel.update_parameters: the model has other {kind} than the one that is averaged",
                expected=shapes[0],
                given=shapes[1],
                do="give it the model that AveragedModel was made of, or make a new AveragedModel",
            )
        )
    return pairs


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Computes the running statistics of a model's batch normalization anew, in one pass over data.

    All batches count the same. Afterwards momentum and training mode are as before, also when it raised; without batch
    normalization nothing is done. (PyTorch sets all modules to the training mode of the outermost one.)

    Args:
        loader: Batches: Tensors or arrays, or tuples and lists whose first element is one. Floats of arrays are cast
            to the dtype of the statistics.
        model: The model.
        device: Where batches are moved to.

    Example:
        >>> import gradloom as gl
        >>> model = gl.nn.Sequential(gl.nn.BatchNorm1d(1)).eval()
        >>> gl.optim.swa_utils.update_bn([gl.tensor([[1.0], [3.0]]), gl.tensor([[5.0], [7.0]])], model)
        >>> model[0].running_mean
        tensor([4.])
    """
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    if not layers:
        return
    for layer in layers:
        layer.reset_running_stats()
    momenta = [(layer, layer.momentum) for layer in layers]
    modes = [(m, m.training) for m in model.modules()]
    like = next((layer.running_mean for layer in layers if layer.running_mean is not None), None)
    try:
        model.train()
        for layer in layers:
            layer.momentum = None
        with no_grad():
            for batch in loader:
                x = batch[0] if isinstance(batch, (list, tuple)) else batch
                if not isinstance(x, Tensor) and hasattr(x, "shape"):
                    x = _made(x, like)
                model(x if device is None else x.to(device=device))
    finally:
        for layer, momentum in momenta:
            layer.momentum = momentum
        for module, mode in modes:
            module.training = mode


def _made(array: Any, like: Tensor | None) -> Tensor:
    """A Tensor of an array: beside the statistics, floats in their dtype."""
    if like is None:
        return tensor(array)
    x = wrap(as_array(array, None, "numpy", copy=False))
    wanted = like.dtype if x.is_floating_point() else None
    return wrap(as_array(array, wanted, backend_name(like), copy=True, device=like.device))
