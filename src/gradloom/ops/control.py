"""Loops and branches as ops: the functions that they call are attributes.

They are printed and run like other ops. What makes their functions (traced bodies), and their gradients, is in
`graph/control.py`. An engine with loops of its own (JAX) registers them as kernels.
"""

from __future__ import annotations

from .op import op

__all__ = ["cond", "scan", "while_loop"]


@op(outputs=("*results",), differentiable=False)
def scan(xp, *values, body, carries, sequences, length, reverse=False):
    """Runs body at each step along the first axis of the sequences: the last carries, and its other results stacked.

    Args:
        *values: The carries, the sequences, and what body takes besides.
        body: `body(*carry, *x, *rest)` gives the next carries and the results of the step.
        carries, sequences: How many of the values are that.
        length: Number of steps, 1 or more.
        reverse: From the last step to the first.
    """
    carry, xs, rest = values[:carries], values[carries : carries + sequences], values[carries + sequences :]
    results = []
    for i in range(length - 1, -1, -1) if reverse else range(length):
        out = body(*carry, *[x[i] for x in xs], *rest)
        carry = out[:carries]
        results.append(out[carries:])
    if reverse:
        results.reverse()
    # On NumPy astype copies: no result shares memory with an operand, which may be a buffer.
    last = [xp.astype(c, dtype=xp.dtype(c)) for c in carry]
    return (*last, *[xp.stack(*column, axis=0) for column in zip(*results, strict=True)])


@op(outputs=("*results",), differentiable=False)
def cond(xp, pred, *values, true, false):
    """The results of true(*values) where pred holds, else of false(*values); only that one is run.

    Args:
        pred: A bool of shape ().
        *values: What both take.
        true, false: Functions that give tuples of the same shapes and dtypes.
    """
    results = true(*values) if pred else false(*values)
    return tuple([xp.astype(r, dtype=xp.dtype(r)) for r in results])  # on NumPy a copy, see scan


@op(outputs=("*results",), differentiable=False)
def while_loop(xp, *values, condition, body, carries):
    """Runs body as long as condition holds, and gives the last carries.

    Args:
        *values: The carries, and what the functions take besides.
        condition: `condition(*carry, *rest)` gives a tuple of one bool of shape ().
        body: `body(*carry, *rest)` gives the next carries.
        carries: How many of the values are carries.
    """
    carry, rest = values[:carries], values[carries:]
    while condition(*carry, *rest)[0]:
        carry = body(*carry, *rest)
    return tuple([xp.astype(c, dtype=xp.dtype(c)) for c in carry])  # on NumPy a copy, see scan
