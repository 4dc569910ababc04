"""Programs that are run twice, `program(gradloom, T)` and `program(torch, T)`; T makes a Tensor that requires a gradient."""

import numpy as np
import pytest
import torch

import gradloom as gl

FUNCTION = {gl: gl.autograd.Function, torch: torch.autograd.Function}


def maker(L, dtype):
    """T of a library."""

    def T(values, grad=True):
        return L.tensor(values, dtype=getattr(L, dtype), requires_grad=grad)

    return T


def plain(value):
    """A result as lists of numbers, strings and None."""
    if isinstance(value, (gl.Tensor, torch.Tensor)):
        return value.detach().tolist()
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def close(mine, theirs, tolerance):
    """Whether two results of `plain` have the same structure and nearly the same numbers."""
    if isinstance(theirs, list):
        return (
            isinstance(mine, list)
            and len(mine) == len(theirs)
            and all(close(m, t, tolerance) for m, t in zip(mine, theirs, strict=True))
        )
    if isinstance(theirs, float):
        return isinstance(mine, float) and np.isclose(mine, theirs, rtol=tolerance, atol=tolerance, equal_nan=True)
    return mine == theirs


def same(program, dtype):
    """Asserts that a program has the same result with both."""
    mine, theirs = (plain(program(L, maker(L, d))) for L, d in ((gl, dtype), (torch, "float64")))
    assert close(mine, theirs, 1e-9 if dtype == "float64" else 1e-4), f"gradloom: {mine}\n PyTorch: {theirs}"


def table(cases):
    """The parameter `program` of a test."""
    return pytest.mark.parametrize("program", cases.values(), ids=cases)


def case(cases):
    """Enters the decorated program into the table."""

    def enter(program):
        name = program.__name__
        assert name not in cases
        cases[name] = program
        return program

    return enter


def function(forward, backward):
    """gradloom's `Function` of two methods."""
    return type("F", (gl.autograd.Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


def double(ctx, x, *rest):
    """A `forward`."""
    return x * 2
