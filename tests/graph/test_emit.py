"""The emitted source: its text is held in golden/*.py, and is what runs.

A golden file holds the emitted function and the helpers that were made for it; helpers that stand in the package as they
are printed are only named, so that a change of an op's body does not change all files.
After a change that is meant: UPDATE_GOLDEN=1 pytest tests/graph/test_emit.py, and look at the difference.
"""

import ast
import builtins
import difflib
import functools
import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import gradloom as gl
from gradloom import nn
from gradloom.graph import emit

GOLDEN = Path(__file__).parent / "golden"
WIDTH = 110  # of the function; helpers are printed as they were written


def data(shape, classes=10):
    rng = np.random.default_rng(0)
    return gl.tensor(rng.normal(size=shape).astype("float32")), gl.tensor(rng.integers(0, classes, shape[0]))


def training(model, optimizer):
    criterion = nn.CrossEntropyLoss()

    @gl.jit
    def step(x, y):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def mlp(make_optimizer=None):
    """Two layers on 32 samples of 64 features."""
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    args = data((32, 64))
    if make_optimizer is None:
        return gl.jit(lambda x: model(x)), args[:1]
    return training(model, make_optimizer(model.parameters())), args


class Net(nn.Module):
    """Convolution, normalization, pooling and dropout on 8 images of 12 by 12."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.25)
        self.fc = nn.Linear(8 * 6 * 6, 10)

    def forward(self, x):
        x = self.pool(self.norm(self.conv(x)).relu())
        return self.fc(self.drop(x.flatten(1)))


def cnn():
    model = Net()
    return training(model, gl.optim.Adam(model.parameters(), lr=1e-3)), data((8, 1, 12, 12))


def adam(parameters):
    return gl.optim.Adam(parameters, lr=1e-3)


def momentum(parameters):
    return gl.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-4)


CASES = {
    "mlp_adam": (functools.partial(mlp, adam), ["numpy", "jax", "torch", "mlx"]),
    "cnn_adam": (cnn, ["numpy", "torch"]),
    "mlp_momentum": (functools.partial(mlp, momentum), ["numpy"]),
    "mlp_forward": (mlp, ["numpy"]),
}
ALL = [(name, engine) for name, (_, engines) in CASES.items() for engine in engines]


@functools.cache
def compiled(name, engine):
    """(the compiled function after one call, its arguments); run once for all tests."""
    with gl.using_backend(engine):
        gl.manual_seed(0)
        step, args = CASES[name][0]()
        step(*args)
    return step, args


@pytest.fixture(params=ALL, ids=["-".join(pair) for pair in ALL])
def case(request):
    name, engine = request.param
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"the engine {engine} is not installed")
    with gl.using_backend(engine):
        yield name, engine, *compiled(name, engine)


def functions(tree):
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def main(step):
    """The emitted function itself; the others are its helpers."""
    return list(functions(ast.parse(step.source)).values())[-1]


def names(node):
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


@functools.cache
def last_lines():
    """How the functions of the package end: by that a helper is known again."""
    found = set()
    for path in Path(gl.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        found |= {ast.unparse(f.body[-1]) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)}
    return found


def own_text(step):
    """The source without the helpers that stand in the package; these are named."""
    known, texts = [], []
    for name, function in functions(ast.parse(step.source)).items():
        if ast.unparse(function.body[-1]) in last_lines():
            known.append(name)
        else:
            texts.append(ast.get_source_segment(step.source, function))
    head = (
        textwrap.fill("# Helpers: " + ", ".join(known) + ".", 100, subsequent_indent="#   ") + "\n\n\n" if known else ""
    )
    return head + "\n\n\n".join(texts) + "\n"


def test_golden(case):
    name, engine, step, _ = case
    path, now = GOLDEN / f"{name}_{engine}.py", own_text(step)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(now)
    before = path.read_text() if path.exists() else ""
    if before != now:
        lines = difflib.unified_diff(
            before.splitlines(), now.splitlines(), f"golden/{path.name}", "emitted now", lineterm=""
        )
        pytest.fail(
            "\n".join(["the emitted source is another one; if that is meant: UPDATE_GOLDEN=1", *lines]), pytrace=False
        )


def test_golden_files_are_all_compared():
    assert {p.stem for p in GOLDEN.glob("*.py")} == {f"{name}_{engine}" for name, engine in ALL}


def test_layout(case):
    """Python, not too wide, each value with its shape, the parts in order."""
    name, _, step, _ = case
    ast.parse(step.source)
    headings = re.findall(r"^    # (\w+)$", step.source, re.M)
    assert headings == (["forward"] if name == "mlp_forward" else ["forward", "backward", "update"])
    body = step.source[step.source.rindex("\ndef ") :] if "\ndef " in step.source else step.source
    assert re.search(r"# \(32, 10\)$" if name.startswith("mlp") else r"# \(8, 10\)$", body, re.M)
    assert re.search(r"# \(32, 128\)$" if name.startswith("mlp") else r"# \(8, 8, 12, 12\)$", body, re.M)


def too_wide(text, width):
    return [f"{len(line)}: {line}" for line in text.splitlines() if len(line) > width]


def test_width(case, request):
    _, _, step, _ = case
    text = ast.get_source_segment(step.source, main(step))
    assert not too_wide(text, 120)
    wide = too_wide(text, WIDTH)
    assert not wide, f"longer than {WIDTH}:\n" + "\n".join(wide)


def test_names_of_the_model(case):
    name, _, step, _ = case
    paths = ["conv.weight", "norm.weight", "fc.weight"] if name == "cnn_adam" else ["0.weight", "2.bias"]
    for path in paths:
        assert f'p["{path}"]' in step.source, path
    stored = {n.id for n in ast.walk(main(step)) if isinstance(n, ast.Name)} | {a.arg for a in main(step).args.args}
    assert {"x", "p"} <= stored
    if name == "cnn_adam":
        assert any(n.startswith("conv") for n in stored) and any(n.startswith("norm") for n in stored)
    else:
        assert "h0" in stored and "h2" in stored


def test_nothing_is_left_over(case):
    """Every helper is called, and every name is known."""
    _, engine, step, _ = case
    tree = ast.parse(step.source)
    defined = functions(tree)
    needed, todo = set(), [main(step).name]
    while todo:
        one = todo.pop()
        needed.add(one)
        todo += (names(defined[one]) & set(defined)) - needed
    unused = set(defined) - needed
    assert not unused, f"helpers that nobody calls: {unused}"
    scope = set(step._last.emitted.__globals__)
    for function in defined.values():
        local = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
        local |= {a.arg for f in ast.walk(function) if isinstance(f, (ast.FunctionDef, ast.Lambda))
                  for a in (*f.args.args, *f.args.kwonlyargs, f.args.vararg, f.args.kwarg) if a}  # fmt: skip
        unknown = names(function) - local - scope - set(dir(builtins))
        assert not unknown, f"{function.name} refers to {unknown}"


def plain(tree):
    """{path: NumPy array}; JAX gives dicts back in another order."""
    to_numpy = gl.backends.registry.default_backend().to_numpy
    return {path: np.array(to_numpy(a)) for path, a in gl.tree.paths(tree) if hasattr(a, "shape")}


def test_the_text_is_what_runs(case, monkeypatch):
    """The source, executed anew with the names it was given, gives the numbers that a call gives."""
    name, engine, _, _ = case
    built = []
    build = emit.build
    monkeypatch.setattr(emit, "build", lambda *args: built.append(args) or build(*args))
    gl.manual_seed(0)
    step, args = CASES[name][0]()
    seen = []
    first = step(*args)
    (function, source, namespace), last = built[-1], step._last
    assert source == step.source

    # The second call, with what the function is given and gives noted ...
    fn = last._fn
    copy = last.backend.copy

    def noted(*given):
        seen.append(gl.tree.map(lambda a: copy(a) if hasattr(a, "shape") else a, list(given)))
        out = fn(*given)
        seen.append(plain(out))
        return out

    monkeypatch.setattr(last, "_fn", noted)
    second = step(*args)
    assert first.shape == second.shape
    # ... and the same by hand.
    scope = dict(namespace)
    exec(compile(source, "<by hand>", "exec"), scope)
    with last.backend.context(), gl.no_grad():
        mine = plain(last.in_lists(scope[function])(*seen[0]))
    tolerance = 1e-5 if engine in ("jax", "mlx") else 0  # by hand it runs without the engine's compiler
    assert mine.keys() == seen[1].keys() and mine
    for path, a in mine.items():
        np.testing.assert_allclose(a, seen[1][path], rtol=tolerance, atol=tolerance, err_msg=path)


SCRIPT = """
import sys
sys.path[:0] = {paths!r}
from graph import test_emit as t
for name, engine in t.ALL:
    if engine == "numpy":
        print(t.compiled(name, engine)[0].source)
"""


def test_same_text_in_every_process():
    paths = [str(Path(gl.__file__).parents[1]), str(Path(__file__).parents[1])]
    texts = set()
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(paths=paths)], env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        texts.add(run.stdout)
    assert len(texts) == 1
    (text,) = texts
    assert text == "".join(compiled(name, engine)[0].source + "\n" for name, engine in ALL if engine == "numpy")
