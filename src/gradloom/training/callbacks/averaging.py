"""Averages of the parameters over training, and validation with them."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import OptionError, explain
from ...graph.jit import jit
from ...nn.batchnorm import _BatchNorm
from ...nn.module import Module
from ...optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from ...tensor.grad_mode import no_grad
from ..data import batches_of, unpack
from ..step import as_tensors
from .base import Callback
from .monitor import Updates
from .replay import tensors_of


class Averaging(Callback):
    """Base of the callbacks that keep an `AveragedModel`.

    Attributes:
        averaged: It; None before the first average.
    """

    averaged: AveragedModel | None = None
    _loaded: Mapping[str, Any] | None = None
    _evaluates = True

    def _made(self) -> AveragedModel:
        raise NotImplementedError

    def _average(self) -> AveragedModel:
        """The averages, made when they are first needed, with what was loaded."""
        if self.averaged is None:
            if not isinstance(self.model, Module):
                raise OptionError(
                    explain(
                        f"{type(self).__name__} needs the model",
                        expected="a gradloom.nn.Module",
                        given=type(self.model).__name__,
                        do="give it to the list: CallbackList([...], model=model)",
                    )
                )
            self.averaged = self._made()
            if self._loaded is not None:
                self.averaged.load_state_dict(self._loaded)
                self._loaded = None
        return self.averaged

    def evaluation(self) -> contextlib.AbstractContextManager:
        """The loop's validation is of the averages, from when there are any."""
        known = self.averaged is not None or self._loaded is not None
        return self.applied() if known and self._evaluates else contextlib.nullcontext()

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model with the averaged parameters inside of the block; afterwards it is as before, bit for bit."""
        model = self.model
        average = self._average()
        with no_grad():
            before = [t.clone() for t in tensors_of(model)]
            for mine, other in zip(tensors_of(model), tensors_of(average.module), strict=True):
                mine.copy_(other)
        try:
            yield
        finally:
            with no_grad():
                for mine, other in zip(tensors_of(model), before, strict=True):
                    mine.copy_(other)

    def copy_to_model(self) -> None:
        """Gives the model the averaged parameters, for good."""
        average = self._average()
        with no_grad():
            for mine, other in zip(tensors_of(self.model), tensors_of(average.module), strict=True):
                mine.copy_(other)

    def state_dict(self) -> dict[str, Any]:
        """The averages."""
        if self.averaged is None:
            return {} if self._loaded is None else {"averaged": dict(self._loaded)}
        return {"averaged": self.averaged.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        if "averaged" in state_dict:
            self.averaged, self._loaded = None, state_dict["averaged"]


class EMACallback(Averaging):
    """Keeps an exponential moving average of the parameters, and validates with it.

    Args:
        decay: What the average so far counts at each update.
        every: Updates between two averages.
        start: Updates before the first one.
        evaluate: Validate with the averages.
        copy_at_end: Give the model the averages when training ends.

    Source:
        `gradloom.optim.swa_utils.AveragedModel`, whose numbers are PyTorch's.

    Example:
        >>> import gradloom as gl
        >>> from gradloom.training.callbacks import CallbackList, EMACallback
        >>> model = gl.nn.Linear(1, 1, bias=False)
        >>> ema = EMACallback(decay=0.9)
        >>> callbacks = CallbackList([ema], model=model)
        >>> for step in range(2):
        ...     with gl.no_grad():
        ...         _ = model.weight.fill_(step + 1.0)
        ...     callbacks.on_step_end(step)
        >>> with ema.applied():
        ...     print(model.weight.item())
        1.100000023841858
        >>> model.weight.item()
        2.0
    """

    def __init__(
        self, decay: float = 0.999, *, every: int = 1, start: int = 0, evaluate: bool = True, copy_at_end: bool = False
    ):
        if not 0 <= decay <= 1:
            raise OptionError(explain("EMACallback: decay", expected="0 to 1", given=decay))
        if start < 0:
            raise OptionError(explain("EMACallback: start counts updates", expected="0 or more", given=start))
        self._updates = Updates(every, "EMACallback", "every")
        self.decay, self.every, self.start, self.copy_at_end = decay, every, start, copy_at_end
        self._evaluates = evaluate
        self._update: Any = None

    def _made(self) -> AveragedModel:
        return AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(self.decay))

    def on_train_begin(self) -> None:
        """Begins to count."""
        self._updates.start(self.loop)

    def on_step_end(self, step: int, logs: Mapping[str, float]) -> None:
        """Averages."""
        if not self._updates.due(step, self.loop) or step < self.start:
            return
        if self._update is None:
            average, model = self._average(), self.model

            def ema_update() -> None:
                average.update_parameters(model)

            self._update = jit(ema_update) if self.loop is not None and self.loop.compile else ema_update
        self._update()

    def on_train_end(self) -> None:
        """Gives the model the averages, if asked to."""
        if self.copy_at_end and (self.averaged is not None or self._loaded is not None):
            self.copy_to_model()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._update = None


class SWACallback(Averaging):
    """Averages the parameters at the end of each of the last epochs, with a constant rate there (stochastic weight averaging).

    Args:
        start: The first epoch that is averaged; a fraction below 1 is one of the epochs that `fit` is to reach.
        lr: The rate of these epochs; None leaves the rate to the scheduler.
        anneal_epochs: Epochs in which the rate goes from where it was to `lr`.
        anneal: "cos" or "linear".
        data: Batches for the averages' batch normalization, which is computed anew at the end.
        evaluate: Validate with the averages.
        copy_at_end: Give the model the averages when training ends.

    Source:
        P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018; the rate as
        `torch.optim.swa_utils.SWALR`.

    Example:
        >>> import gradloom as gl
        >>> from gradloom.training.callbacks import CallbackList, SWACallback
        >>> model = gl.nn.Linear(1, 1, bias=False)
        >>> swa = SWACallback(start=1)
        >>> callbacks = CallbackList([swa], model=model)
        >>> for epoch in range(3):
        ...     with gl.no_grad():
        ...         _ = model.weight.fill_(epoch)
        ...     callbacks.on_epoch_end(epoch)
        >>> swa.averaged.module.weight.item()
        1.5
    """

    def __init__(
        self,
        start: float = 0.75,
        lr: float | None = None,
        *,
        anneal_epochs: int = 10,
        anneal: str = "cos",
        data: Any = None,
        evaluate: bool = True,
        copy_at_end: bool = True,
    ):
        if start < 0 or (start >= 1 and start != int(start)):
            raise OptionError(
                explain("SWACallback: start", expected="an epoch, or a fraction below 1 of the epochs", given=start)
            )
        if anneal not in ("cos", "linear"):
            raise OptionError(explain("SWACallback: anneal", expected="'cos' or 'linear'", given=repr(anneal)))
        if (lr is not None and lr < 0) or anneal_epochs < 0:
            raise OptionError(
                explain("SWACallback: lr and anneal_epochs", expected="0 or more", given=f"{lr}, {anneal_epochs}")
            )
        self.start, self.lr, self.anneal_epochs, self.anneal, self.data = start, lr, anneal_epochs, anneal, data
        self.copy_at_end, self._evaluates = copy_at_end, evaluate
        self._rates: list[float] | None = None  # of the groups, before the first epoch that is averaged

    def _made(self) -> AveragedModel:
        return AveragedModel(self.model)

    def first(self) -> int:
        """The first epoch that is averaged."""
        if self.start >= 1 or self.start == 0:
            return int(self.start)
        epochs = getattr(self.loop, "epochs", None)
        if epochs is None:
            raise OptionError(
                explain("SWACallback: a fraction of how many epochs?", given=f"start={self.start}", do="give the epoch")
            )
        return int(self.start * epochs)

    def on_epoch_begin(self, epoch: int) -> None:
        """Sets the rate."""
        t = epoch - self.first() + 1
        if self.lr is None or t < 1:
            return
        groups = self.optimizer.param_groups
        if self._rates is None:
            self._rates = [float(g["lr"]) for g in groups]
        done = 1.0 if not self.anneal_epochs else min(1.0, (t - 1) / self.anneal_epochs)
        part = (1 - math.cos(math.pi * done)) / 2 if self.anneal == "cos" else done
        for group, before in zip(groups, self._rates, strict=True):
            group["lr"] = self.lr * part + before * (1 - part)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Averages."""
        if epoch >= self.first():
            self._average().update_parameters(self.model)

    def on_train_end(self) -> None:
        """Computes batch normalization anew, and gives the model the averages."""
        if self.averaged is None and self._loaded is None:
            return
        average = self._average()
        if self.data is not None:
            update_bn((as_tensors(unpack(batch)[0]) for batch in batches_of(self.data)), average.module)
        elif any(isinstance(m, _BatchNorm) for m in average.module.modules()):
            warnings.warn(
                explain(
                    "SWACallback: the batch normalization of the averaged model has the statistics of the last epoch's",
                    do="give it training data to compute them anew: SWACallback(data=train_data)",
                ),
                stacklevel=2,
            )
        if self.copy_at_end:
            self.copy_to_model()

    def state_dict(self) -> dict[str, Any]:
        """The averages, and the rates from before."""
        return {**super().state_dict(), "rates": self._rates}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._rates = state_dict["rates"]
