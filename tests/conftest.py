"""What all tests share: the environment of the engines, the `backend` fixture, fixed seeds."""

import importlib.util
import os
import random

# Before any engine is imported. All of it can be overridden from outside.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# One thread per process: workers on few cores do not fight, and sums come out the same for any number of workers.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import numpy as np
import pytest

import gradloom

ENGINES = ["numpy", "jax", "torch", "mlx"]

# The same examples in every run; no deadline, as the first call on an engine compiles.
hypothesis.settings.register_profile("gradloom", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("gradloom")


@pytest.fixture(autouse=True)
def _seeds():
    """Starts every test from the same random state."""
    random.seed(0)
    np.random.seed(0)
    if hasattr(gradloom, "manual_seed"):
        gradloom.manual_seed(0)


@pytest.fixture(params=ENGINES)
def backend(request):
    """Runs the test once per engine, as the default backend, and gives the engine's name."""
    name = request.param
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"the engine {name} is not installed: pip install 'gradloom[{name}]'")
    with gradloom.using_backend(name):
        yield name


def _has_gpu() -> bool:
    """Whether PyTorch or JAX sees a GPU."""
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available() or torch.backends.mps.is_available():
            return True
    if importlib.util.find_spec("jax") is not None:
        import jax

        return any(device.platform != "cpu" for device in jax.devices())
    return False


def pytest_collection_modifyitems(items):
    """Skips tests marked `gpu` where there is none; looks only when there are such tests."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _has_gpu():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no engine sees a GPU"))
