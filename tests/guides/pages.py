"""Runs the code of guides: the blocks of the pages in this folder, on any engine.

A block is a program. What a guide leaves to its reader (data, sizes, "# ... define your model ...") is given by the test:
as names, or as lines in the place of others. Blocks that follow each other share their names.
"""

import functools
import re
from pathlib import Path

import numpy as np

import gradloom as gl

FOLDER = Path(__file__).parent
PAGES = ("training", "training_models", "training_loops", "optimizers", "training_library")
CLASSES = {"numpy": "NumpyBackend", "jax": "JaxBackend", "torch": "TorchBackend", "mlx": "MlxBackend"}


@functools.cache
def blocks(page):
    """{heading: (number of the first line, code)} of a page."""
    lines = (FOLDER / f"{page}.md").read_text("utf-8").split("\n")
    found, heading = {}, None
    for i, line in enumerate(lines):
        if line.startswith("## "):
            heading = line[3:]
        elif line == "```python":
            end = lines.index("```", i)
            assert heading not in found, f"two blocks under {heading!r}"
            found[heading] = (i + 1, "\n".join(lines[i + 1 : end]) + "\n")
    return found


class Session:
    """Blocks that run one after the other, and what they leave behind.

    Attributes:
        names: Their global names.
        said: What they printed, line by line.
        seen: {a watched name: its value at each print, as a float}.
    """

    def __init__(self, engine, watch=("loss",), **names):
        np.random.seed(0)
        gl.manual_seed(0)
        self.engine, self.watch = engine, watch
        self.said, self.seen = [], {name: [] for name in watch}
        self.names = {"__name__": "guide", "np": np, "print": self._print, **names}

    def _print(self, *values):
        self.said.append(" ".join(map(str, values)))
        for name in self.watch:
            if name in self.names:
                self.seen[name].append(self.number(name))

    def __getitem__(self, name):
        return self.names[name]

    def number(self, name):
        value = self.names[name]
        return float(value if isinstance(value, (int, float)) else self.host(value))

    def host(self, array):
        """An array of the session's engine as a NumPy array."""
        return np.asarray(gl.get_backend(self.engine).to_numpy(array))

    def run(self, page, heading, fill=None, own=False, **names):
        """Runs a block.

        Args:
            fill: {a line or a part of one: what stands in its place}; a line keeps its indentation. Each has to be there.
            own: The block is for the engine that it names; else another one may take its place.
            names: More names that it is given.
        """
        line, code = blocks(page)[heading]
        for old, new in (fill or {}).items():
            places = re.findall(rf"^( *)(.*{re.escape(old)}.*)$", code, re.M)
            assert places, f"{heading}: {old!r} is not there"
            for indent, text in places:
                replaced = text.replace(old, new.replace("\n", "\n" + indent))
                code = code.replace(f"{indent}{text}\n", f"{indent}{replaced}\n")
        if not own:
            code = re.sub(r"\b(Jax|Torch)Backend\b", CLASSES[self.engine], code)
        self.names.update(names)
        exec(compile("\n" * line + code, str(FOLDER / f"{page}.md"), "exec"), self.names)
        return self


@functools.cache
def _on_numpy(story):
    with gl.using_backend("numpy"):
        return story("numpy")


def same_on(backend, story, rtol=1e-4):
    """Runs a story (engine -> list of numbers) and compares its numbers with NumPy's; returns them."""
    numbers, expected = story(backend), _on_numpy(story)
    assert len(numbers) > 1 and np.isfinite(numbers).all()
    np.testing.assert_allclose(numbers, expected, rtol=rtol)
    return numbers


def assert_falls(numbers):
    assert numbers[-1] < numbers[0], numbers


def check_gradients(compiled, params, inputs, cotangents, gradients, h=1e-6, rtol=1e-6):
    """Compares gradients with central differences, in float64 on NumPy, at some elements of each parameter."""

    def total(params):
        outputs = compiled.evaluate(params, inputs)
        return sum(float((outputs[name] * g).sum()) for name, g in cotangents.items())

    rng = np.random.RandomState(3)
    assert set(gradients) == set(params)
    for name, p in params.items():
        assert p.dtype == np.float64
        for _ in range(4):
            i = tuple(rng.randint(n) for n in p.shape)
            up, down = ({**params, name: p.copy()} for _ in range(2))
            up[name][i] += h
            down[name][i] -= h
            np.testing.assert_allclose(gradients[name][i], (total(up) - total(down)) / (2 * h), rtol=rtol, atol=1e-8)
