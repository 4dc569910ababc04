"""Loggers of experiment trackers: Weights & Biases and MLflow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...errors import MissingExtraError, explain
from .loggers import Logger


class WandbLogger(Logger):
    """Logs to Weights & Biases, over `epoch`.

    A run that goes on from a checkpoint goes on in the same W&B run.

    Args:
        project, name: Of the run.
        config: Options to note, a dict.
        mode: "online", "offline" (files for `wandb sync`) or "disabled". Default: as W&B is set up.
        dir: The folder of its files.
        every_steps: Also log the running logs after every so many updates, as "step/<name>" over `step`.
        options: More arguments of `wandb.init`.

    Attributes:
        run: W&B's run.

    Raises:
        MissingExtraError: wandb is not installed.
    """

    errors = (Exception,)
    target = "Weights & Biases"

    def __init__(
        self,
        project: str | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        mode: Any = None,
        dir: Any = None,
        every_steps: int | None = None,
        **options: Any,
    ):
        super().__init__(every_steps)
        try:
            import wandb
        except ImportError as missing:
            raise MissingExtraError(explain("WandbLogger needs wandb", do="pip install 'gradloom[wandb]'")) from missing
        self._wandb = wandb
        self._options = {
            "project": project, "name": name, "config": None if config is None else dict(config), "mode": mode,
            "dir": None if dir is None else os.fspath(dir), **options,
        }  # fmt: skip
        self.run: Any = None
        self._id: str | None = None
        self._failed = False

    def on_train_begin(self) -> None:
        """Starts the run; an error of it, such as a missing login, is raised."""
        super().on_train_begin()
        self._failed = False
        self._start()

    def _start(self) -> None:
        more = {} if self._id is None else {"id": self._id, "resume": "allow"}
        self.run = self._wandb.init(**{**self._options, **more})
        self._id = self.run.id
        self.run.define_metric("epoch")
        self.run.define_metric("step")
        self.run.define_metric("step/*", step_metric="step")
        self.run.define_metric("*", step_metric="epoch")

    def open(self, epoch: int, step: int) -> None:
        """Starts the run, where training did not say that it began."""
        if self.run is None:
            self._start()

    def log(self, kind: str, at: int, logs: dict[str, Any]) -> None:
        """Logs."""
        prefix = "step/" if kind == "step" else ""
        self.run.log({kind: at, **{prefix + n: v for n, v in logs.items()}})

    def on_exception(self, error: BaseException) -> None:
        """Marks the run as failed."""
        self._failed = not isinstance(error, KeyboardInterrupt)

    def on_train_end(self) -> None:
        """Ends the run."""
        self._open = False
        run, self.run = self.run, None
        if run is not None:
            self._safely(lambda: run.finish(exit_code=int(self._failed)))

    def state_dict(self) -> dict[str, Any]:
        """The run's id."""
        return {} if self._id is None else {"id": self._id}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes on in that run."""
        self._id = state_dict.get("id")


class MLflowLogger(Logger):
    """Logs to MLflow: metrics over epochs.

    A run that goes on from a checkpoint goes on in the same MLflow run. MLflow's global state is left alone.

    Args:
        experiment, name: Of the run; the experiment is made if there is none.
        tracking_uri: A server, a database, or a folder. Default: as MLflow is set up.
        params: Options to note, a dict.
        every_steps: Also log the running logs after every so many updates, as "step/<name>" over updates.

    Attributes:
        run_id: MLflow's run, or None before it started.

    Raises:
        MissingExtraError: mlflow is not installed.
    """

    errors = (Exception,)
    target = "MLflow"

    def __init__(
        self,
        experiment: str = "Default",
        name: str | None = None,
        tracking_uri: Any = None,
        params: Mapping[str, Any] | None = None,
        every_steps: int | None = None,
    ):
        super().__init__(every_steps)
        try:
            from mlflow import MlflowClient
        except ImportError as missing:
            raise MissingExtraError(
                explain("MLflowLogger needs mlflow", do="pip install 'gradloom[mlflow]'")
            ) from missing
        self._client = MlflowClient(tracking_uri=None if tracking_uri is None else os.fspath(tracking_uri))
        self.experiment, self.name, self.params = experiment, name, dict(params or {})
        self.run_id: str | None = None
        self._running = False
        self._status = "FINISHED"

    def on_train_begin(self) -> None:
        """Starts the run; an error of it, such as a server that is not there, is raised."""
        super().on_train_begin()
        self._status = "FINISHED"
        self._start()

    def _start(self) -> None:
        client = self._client
        if self.run_id is None:
            found = client.get_experiment_by_name(self.experiment)
            experiment = client.create_experiment(self.experiment) if found is None else found.experiment_id
            self.run_id = client.create_run(experiment, run_name=self.name).info.run_id
            for key, value in self.params.items():
                client.log_param(self.run_id, key, value)
        else:
            client.update_run(self.run_id, status="RUNNING")
        self._running = True

    def open(self, epoch: int, step: int) -> None:
        """Starts the run, where training did not say that it began."""
        if not self._running:
            self._start()

    def log(self, kind: str, at: int, logs: dict[str, Any]) -> None:
        """Logs what is a single number."""
        prefix = "step/" if kind == "step" else ""
        for name, value in logs.items():
            if isinstance(value, (int, float)):
                self._client.log_metric(self.run_id, prefix + name, value, step=at)

    def on_exception(self, error: BaseException) -> None:
        """Marks the run as failed or killed."""
        self._status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"

    def on_train_end(self) -> None:
        """Ends the run."""
        self._open = False
        if self._running:
            self._running = False
            self._safely(lambda: self._client.set_terminated(self.run_id, status=self._status))

    def state_dict(self) -> dict[str, Any]:
        """The run's id."""
        return {} if self.run_id is None else {"run_id": self.run_id}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes on in that run."""
        self.run_id = state_dict.get("run_id")
