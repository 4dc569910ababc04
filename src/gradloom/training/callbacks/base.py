"""What a callback is, and the list of them: eight events, called in the order in which callbacks were added."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ...errors import GradloomError, OptionError, explain

EVENTS = (
    "on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", "on_step_begin", "on_step_end",
    "on_validation_end", "on_exception",
)  # fmt: skip


class CallbackError(GradloomError, RuntimeError):
    """A callback raised; the message names it and the event, and the cause is what it raised."""


class Callback:
    """Base of the callbacks: override the events that you need; the others cost nothing.

    Epochs and steps count from 0; `logs` is a dict of plain numbers. `loop` is the training loop (None in a `CallbackList` of one's
    own), `model` and `optimizer` what is trained.

    Example:
        >>> from gradloom.training.callbacks import Callback, CallbackList
        >>> class Printer(Callback):
        ...     def on_epoch_end(self, epoch, logs):
        ...         print(epoch, logs["train_loss"])
        >>> CallbackList([Printer()]).on_epoch_end(0, {"train_loss": 0.5})
        0 0.5
    """

    owner: CallbackList | None = None
    order = 0  # callbacks of a higher one are told of an event after the others
    passes: tuple[type[Exception], ...] = ()  # what it raises on purpose: not wrapped in a CallbackError

    @property
    def loop(self) -> Any:
        """The training loop; None in a `CallbackList` of one's own."""
        return self.owner.loop if self.owner is not None else None

    @property
    def model(self) -> Any:
        """What is trained; None where it was not told."""
        return self.owner.model if self.owner is not None else None

    @property
    def optimizer(self) -> Any:
        """What updates it; None where it was not told."""
        return self.owner.optimizer if self.owner is not None else None

    def stop(self, reason: str = "") -> None:
        """Asks the loop to end after this step."""
        if self.owner is not None:
            self.owner.stop(reason)

    def on_train_begin(self) -> None:
        """Before the first epoch."""

    def on_train_end(self) -> None:
        """After the last one, also where training was stopped or failed."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """After an epoch and its validation."""

    def on_step_begin(self, step: int) -> None:
        """Before a training step."""

    def on_step_end(self, step: int, logs: Mapping[str, float]) -> None:
        """After it. Reading a log waits for the engine: do it now and then only."""

    def on_validation_end(self, step: int, logs: Mapping[str, float]) -> None:
        """After a validation."""

    def on_exception(self, error: BaseException) -> None:
        """When training ends by an error or Ctrl-C (KeyboardInterrupt), before it is raised."""

    def evaluation(self) -> contextlib.AbstractContextManager:
        """What is entered around each validation of the loop, to evaluate with other weights."""
        return contextlib.nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """What has to be saved for a run to go on as if it had not been cut: plain numbers, strings, lists, dicts and arrays."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""


class LambdaCallback(Callback):
    """A callback made of functions.

    Args:
        events: Functions by the names of events, with the events' arguments.

    Example:
        >>> from gradloom.training.callbacks import CallbackList, LambdaCallback
        >>> CallbackList([LambdaCallback(on_epoch_begin=lambda epoch: print("epoch", epoch))]).on_epoch_begin(3)
        epoch 3
    """

    def __init__(self, **events: Callable):
        for name, fn in events.items():
            if name not in EVENTS:
                raise OptionError(explain(f"there is no event '{name}'", expected=", ".join(EVENTS)))
            setattr(self, name, fn)
        self.events = tuple(events)


class CallbackList:
    """Callbacks that are told of events together; a training loop has one, and so may a loop of one's own.

    Args:
        callbacks: Them, or a list of them.
        model, optimizer: What is trained, for callbacks that save or change it.

    Attributes:
        should_stop: Whether one asked to stop.
        stop_reason: Why.

    Example:
        >>> from gradloom.training.callbacks import CallbackList, EarlyStopping
        >>> callbacks = CallbackList([EarlyStopping(patience=0)])
        >>> for epoch, loss in enumerate([2.0, 1.0, 3.0, 0.5]):
        ...     callbacks.on_epoch_begin(epoch)
        ...     callbacks.on_epoch_end(epoch, {"val_loss": loss})
        ...     if callbacks.should_stop:
        ...         break
        >>> epoch
        2
    """

    def __init__(self, callbacks: Iterable[Callback] = (), *, model: Any = None, optimizer: Any = None):
        self.loop: Any = None
        self._model, self._optimizer = model, optimizer
        self.should_stop, self.stop_reason = False, ""
        self.callbacks: list[Callback] = []
        self._listeners: dict[str, list[tuple[Callback, Callable]]] = {event: [] for event in EVENTS}
        for callback in callbacks:
            self.append(callback)

    @property
    def model(self) -> Any:
        """What is trained."""
        return self._model if self.loop is None else self.loop.model

    @property
    def optimizer(self) -> Any:
        """What updates it."""
        return self._optimizer if self.loop is None else self.loop.optimizer

    def append(self, callback: Callback) -> None:
        """Adds a callback."""
        if isinstance(callback, type) and issubclass(callback, Callback):
            callback = callback()
        if not isinstance(callback, Callback):
            raise OptionError(
                explain(
                    "that is no callback",
                    expected="an object of a subclass of gradloom.training.callbacks.Callback",
                    given=type(callback).__name__,
                    do="wrap functions in LambdaCallback(on_epoch_end=...)",
                )
            )
        callback.owner = self
        self.callbacks.append(callback)
        for event in EVENTS:
            if listens(callback, event):
                self._listeners[event].append((callback, getattr(callback, event)))
                self._listeners[event].sort(key=lambda pair: pair[0].order)  # stable: else as they were added

    def __iter__(self) -> Iterator[Callback]:
        return iter(self.callbacks)

    def __len__(self) -> int:
        return len(self.callbacks)

    def stop(self, reason: str = "") -> None:
        """Asks for training to end; what the loop looks at after each step."""
        self.should_stop, self.stop_reason = True, reason or self.stop_reason

    def hears(self, event: str) -> bool:
        """Whether a callback listens to the event."""
        return bool(self._listeners[event])

    def _tell(self, event: str, *args: Any) -> None:
        for callback, listener in self._listeners[event]:
            try:
                listener(*args)
            except Exception as error:
                if isinstance(error, callback.passes):
                    raise
                raise CallbackError(
                    explain(
                        f"the callback {type(callback).__name__} raised {type(error).__name__} in {event}: {error}",
                        do="see the traceback above",
                    )
                ) from error

    def on_train_begin(self) -> None:
        """Tells of the start."""
        self.should_stop, self.stop_reason = False, ""
        self._tell("on_train_begin")

    def on_train_end(self) -> None:
        """Tells of the end."""
        self._tell("on_train_end")

    def on_epoch_begin(self, epoch: int) -> None:
        """Tells of a new epoch."""
        self._tell("on_epoch_begin", epoch)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Tells of the end of an epoch."""
        self._tell("on_epoch_end", epoch, {} if logs is None else logs)

    def on_step_begin(self, step: int) -> None:
        """Tells of a step."""
        self._tell("on_step_begin", step)

    def on_step_end(self, step: int, logs: Mapping[str, float] | None = None) -> None:
        """Tells of the end of a step."""
        self._tell("on_step_end", step, {} if logs is None else logs)

    def on_validation_end(self, step: int, logs: Mapping[str, float] | None = None) -> None:
        """Tells of a validation."""
        self._tell("on_validation_end", step, {} if logs is None else logs)

    def on_exception(self, error: BaseException) -> None:
        """Tells of an error; all callbacks hear of it, also if one of them raises."""
        for callback, listener in self._listeners["on_exception"]:
            try:
                listener(error)
            except Exception as second:
                error.add_note(
                    f"and then the callback {type(callback).__name__} raised {type(second).__name__}: {second}"
                )

    @contextlib.contextmanager
    def evaluation(self) -> Iterator[None]:
        """Enters what callbacks want around a validation."""
        with contextlib.ExitStack() as stack:
            for callback in self.callbacks:
                stack.enter_context(callback.evaluation())
            yield

    def state_dict(self) -> dict[str, Any]:
        """{number and class of a callback: its state}."""
        states = {f"{i}.{type(c).__name__}": c.state_dict() for i, c in enumerate(self.callbacks)}
        return {k: v for k, v in states.items() if v}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over the states of the callbacks that are still there, by place and class."""
        for i, c in enumerate(self.callbacks):
            state = state_dict.get(f"{i}.{type(c).__name__}")
            if state is not None:
                c.load_state_dict(state)


def listens(callback: Callback, event: str) -> bool:
    """Whether a callback overrides an event."""
    own = getattr(callback, event)
    return getattr(own, "__func__", own) is not getattr(Callback, event)


def find_monitor(logs: Mapping[str, float], monitor: str, who: str) -> float | None:
    """The value of the log that a monitor names; it may be abbreviated where that is unambiguous (`val_acc`).

    Returns:
        None where validation logs are not there yet (validation every few epochs).

    Raises:
        OptionError: No log is called so, or several are.
    """
    if monitor in logs:
        return logs[monitor]
    near = [n for n in logs if n.startswith(monitor)]
    if len(near) == 1:
        return logs[near[0]]
    if not near and monitor.startswith("val_") and not any(n.startswith("val_") for n in logs):
        return None
    raise OptionError(
        explain(
            f"{who} monitors '{monitor}', which {'is ambiguous' if near else 'is not logged'}",
            expected=", ".join(near or logs),
            given=monitor,
            do="give one of these names as monitor=",
        )
    )
