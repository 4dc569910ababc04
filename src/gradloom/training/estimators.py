"""scikit-learn estimators over the training loop, for pipelines, `GridSearchCV` and the rest of scikit-learn."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import nn, ops, optim
from ..backends.registry import backend_class, get_backend, using_backend
from ..dtypes import dtype as to_dtype
from ..errors import DTypeError, MissingExtraError, OptionError, explain
from ..random import key
from ..tensor.creation import tensor
from ..tensor.grad_mode import no_grad
from .data import DataLoader, random_split, stratified_split
from .loops import TrainingLoop
from .selection import seeded

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
    from sklearn.utils import check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as missing:
    raise MissingExtraError(
        explain("the estimators need scikit-learn 1.6 or newer", do="pip install 'gradloom[tune]'")
    ) from missing

__all__ = ["GradloomClassifier", "GradloomRegressor"]

ROWS = 4096  # of a prediction at a time


class _Estimator(BaseEstimator):
    """What the two share."""

    def __init__(
        self,
        module: Any = None,
        *,
        optimizer: str = "Adam",
        learning_rate: float = 1e-3,
        optimizer_options: dict[str, Any] | None = None,
        loss: Callable | None = None,
        epochs: int = 100,
        batch_size: int = 32,
        validation_fraction: float = 0.0,
        callbacks: Sequence[Any] = (),
        metrics: Sequence[Any] = (),
        dtype: str | None = None,
        backend: Any = None,
        random_state: Any = None,
    ):
        self.module, self.loss = module, loss
        self.optimizer, self.learning_rate, self.optimizer_options = optimizer, learning_rate, optimizer_options
        self.epochs, self.batch_size, self.validation_fraction = epochs, batch_size, validation_fraction
        self.callbacks, self.metrics = callbacks, metrics
        self.dtype, self.backend, self.random_state = dtype, backend, random_state

    # --- fit

    def _fit(self, x: np.ndarray, targets: np.ndarray, outputs: int, loss: Callable) -> None:
        """Trains a new module with targets as the loss takes them."""
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        backend = get_backend(self.backend)
        self._engine, self._device, self._dtype = backend.name, backend.device, self._dtype_for(backend, x)
        self._outputs = outputs
        x = x.astype(self._dtype, copy=False)
        if targets.dtype.kind == "f":
            targets = targets.astype(self._dtype, copy=False)
        with self._on_engine(), seeded(seed):
            self.module_ = self._made()
            loop = TrainingLoop(
                self.module_, self._optimizer(), loss, metrics=copy.deepcopy(self.metrics),
                callbacks=copy.deepcopy(list(self.callbacks)),  # which will know the loop; ours can be cloned and pickled
            )  # fmt: skip
            train, validation = self._parts(x, targets, seed)
            history = loop.fit(
                DataLoader(train, self.batch_size, shuffle=True, seed=seed),
                None if validation is None else DataLoader(validation, self.batch_size),
                epochs=self.epochs,
            )
        if loop.interrupted:  # the loop has ended in order; a search around this one ends too
            raise KeyboardInterrupt
        self.module_.eval()
        self.history_ = dict(history)
        self.n_epochs_ = loop.epoch

    def _dtype_for(self, backend: Any, x: np.ndarray) -> str:
        if self.dtype is not None:
            return to_dtype(self.dtype).name
        try:
            backend.native_dtype(to_dtype(x.dtype))
        except DTypeError:  # JAX and MLX compute in float32
            return "float32"
        return x.dtype.name

    def _made(self) -> Any:
        """A new module, in the dtype of this estimator."""
        inputs, outputs = self.n_features_in_, self._outputs
        module = self.module
        if module is None or isinstance(module, (tuple, list)):
            made = mlp(inputs, (100,) if module is None else module, outputs)
        elif callable(module) and not isinstance(module, nn.Module):
            made = module(inputs, outputs)
        else:
            raise OptionError(
                explain(
                    "module says how a new module is made, as each fit begins with one",
                    expected="None, a tuple of hidden sizes, or a function of (features, outputs)",
                    given=type(module).__name__,
                )
            )
        return made.to(self._dtype)

    def _optimizer(self) -> Any:
        cls = getattr(optim, self.optimizer, None) if isinstance(self.optimizer, str) else self.optimizer
        if not callable(cls):
            raise OptionError(
                explain(
                    "there is no such optimizer",
                    expected="a name in gradloom.optim, or a class",
                    given=repr(self.optimizer),
                )
            )
        return cls(self.module_.parameters(), lr=self.learning_rate, **(self.optimizer_options or {}))

    def _parts(self, x: np.ndarray, targets: np.ndarray, seed: int) -> tuple[Any, Any]:
        share = self.validation_fraction
        if not 0 <= share < 1:
            raise OptionError(
                explain("validation_fraction is a share", expected="0 <= validation_fraction < 1", given=share)
            )
        if not share:
            return (x, targets), None
        lengths, stream = [1 - share, share], key(seed, "validation")
        if targets.dtype.kind != "f":
            train, validation = stratified_split(targets, lengths, data=(x, targets), seed=stream)
        else:
            train, validation = random_split((x, targets), lengths, seed=stream)
        return train, validation

    @contextlib.contextmanager
    def _on_engine(self) -> Iterator[None]:
        """The engine and dtype that it was fitted with."""
        with using_backend(backend_class(self._engine)(self._dtype, device=self._device)):
            yield

    # --- predict

    def _predict(self, x: Any) -> np.ndarray:
        """The module's outputs, (n, outputs) float64 or float32."""
        check_is_fitted(self)
        x = validate_data(self, x, reset=False, dtype=[np.float64, np.float32]).astype(self._dtype, copy=False)
        with self._on_engine(), no_grad():
            parts = [self.module_(tensor(x[i : i + ROWS])).numpy() for i in range(0, len(x), ROWS)]
        return np.concatenate(parts)

    # --- pickle: data instead of the module

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "module_" in state:
            state["module_"] = {n: np.array(v.numpy()) for n, v in self.module_.state_dict().items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "module_" in state:
            with self._on_engine(), seeded(0):
                self.module_ = self._made()
                self.module_.load_state_dict({n: tensor(v) for n, v in state["module_"].items()})
            self.module_.eval()


class GradloomClassifier(ClassifierMixin, _Estimator):
    """A classifier of scikit-learn, trained by `TrainingLoop`; a fit begins anew.

    It does not take `sample_weight`: with minibatches a weight of 2 is not the same as two samples.

    Args:
        module: None: a multi-layer perceptron with 100 hidden units; a tuple of hidden sizes; or a function of (features, outputs) that
            makes a module of (n, features) -> (n, classes) logits. To be pickled, it is at the top of a module.
        optimizer: A name in `gradloom.optim`, or a class.
        learning_rate, optimizer_options: Its options.
        loss: `loss(logits, classes)`. Default: the cross-entropy.
        epochs, batch_size: How long, and with how many samples an update.
        validation_fraction: Share that is validated with after each epoch, for callbacks such as `EarlyStopping`.
        callbacks, metrics: As for the loop; copies are used.
        dtype: Default: that of X, where the engine has it, else float32.
        backend: Name or instance. Default: the current one.
        random_state: Of initial parameters, masks and shuffles.

    Attributes:
        classes_: The classes, in the order of the columns of `predict_proba`.
        n_features_in_: Features.
        module_: The trained module.
        history_: {log: list of values}.
        n_epochs_: Epochs that were done.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> x, y = load_iris(return_X_y=True)
        >>> model = GradloomClassifier((16,), learning_rate=0.01, epochs=30, random_state=0)
        >>> bool(model.fit(x, y).score(x, y) > 0.9)
        True
    """

    classes_: np.ndarray

    def fit(self, X: Any, y: Any) -> GradloomClassifier:
        """Trains with X, (n, features), and the classes y, (n,), of any kind."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, targets = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        self._fit(X, targets.astype(np.int64), len(self.classes_), self.loss or nn.CrossEntropyLoss())
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, (n,)."""
        found = self._predict(X).argmax(1)
        return self.classes_[found]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The softmax of the module's outputs, (n, classes)."""
        return ops.softmax(self._predict(X), axis=1)


class GradloomRegressor(MultiOutputMixin, RegressorMixin, _Estimator):
    """A regressor of scikit-learn, trained by `TrainingLoop`; a fit begins anew.

    Targets are taken as they are; `sklearn.compose.TransformedTargetRegressor` brings them to a scale near 1. It does not take
    `sample_weight`: with minibatches a weight of 2 is not the same as two samples.

    Args:
        module: As for `GradloomClassifier`; the module gives (n, targets).
        loss: `loss(predictions, targets)`, both (n, targets). Default: the mean squared error.

    The others, and the attributes, are those of `GradloomClassifier`.

    Example:
        >>> x = np.linspace(-1, 1, 200)[:, None]
        >>> model = GradloomRegressor(epochs=50, learning_rate=0.01, random_state=0)
        >>> bool(model.fit(x, np.sin(3 * x[:, 0])).score(x, np.sin(3 * x[:, 0])) > 0.95)
        True
    """

    def fit(self, X: Any, y: Any) -> GradloomRegressor:
        """Trains with X, (n, features), and y, (n,) or (n, targets)."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True)
        self._flat = y.ndim == 1
        targets = (y[:, None] if self._flat else y).astype(np.float64, copy=False)
        self._fit(X, targets, targets.shape[1], self.loss or nn.MSELoss())
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predictions, (n,) or (n, targets) as y was."""
        found = self._predict(X)
        return found[:, 0] if self._flat else found


def mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Module:
    """Linear layers with ReLU between them."""
    sizes = [inputs, *hidden]
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))
