"""Optimizers with PyTorch's face; their rules are in `optim.rules`."""

from typing import TYPE_CHECKING, Any

from . import lr_scheduler, schedules, swa_utils
from .adafactor import Adafactor
from .adam import Adam, Adamax, AdamW, NAdam, RAdam
from .bound import Optimizer
from .classic import ASGD, Adadelta, Adagrad, RMSprop, Rprop
from .layerwise import LAMB, LARS, NovoGrad
from .lbfgs import LBFGS
from .muon import Muon
from .prodigy import Prodigy
from .schedule_free import AdamWScheduleFree, SGDScheduleFree
from .sgd import SGD
from .shampoo import SOAP, Shampoo
from .sign import Lion
from .sophia import SophiaG
from .variants import ADOPT, AdaBelief, Adan, AdEMAMix, Yogi

__all__ = [
    "Bound",
    "SGD",
    "Adam",
    "AdamW",
    "ASGD",
    "LBFGS",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adamax",
    "Muon",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "Optimizer",
    "lr_scheduler",
    "schedules",
    "swa_utils",
    "ADOPT",
    "AdaBelief",
    "Adan",
    "AdEMAMix",
    "Yogi",
    "AdamWScheduleFree",
    "SGDScheduleFree",
    "Lion",
    "SophiaG",
    "LAMB",
    "LARS",
    "NovoGrad",
    "Prodigy",
    "SOAP",
    "Shampoo",
]

if TYPE_CHECKING:
    from .wrapped import Bound


def __getattr__(name: str) -> Any:
    """`Bound` brings the functional face with it, and is imported when it is first asked for."""
    if name != "Bound":
        raise AttributeError(f"module 'gradloom.optim' has no attribute '{name}'")
    from .wrapped import Bound

    globals()["Bound"] = Bound
    return Bound
