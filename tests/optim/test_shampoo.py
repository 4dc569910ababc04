"""Shampoo and SOAP against their definitions in NumPy, with `numpy.linalg` for the roots and bases, in float64."""

import numpy as np
import pytest

import gradloom as gl
from gradloom.backends.numpy import xp as NUMPY
from gradloom.backends.registry import backend_class
from gradloom.optim.rules.rule import HOST
from gradloom.optim.rules.shampoo import inverse_root, next_basis, orthonormal

from .reference import (
    ALL,
    ZERO,
    assert_close,
    check_resumes,
    engine,
    gradients,
    halved,
    numbers,
    run,
    starts,
    stepper,
    tensors,
)

MODES = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])


def few(backend):
    """Numbers of the parameters: XLA and MLX take some tenths of a second for each root in a rule."""
    return (0, 2) if backend in ("jax", "mlx") else ALL


def unfold(x, axis):
    return np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)


def multiplied(x, matrix, axis):
    return np.moveaxis(np.tensordot(matrix, x, axes=(1, axis)), 0, axis)


# --------------------------------------------------------------------------------------------------- functions of matrices


def semidefinite(n, rank, smallest, seed=0):
    rng = np.random.default_rng(seed)
    u, _ = np.linalg.qr(rng.normal(size=(n, n)))
    values = np.where(np.arange(n) < rank, np.logspace(0, smallest, n), 0)
    return 7 * (u * values) @ u.T


def root_by_eigh(matrix, p, eps, ridge=1e-6):
    """(matrix + (eps + ridge * its largest sum of a row) I)^(-1/p)."""
    values, u = np.linalg.eigh(matrix)
    return (u * (values + eps + ridge * np.abs(matrix).sum(axis=1).max()) ** (-1 / p)) @ u.T


@pytest.mark.parametrize("p", [2, 3, 4, 6, 8, 16])
@pytest.mark.parametrize(("n", "rank", "smallest"), [(1, 1, 0), (6, 6, -2), (6, 2, 0), (40, 40, -9)])
def test_inverse_root_against_eigh(n, rank, smallest, p):
    matrix = semidefinite(n, rank, smallest)
    expected = root_by_eigh(matrix, p, 1e-12)
    np.testing.assert_allclose(
        inverse_root(NUMPY, matrix, p, 1e-12), expected, rtol=0, atol=1e-9 * np.abs(expected).max()
    )
    coarse = inverse_root(NUMPY, matrix.astype("float32"), p, 1e-12)
    assert coarse.dtype == np.float32
    np.testing.assert_allclose(coarse, expected, rtol=0, atol=0.02 * np.abs(expected).max())


def test_inverse_root_of_nothing():
    np.testing.assert_allclose(inverse_root(NUMPY, np.zeros((3, 3)), 4, 1e-4), 10 * np.eye(3), rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 16, 33])
def test_orthonormal_against_qr(n):
    x = np.random.default_rng(n).normal(size=(n, n))
    q, r = np.linalg.qr(x)
    np.testing.assert_allclose(orthonormal(NUMPY, x), q * np.sign(np.diag(r)), atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_basis_stays_orthonormal_whatever_the_rank(backend, dtype):
    if backend == "mlx" and dtype == "float64":
        pytest.skip("MLX has no float64 on the GPU, and gradloom none on MLX")
    home = backend_class(backend)(dtype=dtype)
    with home.context():
        for n, rank, smallest in ((5, 5, -3), (5, 0, 0), (5, 1, 0), (48, 10, -12)):
            matrix = semidefinite(n, rank, smallest).astype(dtype)
            q, _ = next_basis(home.xp, home.from_numpy(matrix), home.from_numpy(np.eye(n, dtype=dtype)))
            q = home.to_numpy(q)
            assert np.abs(q.T @ q - np.eye(n)).max() < (2e-6 if dtype == "float32" else 1e-14)


def test_the_basis_comes_to_the_eigenvectors():
    matrix = semidefinite(6, 6, -3)
    q = np.eye(6)
    for _ in range(60):
        q, _ = next_basis(NUMPY, matrix, q)
    _, u = np.linalg.eigh(matrix)
    np.testing.assert_allclose(np.abs(u[:, ::-1].T @ q), np.eye(6), atol=1e-9)


# ----------------------------------------------------------------------------------------------------------------- Shampoo


def shampoo(o, steps, grads=gradients):
    """Algorithm 2 of the paper; roots by eigh."""
    params = starts()
    sums = [[0.0 for _ in p.shape or (1,)] for p in params]
    roots = [[None for _ in p.shape or (1,)] for p in params]
    buffers = [0.0 for _ in params]
    for t in range(steps):
        for i, g in enumerate(grads(t)):
            p = params[i]
            if o["decoupled_weight_decay"]:
                p = p * (1 - o["lr"] * o["weight_decay"])
            else:
                g = g + o["weight_decay"] * p
            x = u = g.reshape(g.shape or (1,))
            k = x.ndim
            for axis, n in enumerate(x.shape):
                rows = unfold(x, axis)
                whole = n <= o["max_preconditioner_dim"]
                new = rows @ rows.T if whole else np.diag(np.diag(rows @ rows.T))
                sums[i][axis] = o["beta2"] * sums[i][axis] + (1 if o["beta2"] == 1 else 1 - o["beta2"]) * new
                if not whole:
                    roots[i][axis] = root_by_eigh(sums[i][axis], 2 * k, o["eps"], ridge=0)
                elif t % o["precondition_frequency"] == 0:
                    roots[i][axis] = root_by_eigh(sums[i][axis], 2 * k, o["eps"])
                u = multiplied(u, roots[i][axis], axis)
            buffers[i] = o["momentum"] * buffers[i] + u.reshape(g.shape)
            params[i] = p - o["lr"] * buffers[i]
    return params


SHAMPOO = [
    {},
    {"lr": 0.5, "momentum": 0.9, "beta2": 0.9, "precondition_frequency": 4},
    {"weight_decay": 0.1, "eps": 1e-2, "max_preconditioner_dim": 3},
    {"weight_decay": 0.1, "decoupled_weight_decay": True, "max_preconditioner_dim": 4, "precondition_frequency": 3},
]


@MODES
@pytest.mark.parametrize("options", SHAMPOO, ids=range(len(SHAMPOO)))
def test_shampoo_equals_the_definition(backend, options, compiled):
    """The roots come of an iteration here: 1e-8."""
    with gl.using_backend(engine(backend)):
        found, _, step = run(lambda p: gl.optim.Shampoo(p, **options), compiled=compiled, only=few(backend))
    if compiled:
        assert step.compiles == (2 if options.get("precondition_frequency", 1) > 1 else 1)
    expected = shampoo(gl.optim.Shampoo.prototype(**options).defaults, 20)
    assert_close(found, [expected[i] for i in few(backend)], 1e-8, 1e-9)


def test_shampoo_of_a_vector_is_adagrad_with_a_whole_matrix():
    """So is the first step along the gradient, of length lr."""
    w = gl.tensor([3.0, 4.0], dtype=gl.float64, requires_grad=True)
    w.grad = gl.tensor([30.0, 40.0], dtype=gl.float64)
    gl.optim.Shampoo([w], lr=0.5).step()
    np.testing.assert_allclose(numbers([w])[0], [2.7, 3.6], rtol=1e-5)


# -------------------------------------------------------------------------------------------------------------------- SOAP


def positive_qr(x):
    q, r = np.linalg.qr(x)
    return q * np.where(np.diag(r) < 0, -1, 1)


def soap(o, steps, grads=gradients, decompose=False):
    """Algorithm 3 of the paper, as in the authors' code.

    Args:
        decompose: Begin with the eigenvectors, as they do, and not with a step of the power method from the identity.
    """
    (b1, b2), params = o["betas"], starts()
    beta = b2 if o["shampoo_beta"] is None else o["shampoo_beta"]
    state = []
    for p in params:
        chosen = p.ndim > 1 or (p.ndim == 1 and o["precondition_1d"])
        axes = [a for a, n in enumerate(p.shape) if chosen and n <= o["max_precond_dim"]]
        state.append((axes, dict.fromkeys(axes, 0.0), {a: np.eye(p.shape[a]) for a in axes}))
    ms, vs = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]
    for t in range(steps):
        for i, g in enumerate(grads(t)):
            axes, means, bases = state[i]
            if t > 0:
                ms[i] = b1 * ms[i] + (1 - b1) * g
                x, u = g, ms[i]
                for a in axes:
                    x, u = multiplied(x, bases[a].T, a), multiplied(u, bases[a].T, a)
                vs[i] = b2 * vs[i] + (1 - b2) * x * x
                u = u / (np.sqrt(vs[i]) + o["eps"])
                for a in axes:
                    u = multiplied(u, bases[a], a)
                params[i] = params[i] - o["lr"] * np.sqrt(1 - b2**t) / (1 - b1**t) * u
                params[i] = params[i] * (1 - o["lr"] * o["weight_decay"])
            for a in axes:
                rows = unfold(g, a)
                h = means[a] = beta * means[a] + (1 - beta) * rows @ rows.T
                if t == 0 and decompose:
                    bases[a] = np.linalg.eigh(h)[1][:, ::-1]
                elif t % o["precondition_frequency"] == 0:
                    product = h / np.abs(h).sum(axis=1).max() @ bases[a]
                    order = np.argsort(-np.sum(bases[a] * product, axis=0), kind="stable")
                    bases[a] = positive_qr((product + 1e-5 * bases[a])[:, order])
                    vs[i] = np.take(vs[i], order, axis=a)
    return params


SOAP = [
    {"precondition_frequency": 1},
    {"lr": 0.1, "weight_decay": 0, "precondition_frequency": 3, "precondition_1d": True},
    {
        "lr": 0.1,
        "betas": (0.8, 0.9),
        "shampoo_beta": 0.5,
        "eps": 1e-4,
        "max_precond_dim": 3,
        "precondition_frequency": 2,
    },
]


def late(step):
    """Without the gradient of 0 at the first step, whose order of equal eigenvalues rounding would decide."""
    return gradients(step + 1)


@MODES
@pytest.mark.parametrize("options", SOAP, ids=range(len(SOAP)))
def test_soap_equals_the_definition(backend, options, compiled):
    """QR is made by Gram and Schmidt here: 1e-7."""
    with gl.using_backend(engine(backend)):
        found, _, step = run(lambda p: gl.optim.SOAP(p, **options), compiled=compiled, grads=late)
    if compiled:
        assert step.compiles == (2 if options["precondition_frequency"] > 1 else 1)
    assert_close(found, soap(gl.optim.SOAP.prototype(**options).defaults, 20, late), 1e-7, 1e-9)


def test_the_first_step_of_soap_makes_the_bases_only():
    found, optimizer, _ = run(gl.optim.SOAP, 1)
    assert_close(found, starts(), 0, 0)
    (matrix, *_) = optimizer.state.values()
    assert not np.array_equal(matrix["basis_0"].numpy(), np.eye(3))
    assert not matrix["exp_avg"].numpy().any()


def test_soap_comes_to_what_it_does_from_eigenvectors():
    """The first bases of the authors are forgotten: gradients of one covariance lead to the same steps."""
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in (3, 4))

    def aligned(step):
        sizes = np.array([[4.0, 0, 0, 0], [0, 1.5, 0, 0], [0, 0, 0.5, 0]]) * np.random.default_rng(step).normal(
            size=(3, 1)
        )
        return [u @ sizes @ v.T, *gradients(step + 1)[1:]]

    options = {"lr": 0.01, "weight_decay": 0, "precondition_frequency": 1}
    o = gl.optim.SOAP.prototype(**options).defaults
    (found, _, _), (before, _, _) = (run(lambda p: gl.optim.SOAP(p, **options), n, grads=aligned) for n in (120, 119))
    step, exact = found[0] - before[0], soap(o, 120, aligned, True)[0] - soap(o, 119, aligned, True)[0]
    np.testing.assert_allclose(step, exact, atol=1e-3 * np.abs(exact).max())


# ---------------------------------------------------------------------------------------------------------- both classes

BOTH = [
    (gl.optim.Shampoo, {"lr": 0.1, "momentum": 0.9, "precondition_frequency": 2}),
    (gl.optim.SOAP, {"lr": 0.1, "precondition_frequency": 2, "precondition_1d": True}),
]
CLASSES = pytest.mark.parametrize(("of", "options"), BOTH, ids=lambda v: getattr(v, "__name__", ""))


@CLASSES
def test_a_changed_rate_does_not_compile_anew(backend, of, options):
    """The steps with and without new matrices are the two forms."""
    with gl.using_backend(engine(backend)):
        found, _, step = run(lambda p: of(p, **options), 6, True, each=halved, grads=late, only=few(backend))
        expected, _, _ = run(lambda p: of(p, **options), 6, False, each=halved, grads=late, only=few(backend))
    assert step.compiles == 2
    assert_close(found, expected, 1e-7, 1e-9)


@MODES
@CLASSES
def test_state_dict_resumes(backend, of, options, compiled):
    check_resumes(lambda p: of(p, **options), compiled, few(backend))


@CLASSES
def test_several_updates_in_one_compiled_call(of, options):
    """Each has its own phase."""
    every = {**options, "precondition_frequency": 3}
    expected, _, _ = run(lambda p: of(p, **every), 8, grads=late)
    params = tensors(starts())
    optimizer = of(params, **every)
    inner = stepper(optimizer, params, False)

    @gl.jit
    def twice(first, second):
        inner(*first)
        inner(*second)

    for k in range(0, 8, 2):
        twice(*([gl.tensor(g, dtype=gl.float64) for g in late(k + j)] for j in (0, 1)))
    assert twice.compiles == 3  # new matrices in the first, in none, in the second
    assert_close(numbers(params), expected, 1e-7, 1e-9)


@CLASSES
def test_the_phase_as_a_number(of, options):
    """Where the step is not known on the host (the functional face in a jit), the matrices are made and selected: the same numbers."""
    rule = of.rule
    o = of.prototype(**options).defaults
    for step in (1, 2, 3):
        row = [np.asarray(a[0]) for a in (starts(), late(1))]
        flags = rule.flags(o) | rule.kind(row[0].shape, o)
        assert flags["refresh"] is None
        scalars = rule.scalars(HOST, o, step)
        states = [np.asarray(rule.first(name, row[0], o)) for name in rule.state(flags)]
        states = [s + 0.1 * np.eye(*s.shape) if s.ndim == 2 else s for s in states]
        selected = rule.leaf(NUMPY, *row, *states, *map(np.asarray, scalars), **flags)
        known = rule.leaf(NUMPY, *row, *states, *scalars, **flags | rule.phase(o, step))
        assert_close(selected, known, 1e-12)


@CLASSES
def test_maximize_and_foreach(of, options):
    plain, _, _ = run(lambda p: of(p, **options), 5, grads=late)
    mirrored, _, _ = run(lambda p: of(p, **options, maximize=True), 5, grads=lambda k: [-g for g in late(k)])
    alone, _, _ = run(lambda p: of(p, **options, foreach=False), 5, grads=late)
    assert_close(mirrored, plain, 0, 0)
    assert_close(alone, plain, 0, 0)


@CLASSES
def test_gradients_and_parameters_of_zero_stay_finite(backend, of, options):
    def sparse(step):
        return [g * (np.arange(g.size).reshape(g.shape) == 0) * (step > 2) for g in gradients(step)]

    only = (0, ZERO) if backend in ("jax", "mlx") else ALL
    still, _, _ = run(lambda p: of(p, **options, weight_decay=0), 3, grads=sparse, dtype=gl.float32, only=only)
    for a, i in zip(still, only, strict=True):
        np.testing.assert_array_equal(a, starts()[i].astype("float32"))
    moved, _, _ = run(lambda p: of(p, **options, weight_decay=0), 8, grads=sparse, dtype=gl.float32, only=only)
    assert all(np.isfinite(a).all() for a in moved)
    assert moved[-1][0] != 0  # the parameter that starts at zero


@pytest.mark.parametrize(
    ("of", "options", "text"),
    [
        (gl.optim.Shampoo, {"lr": -1.0}, "Invalid learning rate: -1.0"),
        (gl.optim.Shampoo, {"eps": 0.0}, "Invalid epsilon value: 0.0"),
        (gl.optim.Shampoo, {"beta2": 1.5}, "Invalid beta2 value: 1.5"),
        (gl.optim.Shampoo, {"precondition_frequency": 0}, "Invalid precondition_frequency value: 0"),
        (gl.optim.SOAP, {"precondition_frequency": 1.5}, "Invalid precondition_frequency value: 1.5"),
        (gl.optim.SOAP, {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
        (gl.optim.SOAP, {"shampoo_beta": 1.0}, "Invalid shampoo_beta value: 1.0"),
    ],
    ids=str,
)
def test_refused_options(of, options, text):
    with pytest.raises(ValueError) as error:
        of(tensors(starts()), **options)
    assert str(error.value) == text


@CLASSES
def test_refused_parameters(of, options):
    with pytest.raises(gl.errors.ShapeError, match="up to 8 axes"):
        of([gl.ones(*[1] * 9, requires_grad=True)])
    with pytest.raises(gl.errors.DTypeError, match="expected: float32 or float64"):
        of([gl.ones(2, 2, dtype=gl.float16, requires_grad=True)])
    with pytest.raises(ValueError, match="Invalid precondition_frequency value: 0"):
        of([{"params": tensors(starts()), "precondition_frequency": 0}])
