"""Training: the loop, metrics, callbacks, data; losses, functional optimizers and schedulers; model selection."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from . import callbacks, data, losses, metrics, optimizers, schedulers
from .history import History
from .loops import BasicTrainingLoop, TrainingLoop
from .selection import cross_validate, grid_search, random_search

if TYPE_CHECKING:
    from .estimators import GradloomClassifier, GradloomRegressor
    from .tuning import PruningCallback, optuna_search

__all__ = [
    "BasicTrainingLoop", "GradloomClassifier", "GradloomRegressor", "History", "PruningCallback", "TrainingLoop",
    "callbacks", "cross_validate", "data", "grid_search", "losses", "metrics", "optimizers", "optuna_search",
    "random_search", "schedulers",
]  # fmt: skip

_LATER = {
    "GradloomClassifier": "estimators", "GradloomRegressor": "estimators", "PruningCallback": "tuning", "optuna_search": "tuning",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """What needs scikit-learn or Optuna is imported when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module 'gradloom.training' has no attribute '{name}'")
    found = globals()[name] = getattr(_import_module(f".{_LATER[name]}", __name__), name)
    return found
