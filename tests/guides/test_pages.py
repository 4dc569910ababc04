"""Every block of the guides is run by a test of this folder, or is listed here with the name that it waits for."""

import importlib
import inspect
import pkgutil
import re

import pytest

import gradloom as gl
from gradloom import training
from guides.pages import FOLDER, PAGES, blocks

#: (page, heading) -> a name that `gradloom.training` is to have ("device_mesh": an option of backends). When it has it, run the
#: block in a test and take it out here.
NOT_YET = {
    ("training_models", "Parallel Training"): "device_mesh",
    ("training_loops", "Distributed Training"): "device_mesh",
    ("training_loops", "Mixed Precision Training"): "MixedPrecisionTrainer",
    ("optimizers", "Mixed Precision Training"): "MixedPrecisionTrainer",
}


def is_there(name):
    if name == "device_mesh":
        return name in inspect.signature(gl.NumpyBackend.__init__).parameters
    modules = [training]
    for found in pkgutil.walk_packages(training.__path__, f"{training.__name__}."):
        modules.append(importlib.import_module(found.name))
    return any(hasattr(module, name) for module in modules)


@pytest.mark.parametrize("name", sorted(set(NOT_YET.values())))
def test_what_is_not_there_yet(name):
    waiting = [f"{page}: {heading}" for (page, heading), needed in NOT_YET.items() if needed == name]
    assert not is_there(name), f"{name} is there: run these blocks in a test, and take them out of NOT_YET: {waiting}"


def test_what_is_there_would_be_seen():
    assert is_there("mse_loss") and not is_there("mse_lost")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_waits(page):
    text = (FOLDER / f"test_{page}.py").read_text("utf-8")
    waiting = {heading for p, heading in NOT_YET if p == page}
    found = blocks(page)
    assert found and waiting <= found.keys()
    missing = [heading for heading in found if heading not in waiting and f'"{heading}"' not in text]
    assert not missing, f"no test runs {missing}"


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_programs(page):
    for heading, (line, code) in blocks(page).items():
        compile("\n" * line + code, f"{page}.md", "exec")
        assert not re.search(r"[ \t]+$", code, re.M), f"{heading}: spaces at the end of a line"
