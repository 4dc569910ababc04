"""The training loop: epochs, steps, validation, metrics, callbacks; readable on one screen in `TrainingLoop._epochs`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from .. import tree
from ..errors import OptionError, explain
from ..nn.module import Module
from ..optim.bound import Optimizer
from ..optim.lr_scheduler import ReduceLROnPlateau
from ..optim.wrapped import Bound
from ..tensor.creation import default_generator
from ..tensor.functions import cat
from ..tensor.grad_mode import no_grad
from ..tensor.tensor import Tensor
from . import step as steps_of
from .callbacks.base import Callback, CallbackList, find_monitor
from .data import batches_of, unpack
from .history import History
from .step import Compiled, as_tensors, clipping, compute_loss, forward, train_step
from .support import batches_in, check_counts, describe, evaluating, interruptible, to_module
from .tracking import Tracker, paired


class TrainingLoop:
    """Trains a model: `fit`, `evaluate`, `predict`.

    Args:
        model: A module; a composed model, compiled or not, which becomes a module when the first batch tells its shapes.
        optimizer: With PyTorch's face, of the model's parameters; or a functional one.
        loss_fn: `loss_fn(outputs, targets)` gives the mean over the batch. Without it the model gives its loss.
        scheduler: Steps after each epoch (`LRSchedulerCallback` for other times).
        metrics: Metrics, or their classes: each serves training and validation; or a training pair and a validation pair, as in
            [LossTracker(), Accuracy(), LossTracker(), Accuracy()].
        callbacks: A list, or a `CallbackList`.
        compile: Compile the step with `gradloom.jit`; False runs it line by line.
        accumulate: Micro-batches (batches of the data) for one update; equal to the big batch.
        clip_norm, clip_value: Limits for the gradients' norm, or for each element.
        train_step: Another step, `train_step(model, optimizer, loss_fn, inputs, targets) -> (loss, outputs)`.

    Attributes:
        epoch, step: Epochs and updates that were done.
        history: The logs of each epoch.
        epochs, batches: How many `fit` is to reach, and how many an epoch has; None where that is not known.
        last_batch: The inputs and targets of the step that is being done, for callbacks.

    Example:
        >>> import gradloom as gl
        >>> from gradloom.training import TrainingLoop
        >>> generator = gl.manual_seed(0)
        >>> x = gl.randn(64, 3)
        >>> y = x @ gl.tensor([[1.0], [2.0], [3.0]])
        >>> model = gl.nn.Linear(3, 1)
        >>> loop = TrainingLoop(model, gl.optim.Adam(model.parameters(), lr=0.1), loss_fn=gl.nn.MSELoss())
        >>> history = loop.fit([(x, y)], epochs=100)
        >>> history["train_loss"][-1] < 0.05
        True
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        loss_fn: Any = None,
        *,
        scheduler: Any = None,
        metrics: Iterable = (),
        callbacks: Iterable[Callback] = (),
        compile: bool = True,
        accumulate: int = 1,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        train_step: Any = train_step,
    ):
        check_counts(accumulate=accumulate)
        if clip_norm is not None and clip_value is not None:
            raise OptionError(explain("clip_norm and clip_value exclude each other", do="give one of them"))
        if accumulate > 1 and train_step is not globals()["train_step"]:
            raise OptionError(
                explain(
                    "accumulate parts the step in two, so it goes with gradloom's own", do="accumulate in your step"
                )
            )
        self.model, self.optimizer, self.loss_fn, self.scheduler = model, optimizer, loss_fn, scheduler
        self.callbacks = callbacks if isinstance(callbacks, CallbackList) else CallbackList(callbacks)
        self.callbacks.loop = self
        self.compile, self.accumulate = compile, int(accumulate)
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self._own_step = train_step
        self._metrics = paired(metrics)
        self.history = History()
        self.epoch = self.step = 0
        self.epochs: int | None = None
        self.batches: int | None = None
        self.last_batch: tuple[Any, Any] | None = None
        self.interrupted = False
        self._batches: Any = None  # of the epoch that is going on
        self._data: Any = None  # what they are of
        self._data_state: Any = None  # where in an epoch to begin
        self._in_epoch = False  # whether an epoch was begun, by this run or the one that was saved
        self._loaded: dict[str, Any] | None = None  # for when the model is known
        self._waiting: list[Tensor] = []  # weights of the micro-batches since the last update
        self._ready = False

    def add_callback(self, callback: Callback) -> None:
        """Adds a callback."""
        self.callbacks.append(callback)

    def stop(self, reason: str = "") -> None:
        """Ends `fit` after this step: the epoch's logs are written, and callbacks hear of the end."""
        self.callbacks.stop(reason)

    # --- fit

    def fit(
        self,
        train_data: Any,
        val_data: Any = None,
        epochs: int | None = None,
        *,
        steps: int | None = None,
        validate_every: int = 1,
        validate_every_steps: int | None = None,
        limit: int | None = None,
        sanity: bool = False,
    ) -> History:
        """Trains until `epochs` epochs or `steps` updates are done, those of earlier calls or of a loaded run included.

        Args:
            train_data: Batches: a `DataLoader`, one of PyTorch, a dataset of Hugging Face, any iterable that can be read again;
                batches are (inputs, targets), dicts, or objects with `inputs` and `targets`.
            val_data: The same, for validation.
            epochs, steps: When to end; without both after one epoch.
            validate_every: Validate after every so many epochs.
            validate_every_steps: Validate after every so many updates, too.
            limit: Batches of each epoch at most, for quick runs; of validation, too.
            sanity: First run one batch of each, without an update, and print the shapes.

        Returns:
            The history: `history["val_loss"]` is a list, one value for each epoch.

        Raises:
            OptionError: No batches.
            CallbackError: A callback raised; `on_exception` of the others was called.
        """
        check_counts(
            epochs=epochs,
            steps=steps,
            validate_every=validate_every,
            validate_every_steps=validate_every_steps,
            limit=limit,
        )
        target = self.epoch + 1 if epochs is None and steps is None else epochs
        if sanity:
            print(self.sanity_check(train_data, val_data))
        self.interrupted, self.epochs = False, target
        with interruptible(self._interrupt):
            self.callbacks.on_train_begin()
            try:
                self._epochs(train_data, val_data, target, steps, validate_every, validate_every_steps, limit)
            except BaseException as error:
                self.callbacks.on_exception(error)
                raise
            finally:
                self.callbacks.on_train_end()
        return self.history

    def _epochs(
        self, train_data: Any, val_data: Any, epochs: Any, steps: Any, every: int, every_steps: Any, limit: Any
    ) -> None:
        while (epochs is None or self.epoch < epochs) and (steps is None or self.step < steps):
            self.callbacks.on_epoch_begin(self.epoch)
            self._train_epoch(train_data, val_data, steps, every_steps, limit)
            if self.interrupted:  # in mid-epoch: what is saved now goes on with the next batch
                self.callbacks.on_exception(KeyboardInterrupt(self.callbacks.stop_reason))
                break
            logs = self.train_tracker.compute()
            if val_data is not None and (self.epoch + 1) % every == 0:
                found = self._validate(val_data, limit)
                logs.update({} if self.interrupted else found)
            logs["lr"] = float(self.optimizer.param_groups[0]["lr"])
            self.history.append(self.epoch, logs)
            self._schedule(logs)
            self.epoch += 1  # before callbacks hear of it, so that what they save begins with the next epoch
            self._in_epoch = False
            self.callbacks.on_epoch_end(self.epoch - 1, logs)
            if self.interrupted:
                self.callbacks.on_exception(KeyboardInterrupt(self.callbacks.stop_reason))
            if self.callbacks.should_stop:
                break

    def _train_epoch(self, train_data: Any, val_data: Any, steps: Any, every_steps: Any, limit: Any) -> None:
        callbacks = self.callbacks
        begins, ends = callbacks.hears("on_step_begin"), callbacks.hears("on_step_end")
        resumed = self._position(train_data)
        self._batches = batches_of(train_data, resumed)
        self.batches = batches_in(self._batches, limit)
        before = count = 0 if resumed is None else resumed["batch"]
        for batch in () if count == limit else self._batches:
            inputs, targets = self.last_batch = self._taken(batch)
            if count == before:
                self._begin_epoch()
            if begins:
                callbacks.on_step_begin(self.step)
            updated = self._train_batch(inputs, targets)
            count += 1
            self.step += updated
            if ends:
                callbacks.on_step_end(self.step - 1, self.train_tracker)
            if every_steps and updated and self.step % every_steps == 0 and val_data is not None:
                self._validate(val_data, limit)
            if callbacks.should_stop or count == limit or (steps is not None and self.step >= steps):
                break
        self.last_batch = None
        if not count:
            raise OptionError(explain("the training data gave no batches", do="give data with at least one batch"))
        if not self._ready:  # the run was cut after the last batch of an epoch, and what is left of it is to validate
            self._peek(train_data)
        if not self.interrupted and self._finish_update():  # of fewer micro-batches than the others
            self.step += 1
            if ends:
                callbacks.on_step_end(self.step - 1, self.train_tracker)

    def _position(self, data: Any) -> dict[str, Any] | None:
        """Where in its data an epoch goes on that was cut: by Ctrl-C or an error, or when the loaded state was saved."""
        position, self._data_state = self._data_state, None
        if position is None and self._in_epoch and data is self._data:
            position = self._batches.state_dict()
        elif position is None:
            self._in_epoch = False
        self._data = data
        return position

    def _begin_epoch(self) -> None:
        if not self.model.training:  # else parts that are kept in eval mode stay in it
            self.model.train()
        if not self._in_epoch:
            self.train_tracker.reset()
            if self._waiting:
                self._waiting = []
                self.optimizer.zero_grad()
        self._in_epoch = True

    def _peek(self, data: Any) -> None:
        """Prepares with a batch, and leaves the data where it is."""
        batches = batches_of(data)
        position = batches.state_dict()
        self._taken(next(iter(batches)))
        batches.load_state_dict(position)

    # --- one batch

    def _taken(self, batch: Any) -> tuple[Any, Any]:
        """Inputs and targets as Tensors."""
        inputs, targets = unpack(batch)
        inputs, targets = as_tensors(inputs), as_tensors(targets)
        if not self._ready:
            self._prepare(inputs)
        return inputs, targets

    def _train_batch(self, inputs: Any, targets: Any) -> bool:
        """One batch; whether the parameters were updated."""
        seen, weight = self._train(inputs, targets)
        self.train_tracker.take(seen, targets)
        if self.accumulate > 1:
            self._waiting.append(weight)
            return len(self._waiting) == self.accumulate and self._finish_update()
        return True

    def _finish_update(self) -> bool:
        """The update with the gradients that were accumulated; whether there were any."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._update(tuple(waiting), None)
        return bool(waiting)

    # --- preparation: what the first batch tells

    def _prepare(self, inputs: Any) -> None:
        if not isinstance(self.model, Module):
            self.model = to_module(self.model, inputs)
        if getattr(self.optimizer, "functional", False):
            self.optimizer = Bound(self.model.named_parameters(), self.optimizer)
        elif not isinstance(self.optimizer, Optimizer):
            raise OptionError(
                explain(
                    "that is no optimizer",
                    expected="one of gradloom.optim or gradloom.training.optimizers",
                    given=type(self.optimizer).__name__,
                )
            )
        self.train_tracker = Tracker("train", self._metrics[0])
        self.val_tracker = Tracker("val", self._metrics[1])
        self._compile_step()
        self._eval = Compiled(steps_of.evaluation_steps(self.model, self.loss_fn, self.val_tracker), self.compile)
        self._predict = Compiled(steps_of.prediction_steps(self.model), self.compile)
        self._ready = True
        self._restore()

    def set_accumulate(self, count: int) -> None:
        """Changes how many micro-batches make an update; between epochs."""
        check_counts(accumulate=count)
        before, self.accumulate = self.accumulate, int(count)
        if self._ready and (before > 1) != (count > 1):
            self.optimizer.zero_grad()  # those of the other step, which did not keep them
            self._compile_step()

    def _compile_step(self) -> None:
        parts = self.accumulate > 1
        clip = clipping(self.clip_norm, self.clip_value)
        trained = self.model, self.optimizer, self.loss_fn, self.train_tracker
        step = steps_of.micro_steps(*trained) if parts else steps_of.training_steps(*trained, self._own_step, clip)
        self._train = Compiled(step, self.compile, keep_grads=parts)
        self._update = Compiled(steps_of.updates(self.model, self.optimizer, clip), self.compile)

    @property
    def source(self) -> str:
        """The compiled training step, as text."""
        return self._train.source

    # --- evaluation

    def evaluate(self, data: Any, *, limit: int | None = None) -> dict[str, float]:
        """Loss and metrics of data, `{"val_loss": ...}`; the model is in eval mode, and in its old mode afterwards."""
        return self._validate(data, limit, tell=False)

    def _validate(self, data: Any, limit: int | None, tell: bool = True) -> dict[str, float]:
        count = 0
        with no_grad(), contextlib.ExitStack() as stack:
            if tell:
                stack.enter_context(self.callbacks.evaluation())
            for batch in batches_of(data):
                inputs, targets = self._taken(batch)
                if not count:
                    stack.enter_context(evaluating(self.model))
                    self.val_tracker.reset()
                self.val_tracker.take(self._eval(inputs, targets), targets)
                count += 1
                if count == limit or self.interrupted:
                    break
        if not count:
            raise OptionError(explain("the validation data gave no batches", do="give data with at least one batch"))
        logs = self.val_tracker.compute()
        if tell:
            self.callbacks.on_validation_end(self.step, logs)
        return logs

    def predict(self, data: Any, *, limit: int | None = None) -> Any:
        """The model's outputs for all data, in one Tensor (or in a dict of Tensors), in eval mode.

        Args:
            data: Batches as in `fit`; targets are left out.
        """
        parts: list[Any] = []
        with no_grad(), contextlib.ExitStack() as stack:
            for batch in batches_of(data):
                inputs, _ = self._taken(batch)
                if not parts:
                    stack.enter_context(evaluating(self.model))
                parts.append(self._predict(inputs, None))
                if len(parts) == limit:
                    break
        if not parts:
            raise OptionError(explain("there is nothing to predict: the data gave no batches"))
        return tree.map(lambda *xs: cat(xs), *parts)

    def sanity_check(self, train_data: Any, val_data: Any = None) -> str:
        """Runs the model on one batch of each without an update, eagerly; a report of shapes, dtypes and the first loss."""
        lines = []
        for name, data in (("train", train_data), ("val", val_data)):
            if data is None:
                continue
            batch = next(iter(batches_of(data)), None)
            if batch is None:
                raise OptionError(explain(f"the {name} data gave no batches", do="give data with at least one batch"))
            inputs, targets = self._taken(batch)
            with no_grad(), evaluating(self.model):
                outputs = forward(self.model, inputs)
                loss = compute_loss(self.loss_fn, outputs, targets)
            shown = [("inputs", inputs), ("targets", targets), ("outputs", outputs), ("loss", loss)]
            lines += [f"{name}: " + ", ".join(f"{k} {describe(v)}" for k, v in shown) + f" = {loss.item():.4g}"]
        return "\n".join(lines)

    # --- schedules, interruptions

    def _schedule(self, logs: Mapping[str, float]) -> None:
        scheduler = self.scheduler
        if scheduler is None:
            return
        if isinstance(scheduler, ReduceLROnPlateau):
            value = find_monitor(logs, "val_loss", "the scheduler")
            scheduler.step(logs["train_loss"] if value is None else value)
        else:
            scheduler.step()

    def _interrupt(self) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        self.stop("interrupted by Ctrl-C")

    # --- state

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on: model, optimizer, scheduler, callbacks, history, where in the data it is, random streams."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history.state_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "callbacks": self.callbacks.state_dict(),
            "data": self._batches.state_dict() if hasattr(self._batches, "state_dict") else None,
            "generator": default_generator.get_state(),
            "tracker": self.train_tracker.state_dict() if self._in_epoch else None,
            "accumulated": self._accumulated() if self._waiting else None,
        }

    def _accumulated(self) -> dict[str, Any]:
        """The micro-batches since the last update: their gradients and weights."""
        grads = {n: p.grad for n, p in self.model.named_parameters() if p.grad is not None}
        return {"grads": grads, "weights": list(self._waiting)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave; a model whose shapes are not known yet takes it at the first batch."""
        state = dict(state_dict)
        self.epoch, self.step = state["epoch"], state["step"]
        self.history.load_state_dict(state["history"])
        self.callbacks.load_state_dict(state["callbacks"])
        self._data_state = state["data"]
        self._in_epoch = state["tracker"] is not None
        if self.scheduler is not None and state["scheduler"] is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self._loaded = {n: state[n] for n in ("model", "optimizer", "tracker", "accumulated", "generator")}
        self._restore()

    def _restore(self) -> None:
        """The part that needs the model, as far as it is known; the rest when it is."""
        state = self._loaded or {}
        if "model" in state and isinstance(self.model, Module):
            self.model.load_state_dict(state.pop("model"))
            default_generator.set_state(state["generator"])  # also where the model was made, and drawn, just now
        if "optimizer" in state and isinstance(self.optimizer, Optimizer):
            self.optimizer.load_state_dict(state.pop("optimizer"))
        if self._ready and state:
            self._loaded = None
            if state["tracker"] is not None:
                self.train_tracker.load_state_dict(state["tracker"])
            if state["accumulated"] is not None:
                self._waiting = [as_tensors(w) for w in state["accumulated"]["weights"]]
                for name, p in self.model.named_parameters():
                    g = state["accumulated"]["grads"].get(name)
                    p.grad = None if g is None else as_tensors(g)


#: Guide 004's names of the loop.
BasicTrainingLoop = ValidationTrainingLoop = TrainingLoop
