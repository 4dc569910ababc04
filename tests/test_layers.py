"""Holds src/gradloom to its layers and to what it never does with code, by reading the sources with `ast`.

- A module imports only from its own layer or a lower one (this holds under `TYPE_CHECKING` too).
- An import inside a function is of an optional, external package. A package's `__init__` may load its own parts lazily.
- No pickle, no eval; exec only where emitted source is run.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"

LAYERS = {
    0: ["errors", "dtypes", "tree", "random"],
    1: ["ops"],
    2: ["backends"],
    3: ["tensor", "graph", "autograd"],
    4: ["nn", "models", "optim"],
    5: ["training"],
    6: ["cli", "report"],
    7: ["__main__"],  # and the root package itself
}
LAYER_OF = {name: number for number, names in LAYERS.items() for name in names}
ROOT_LAYER = max(LAYERS)

PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
EXEC_ALLOWED = {"gradloom.graph.emit", "gradloom.graph.compiled"}
ALWAYS_THERE = sys.stdlib_module_names | {"numpy"}  # nothing is gained by importing these late


def layer_of(module: str) -> int | None:
    """The layer of a dotted module of gradloom; None where the table does not have it."""
    parts = module.split(".")
    return ROOT_LAYER if len(parts) == 1 else LAYER_OF.get(parts[1])


def _imported(node: ast.AST, module: str, is_package: bool) -> list[str]:
    """The modules that one node imports, as dotted absolute names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = module.split(".") if is_package else module.split(".")[:-1]
            package = package[: len(package) - node.level + 1]
            base = ".".join([*package, base] if base else package)
        if base != "gradloom":
            return [base]
        # `from gradloom import ops` is a module; `from gradloom import Tensor` needs the whole root package
        return [f"gradloom.{a.name}" if a.name in LAYER_OF else "gradloom" for a in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        target = node.args[0].value
        if name in ("import_module", "__import__") and isinstance(target, str):
            if target.startswith("."):
                package = module if is_package else module.rpartition(".")[0]
                up = len(target) - len(target.lstrip(".")) - 1
                parts = package.split(".")
                return [".".join([*parts[: len(parts) - up], target.lstrip(".")])]
            return [target]
    return []


def _nodes(node: ast.AST, in_function: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes, each with whether it runs inside a function."""
    for child in ast.iter_child_nodes(node):
        inside = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield child, inside
        yield from _nodes(child, inside)


def _import_fault(target: str, module: str, is_package: bool, late: bool) -> str | None:
    """What is wrong with `module` importing `target`; None where nothing is."""
    root = target.split(".")[0]
    if root in PICKLES:
        return f"imports {target}: files that are loaded hold data, never code"
    if root != "gradloom":
        if late and root in ALWAYS_THERE:
            return f"imports {target} inside a function; it is always there, so import it at the top"
        return None
    own, other = layer_of(module), layer_of(target)
    if other is None:
        return f"imports {target}, which is in no layer (LAYERS in this test)"
    if own is not None and other > own:
        return f"(layer {own}) imports {target} (layer {other}); imports point to lower layers"
    if late and not is_package:
        return f"imports {target} inside a function; that is for optional, external packages"
    return None


def _code_fault(node: ast.AST, module: str) -> str | None:
    """A use of eval, exec or pickle; None where there is none."""
    name = None
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        name = node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "builtins":
        name = node.attr
    if name == "eval":
        return "uses eval"
    if name == "exec" and module not in EXEC_ALLOWED:
        return "uses exec, which is for " + " and ".join(sorted(EXEC_ALLOWED))
    if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
        refused = isinstance(node.value, ast.Constant) and node.value.value is False
        return None if refused else "allows pickle"
    return None


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """All faults of one module's source, each with its place."""
    faults = []
    if layer_of(module) is None:
        faults.append(f"{module}: is in no layer (LAYERS in this test)")
    for node, late in _nodes(ast.parse(source)):
        found = [_import_fault(target, module, is_package, late) for target in _imported(node, module, is_package)]
        found.append(_code_fault(node, module))
        line = getattr(node, "lineno", 0)
        faults += [f"{module}:{line}: {fault}" for fault in found if fault]
    return faults


def _modules() -> Iterator[tuple[Path, str, bool]]:
    """Every source file with its dotted name and whether it is a package."""
    for path in sorted((SRC / "gradloom").rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield path, ".".join(parts[:-1] if is_package else parts), is_package


def test_sources_obey_the_layers():
    modules = list(_modules())
    assert modules, f"no sources under {SRC}"
    found = [f for path, name, package in modules for f in violations(path.read_text("utf-8"), name, package)]
    assert not found, "\n".join(["", *found])


def test_every_folder_is_a_package():
    # without __init__.py a folder is left out of the wheel, and its docstring examples import it under another name
    folders = {path.parent for path, _, _ in _modules()}
    missing = [str(folder.relative_to(SRC)) for folder in sorted(folders) if not (folder / "__init__.py").exists()]
    assert not missing, f"no __init__.py in {missing}"


OPS, TENSOR = "gradloom.ops.reduce", "gradloom.tensor.tape"


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        (OPS, "from gradloom.tensor import Tensor", "(layer 1) imports gradloom.tensor (layer 3)"),
        (OPS, "from ..tensor.tape import Tape", "imports gradloom.tensor.tape (layer 3)"),
        (OPS, "from .. import backends", "imports gradloom.backends (layer 2)"),
        (OPS, "import gradloom.nn", "imports gradloom.nn (layer 4)"),
        (OPS, "import gradloom", "imports gradloom (layer 7)"),
        (OPS, "from gradloom import Tensor", "imports gradloom (layer 7)"),
        (OPS, "if TYPE_CHECKING:\n    from ..tensor import Tensor", "reduce:2: (layer 1) imports gradloom.tensor"),
        (OPS, "try:\n    from ..nn import Module\nexcept ImportError: pass", "imports gradloom.nn"),
        ("gradloom.errors", "from .tree import walk\nfrom .ops import op", "errors:2: (layer 0) imports gradloom.ops"),
        (TENSOR, "def f():\n    from ..nn import Module", "imports gradloom.nn (layer 4)"),
        (TENSOR, "def f():\n    from ..ops import op", "imports gradloom.ops inside a function"),
        (TENSOR, "class A:\n    def f(self):\n        from .storage import Cell", "storage inside a function"),
        (TENSOR, "def f():\n    import_module('gradloom.training')", "imports gradloom.training (layer 5)"),
        (TENSOR, "f = lambda: importlib.import_module('..ops', __package__)", "gradloom.ops inside a function"),
        (TENSOR, "async def f():\n    import json", "imports json inside a function"),
        (TENSOR, "def f():\n    import numpy.linalg", "imports numpy.linalg inside a function"),
        (TENSOR, "from gradloom.tools import x", "imports gradloom.tools, which is in no layer"),
        ("gradloom.tools", "", "gradloom.tools: is in no layer"),
        (TENSOR, "import pickle", "imports pickle"),
        (TENSOR, "def f():\n    from pickle import loads", "imports pickle"),
        (TENSOR, "np.load(file, allow_pickle=True)", "allows pickle"),
        (TENSOR, "eval('1')", "uses eval"),
        (TENSOR, "list(map(eval, texts))", "uses eval"),
        (TENSOR, "builtins.eval('1')", "uses eval"),
        (TENSOR, "exec('x = 1')", "uses exec"),
        ("gradloom.graph.emit", "eval('1')", "uses eval"),
    ],
)
def test_checker_finds(module, source, fault):
    found = violations(source, module)
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("module", "source", "is_package"),
    [
        (TENSOR, "from ..ops.op import op\nfrom .storage import Cell\nfrom ..graph import Graph", False),
        (TENSOR, "from .. import errors, dtypes\nimport json\nimport numpy as np", False),
        (TENSOR, "def f():\n    import torch\n    from mlx import core\n    from scipy.special import erf", False),
        (TENSOR, "model.eval()\nmx.eval(x)\nclass A:\n    def eval(self): pass", False),
        (TENSOR, "np.load(file, allow_pickle=False)", False),
        ("gradloom.tensor", "from . import tape\nfrom ..backends import base", True),
        ("gradloom.backends", "def f():\n    from . import jax", True),
        (
            "gradloom",
            "from .nn import Module\nfrom . import optim\ndef __getattr__(n):\n    from . import cli",
            True,
        ),
        ("gradloom.__main__", "from gradloom import Tensor\nfrom .cli import main", False),
        ("gradloom.graph.emit", "exec(compile(source, name, 'exec'), names)", False),
        ("gradloom.graph.compiled", "exec(code)", False),
    ],
)
def test_checker_allows(module, source, is_package):
    assert violations(source, module, is_package) == []
