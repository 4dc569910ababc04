"""The fixture `dtype`."""

import pytest

import gradloom as gl


@pytest.fixture
def dtype(backend):
    """The most precise dtype of the engine, by name; new Tensors are on the engine."""
    with gl.using_backend(gl.JaxBackend(dtype="float64") if backend == "jax" else backend):
        yield "float32" if backend == "mlx" else "float64"
