"""gradloom against PyTorch on PyTorch's own samples; see mapping.py for the table and docs/conformance.md for a run.

`make test` runs some samples of each entry, CONFORMANCE=full (`make conformance`) all of them.
"""

import os
import warnings

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("expecttest")  # which PyTorch's own tests, and so op_db, need

import gradloom as gl
from conformance import mapping
from conformance.compare import DTYPES, Refused, compare, compiled, described, entries, samples

FULL = os.environ.get("CONFORMANCE") == "full"
NAMES = [name for name in entries() if mapping.find(name) is not None]


@pytest.mark.parametrize("name", NAMES)
def test_numpy(name, record_property):
    result = compare(name, DTYPES, None if FULL else 3)
    record_property(
        "conformance",
        {"name": name, "passed": result.passed, "refused": dict(result.refused), "different": dict(result.different),
         "failed": len(result.failed)},
    )  # fmt: skip
    assert not result.failed, f"{len(result.failed)} samples differ\n" + "\n".join(result.failed[:5])


@pytest.mark.parametrize("engine", ["jax", "torch", "mlx"])
def test_engines(engine):
    """One sample of each entry on the engines but NumPy, in float32."""
    pytest.importorskip(engine if engine != "mlx" else "mlx.core")
    failed = []
    with gl.using_backend(engine):
        for name in NAMES:
            if engine not in mapping.NOT_ON.get(name, ()):
                failed += [f"{name}: {text}" for text in compare(name, ("float32",), 1, functions_only=True).failed]
    assert not failed, f"{len(failed)} entries differ\n" + "\n".join(failed[:20])


@pytest.mark.parametrize("name", [n for n in NAMES if n not in mapping.SHAPE_ONLY])
def test_compiled(name):
    """Samples of each entry with their gradients in `gradloom.jit`; so every op's shapes are found without values."""
    needs = mapping.NEEDS_VALUES.get(name)
    # Of an entry that needs values some samples may do without: all are run, and one has to be refused.
    found = samples(name, "float64", None if FULL or needs else 1)
    refused, traced, reason = 0, 0, ""
    for sample in found:
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                compiled(name, sample)
        except Refused as error:
            refused, reason = refused + 1, str(error)
        except gl.errors.TraceError as error:
            assert needs, f"it cannot be compiled: {described(sample)}: {error}"
            traced += 1
        except Exception as error:
            raise AssertionError(f"{described(sample)}: {type(error).__name__}: {error}") from error
    assert traced or not needs or not found, f"it can be compiled; the table says that it needs {needs}"
    if found and refused == len(found):
        pytest.skip(reason)


def test_table_names_entries():
    """What the table says, it says of entries that there are."""
    tables = (
        mapping.CALLS, mapping.REFUSED, mapping.DIFFERENT, mapping.WIDER, mapping.NOT_ON, mapping.NEEDS_VALUES
    )  # fmt: skip
    unknown = {name for table in tables for name in table} - set(entries())
    assert not unknown
    missing = {name for table in tables for name in table} - set(NAMES)
    assert not missing, "gradloom does not have these, and the table speaks of them"


def test_nothing_got_lost():
    """The library still has what it had; raise the number when it has more."""
    assert len(NAMES) >= 284


def test_a_wrong_result_is_found(monkeypatch):
    """The comparison sees values, dtypes, shapes and gradients."""
    wrong = {
        "values": lambda x: x.exp() * 1.001,
        "dtype": lambda x: x.exp().float(),
        "shape": lambda x: x.exp().reshape(-1, 1),
        "gradient": lambda x: x.exp() + (x - x.detach()),
        "requires_grad": lambda x: x.detach().exp(),
    }
    for word, fn in wrong.items():
        monkeypatch.setitem(mapping.CALLS, "exp", fn)
        failed = compare("exp", ("float64",), None).failed
        assert failed and word in failed[0], word
    assert samples("exp", "float64", None)
