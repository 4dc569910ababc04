"""The table of docs/optimizers.md: every optimizer, with its defaults, and with what its numbers are held to."""

import inspect
import re
from pathlib import Path

import pytest

import gradloom as gl
from gradloom.optim.functional import UNUSED
from gradloom.training import optimizers

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "optimizers.md").read_text("utf-8")
HIDDEN = ("self", "params", *UNUSED)

BOUND = {
    name: cls
    for name in gl.optim.__all__
    if isinstance(cls := getattr(gl.optim, name), type)
    and issubclass(cls, gl.optim.Optimizer)
    and cls not in (gl.optim.Optimizer, gl.optim.Bound)
}
FUNCTIONAL = {cls.of: (name, cls) for name in optimizers.__all__ if hasattr(cls := getattr(optimizers, name), "of")}


def rows():
    """{class: cells of its row}"""
    found = {}
    for line in PAGE.split("\n"):
        if match := re.match(r"\| `(\w+)` \|", line):
            assert match[1] not in found, f"{match[1]} has two rows"
            found[match[1]] = [cell.strip() for cell in line.strip("| ").split(" | ")]
    return found


def options(cls):
    """The options of a class and their defaults, as text."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    return ", ".join(f"{p.name}={p.default!r}" for p in parameters if p.name not in HIDDEN)


def other_name(cls):
    """The functional class, if it has another name, and its defaults, where they are others."""
    if cls not in FUNCTIONAL:
        return "none"
    name, functional = FUNCTIONAL[cls]
    defaults = functional().param_groups[0]
    changed = [f"{k}={v!r}" for k, v in defaults.items() if cls.prototype().defaults[k] != v]
    same = "the same" if name == cls.__name__ else f"`{name}`"
    return f"{same}, `{', '.join(changed)}`" if changed else same


def test_every_optimizer_has_a_row():
    assert rows().keys() == BOUND.keys()


@pytest.mark.parametrize("name", BOUND)
def test_row(name):
    cells = rows().get(name)
    assert cells is not None, f"docs/optimizers.md has no row for {name}"
    _, other, formula, defaults, reference, test = cells
    assert defaults == f"`{options(BOUND[name])}`", "the defaults are others"
    assert other == other_name(BOUND[name])
    assert len(formula) > 10, "a formula is missing"
    assert re.fullmatch(r".+, 1e-\d+", reference), "say whose numbers they are, and to which tolerance in float64"
    path = ROOT / "tests" / test.strip("`")
    assert path.is_file() and re.search(rf"\b{name}\b|optim_db", path.read_text("utf-8")), (
        f"{test} does not test {name}"
    )


def test_wrappers_are_on_the_page():
    wrappers = [
        n
        for n in optimizers.__all__
        if isinstance(cls := getattr(optimizers, n), type) and issubclass(cls, optimizers.Wrapper)
    ]
    missing = [n for n in (*wrappers, "Partition", "Bound") if n != "Wrapper" and f"`{n}" not in PAGE]
    assert not missing
