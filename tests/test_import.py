"""`import gradloom` is light: an engine or a plotting library is imported only when it is asked for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
NOT_ON_IMPORT = ["jax", "jaxlib", "torch", "mlx", "scipy", "matplotlib", "sklearn", "optax"]


def _imported_by(statement: str) -> set[str]:
    """The top-level modules that a statement adds to a fresh interpreter."""
    code = f"""
import sys
before = set(sys.modules)
{statement}
print(*sorted({{name.partition(".")[0] for name in set(sys.modules) - before}}))
"""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_brings_in_no_engine():
    imported = _imported_by("import gradloom")
    assert "gradloom" in imported
    assert imported.isdisjoint(NOT_ON_IMPORT), f"import gradloom imports {sorted(imported & set(NOT_ON_IMPORT))}"


def test_an_imported_library_would_be_seen():
    pytest.importorskip("scipy")
    assert "scipy" in _imported_by("import scipy.special")
