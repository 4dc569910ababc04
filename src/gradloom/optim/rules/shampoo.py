"""Matrices that precondition each axis of a parameter: Shampoo and SOAP."""

from __future__ import annotations

import functools
import math
from typing import Any

from ...errors import ShapeError, explain
from .adam import correction
from .rule import rule

#: The most axes of a parameter.
MOST_AXES = 8


def _check_axes(shape: tuple) -> None:
    if len(shape) > MOST_AXES:
        raise ShapeError(
            explain(
                "Shampoo and SOAP have a matrix for each axis of a parameter",
                expected=f"up to {MOST_AXES} axes",
                given=list(shape),
                do="reshape it, or give it to another optimizer",
            )
        )


def _refresh(o: dict) -> bool | None:
    """Whether matrices are made anew at a step: True, or None where a scalar says it."""
    return True if o["precondition_frequency"] == 1 else None


def _phase(o: dict, step: int) -> dict:
    every = o["precondition_frequency"]
    return {"refresh": (step - 1) % every == 0} if every > 1 else {}


def _fresh(m: Any, o: dict, step: Any) -> Any:
    return m.where((step - 1) % o["precondition_frequency"] == 0, 1.0, 0.0)


# --- functions of matrices, by products alone: they run on each engine and on accelerators


def unfolded(xp, x, axis):
    """x as a matrix (length of the axis, all others)."""
    order = (axis, *(i for i in range(x.ndim) if i != axis))
    moved = x if axis == 0 else xp.transpose(x, axes=order)
    return xp.reshape(moved, shape=(x.shape[axis], math.prod(x.shape) // max(x.shape[axis], 1)))


def along_axis(xp, x, matrix, axis):
    """The product of a matrix (m, n) with x along an axis of length n."""
    rows = xp.matmul(matrix, unfolded(xp, x, axis))
    others = [i for i in range(x.ndim) if i != axis]
    moved = xp.reshape(rows, shape=(matrix.shape[0], *(x.shape[i] for i in others)))
    return moved if axis == 0 else xp.transpose(moved, axes=(*range(1, axis + 1), 0, *range(axis + 1, x.ndim)))


def inverse_root(xp, matrix, p, eps, ridge=1e-6, iterations=24):
    """(matrix + (eps + ridge * n) I)^(-1/p) of a positive semi-definite matrix of norm n (the largest sum of a row).

    The coupled Newton iteration: M -> T^p M and X -> X T with T = ((1 + p) I - M) / p, until M = I. A small eigenvalue of M grows by
    (1 + 1/p)^p >= 2.25 a step, so that the ridge, the condition number and the number of steps go together.

    Guo and Higham, 2006; for Shampoo: Anil et al., 2020 (arXiv:2002.09018).
    """
    eye = xp.eye(n=matrix.shape[0], dtype=xp.dtype(matrix), like=matrix)
    a = matrix + (eps + ridge * xp.amax(xp.sum(xp.abs(matrix), axis=1))) * eye
    scale = (1 + p) / 2 / xp.amax(xp.sum(xp.abs(a), axis=1))
    m, x = scale * a, scale ** (1 / p) * eye
    for _ in range(iterations):
        t = (1 + 1 / p) * eye - (1 / p) * m
        x = xp.matmul(x, t)
        rest = p
        while rest > 1:  # M -> T^p M
            if rest % 2:
                m = xp.matmul(t, m)
            t, rest = xp.matmul(t, t), rest // 2
        m = xp.matmul(t, m)
    return x


def orthonormal(xp, x):
    """The columns of x (n, n) made orthonormal in their order: the Q of its QR decomposition, for an R with a positive diagonal.

    Gram and Schmidt's by halves, so that most of it are products of large matrices.
    """
    if x.shape[1] == 1:
        return x / xp.sqrt(xp.sum(x * x))
    half = x.shape[1] // 2
    left, right = orthonormal(xp, x[:, :half]), x[:, half:]
    adjoint = xp.transpose(left, axes=(1, 0))
    right = right - xp.matmul(left, xp.matmul(adjoint, right))
    right = right - xp.matmul(left, xp.matmul(adjoint, right))  # twice is enough
    return xp.concat(left, orthonormal(xp, right), axis=1)


def next_basis(xp, matrix, basis, ridge=1e-5):
    """A step of the power method towards the eigenvectors of a positive semi-definite matrix: (basis, order of the old columns).

    The columns come by falling estimates of their eigenvalues. A ridge keeps them independent.
    """
    size = xp.amax(xp.sum(xp.abs(matrix), axis=1))
    product = xp.matmul(matrix / xp.where(size > 0, size, xp.ones_like(size)), basis)
    order = xp.argsort(xp.sum(basis * product, axis=0), axis=0, descending=True)
    q = orthonormal(xp, xp.take(product + ridge * basis, order, axis=1))
    for _ in range(2):  # what rounding has left
        q = 1.5 * q - 0.5 * xp.matmul(q, xp.matmul(xp.transpose(q, axes=(1, 0)), q))
    return q, order


# --- Shampoo


def _shampoo_kind(shape: tuple, o: dict) -> dict:
    _check_axes(shape)
    return {"whole": tuple(n <= o["max_preconditioner_dim"] for n in shape or (1,))}


def _shampoo_state(flags: dict) -> tuple:
    whole = flags["whole"]
    kept = [i for i, w in enumerate(whole) if w] if flags["kept"] else []
    return (
        *(f"preconditioner_{i}" for i in range(len(whole))),
        *(f"inverse_root_{i}" for i in kept),
        *(("momentum_buffer",) if flags["momentum_"] else ()),
    )


def _statistic(axis: int, xp: Any, p: Any, o: dict) -> Any:
    n = (*p.shape, 1)[axis]
    return xp.zeros(shape=(n, n) if n <= o["max_preconditioner_dim"] else (n,), dtype=xp.dtype(p), like=p)


def _square(axis: int, xp: Any, p: Any, o: dict) -> Any:
    n = (*p.shape, 1)[axis]
    return xp.zeros(shape=(n, n), dtype=xp.dtype(p), like=p)


def _identity(axis: int, xp: Any, p: Any, o: dict) -> Any:
    return xp.eye(n=p.shape[axis], dtype=xp.dtype(p), like=p)


def _each_axis(name: str, first: Any) -> dict:
    return {f"{name}_{i}": functools.partial(first, i) for i in range(MOST_AXES)}


def _shampoo_scalars(m: Any, o: dict, step: Any) -> tuple:
    decay = o["weight_decay"]
    return (
        o["lr"],
        o["momentum"],
        o["beta2"],
        1.0 if o["beta2"] == 1 else 1.0 - o["beta2"],
        o["eps"],
        1.0 - o["lr"] * decay if o["decoupled_weight_decay"] else decay,
        _fresh(m, o, step),
    )


@rule(
    state=_shampoo_state,
    start=_each_axis("preconditioner", _statistic) | _each_axis("inverse_root", _square),
    flags=lambda o: {
        "momentum_": o["momentum"] != 0,
        "decay": None if o["weight_decay"] == 0 else "decoupled" if o["decoupled_weight_decay"] else "l2",
        "maximize": bool(o["maximize"]),
        "kept": o["precondition_frequency"] > 1,
        "refresh": _refresh(o),
    },
    kind=_shampoo_kind,
    phase=_phase,
    scalars=_shampoo_scalars,
    names=("lr", "momentum", "beta2", "rest2", "eps", "weight_decay", "fresh"),
    per="tensor",
)
def shampoo(xp, p, g, *rest, whole, momentum_, decay, maximize, kept, refresh):
    """p - lr * b, with b = momentum * b + u and u = g multiplied along each of its k axes by (H_i + eps I)^(-1/2k).

    H_i is the sum of G_i G_i' so far, or with beta2 < 1 the running mean, G_i being the gradient with its axis i in front and the others
    made one. Of a long axis it is the diagonal alone. The roots may be kept for some steps.

    Gupta, Koren and Singer, 2018 (arXiv:1802.09568), algorithm 2, with a ridge of 1e-6 |H_i| (see `inverse_root`).
    """
    lr, momentum, beta2, rest2, eps, weight_decay, fresh = rest[-7:]
    n = len(whole)
    roots = iter(rest[n:])
    if maximize:
        g = -g
    if decay == "decoupled":
        p = p * weight_decay  # 1 - lr * weight_decay
    elif decay == "l2":
        g = g + weight_decay * p
    x = g if g.ndim else xp.reshape(g, shape=(1,))
    u, statistics, new_roots = x, [], []
    for i in range(n):
        rows = unfolded(xp, x, i)
        if whole[i]:
            h = beta2 * rest[i] + rest2 * xp.matmul(rows, xp.transpose(rows, axes=(1, 0)))
            root = inverse_root(xp, h, 2 * n, eps) if refresh is not False else None
            if kept:
                old = next(roots)
                root = old if refresh is False else root if refresh else xp.where(fresh > 0, root, old)
                new_roots.append(root)
            u = along_axis(xp, u, root, i)
        else:
            h = beta2 * rest[i] + rest2 * xp.sum(rows * rows, axis=1)
            u = u * xp.reshape((h + eps) ** (-0.5 / n), shape=(h.shape[0], *([1] * (n - 1 - i))))
        statistics.append(h)
    u = u if g.ndim else xp.reshape(u, shape=())
    if not momentum_:
        return p - lr * u, *statistics, *new_roots
    b = momentum * rest[-8] + u
    return p - lr * b, *statistics, *new_roots, b


# --- SOAP


def _soap_axes(shape: tuple, o: dict) -> dict:
    _check_axes(shape)
    few = len(shape) < 2 and not o["precondition_1d"]
    return {"axes": () if few else tuple(i for i, n in enumerate(shape) if 1 < n <= o["max_precond_dim"])}


def _soap_scalars(m: Any, o: dict, step: Any) -> tuple:
    (beta1, beta2), decay = o["betas"], o["lr"] * o["weight_decay"]
    beta = beta2 if o["shampoo_beta"] is None else o["shampoo_beta"]
    before = m.maximum(step - 1, 1)  # updates that moved the parameter: the first one only makes the bases
    rate = o["lr"] / correction(m, beta1, before) * m.sqrt(correction(m, beta2, before))
    first = step == 1
    return (
        m.where(first, 0.0, 1.0 - beta1),
        beta2,
        m.where(first, 0.0, 1.0 - beta2),
        beta,
        1.0 - beta,
        m.where(first, 0.0, rate),
        m.where(first, 1.0, o["eps"]),
        m.where(first, 1.0, 1.0 - decay),
        _fresh(m, o, step),
    )


@rule(
    state=lambda flags: (
        "exp_avg",
        "exp_avg_sq",
        *(f"{name}_{i}" for name in ("covariance", "basis") for i in flags["axes"]),
    ),
    start=_each_axis("covariance", _square) | _each_axis("basis", _identity),
    flags=lambda o: {
        "decay": o["weight_decay"] != 0,
        "maximize": bool(o["maximize"]),
        "refresh": _refresh(o),
    },
    kind=_soap_axes,
    phase=_phase,
    scalars=_soap_scalars,
    names=("rest1", "beta2", "rest2", "beta", "rest", "rate", "eps", "weight_decay", "fresh"),
    per="tensor",
)
def soap(xp, p, g, *rest, axes, decay, maximize, refresh):
    """Adam in the eigenbases of Shampoo's matrices: p - lr * sqrt(c2) / c1 * Q (Q'm / (sqrt(v) + eps)).

    Q stands for a basis along each axis, m is the running mean of g, v that of (Q'g)^2, and c = 1 - beta^t. The bases follow the running
    means of G_i G_i' by one step of the power method at each refresh, after the update; the first update only makes them.

    Vyas et al., 2024 (arXiv:2409.11321), algorithm 3, as in the authors' code, which begins with a decomposition (`eigh`) where here the
    power method begins at the identity.
    """
    m, v, k = rest[0], rest[1], len(axes)
    rest1, beta2, rest2, beta, rest_, rate, eps, weight_decay, fresh = rest[-9:]
    bases = rest[2 + k : 2 + 2 * k]
    if maximize:
        g = -g
    m = m + rest1 * (g - m)
    x, u = g, m
    for axis, q in zip(axes, bases, strict=True):
        adjoint = xp.transpose(q, axes=(1, 0))
        x, u = along_axis(xp, x, adjoint, axis), along_axis(xp, u, adjoint, axis)
    v = beta2 * v + rest2 * (x * x)
    u = u / (xp.sqrt(v) + eps)
    for axis, q in zip(axes, bases, strict=True):
        u = along_axis(xp, u, q, axis)
    p = p - rate * u
    if decay:
        p = p * weight_decay  # 1 - lr * weight_decay
    means, new_bases = [], []
    for axis, h, q in zip(axes, rest[2 : 2 + k], bases, strict=True):
        rows = unfolded(xp, g, axis)
        h = beta * h + rest_ * xp.matmul(rows, xp.transpose(rows, axes=(1, 0)))
        if refresh is not False:
            new, order = next_basis(xp, h, q)
            moved = xp.take(v, order, axis=axis)
            q = new if refresh else xp.where(fresh > 0, new, q)
            v = moved if refresh else xp.where(fresh > 0, moved, v)
        means.append(h)
        new_bases.append(q)
    return p, m, v, *means, *new_bases
