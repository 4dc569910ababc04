"""What tests of guides share: stand-ins for optimizers."""

import sys
import types

import pytest

from guides.pages import Descent


@pytest.fixture
def optimizers(monkeypatch):
    """`gradloom.training.optimizers` with `Descent` under the names that the guides import."""
    module = types.ModuleType("gradloom.training.optimizers")
    module.Adam = module.SGD = module.RMSProp = Descent
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module
