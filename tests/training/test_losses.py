"""Losses as functions of arrays: numbers, gradients, what is clamped, and what is refused; on all engines."""

import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import BackendError, DTypeError, ShapeError
from gradloom.training import losses

PAIRS = {
    "mse_loss": losses.mse_loss_gradient,
    "cross_entropy_loss": losses.cross_entropy_loss_gradient,
    "binary_cross_entropy": losses.binary_cross_entropy_gradient,
    "cross_entropy_with_logits": losses.cross_entropy_with_logits_gradient,
    "binary_cross_entropy_with_logits": losses.binary_cross_entropy_with_logits_gradient,
}
CLASSES = ["cross_entropy_loss", "cross_entropy_with_logits"]


def softmax(x, axis=1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def sample(name, indices=False, shape=(5, 4)):
    """(predictions, targets) in float64."""
    rng = np.random.RandomState(1)
    x, classes = rng.randn(*shape), rng.randint(0, shape[1], (shape[0], *shape[2:]))
    if name in CLASSES:
        targets = classes if indices else softmax(rng.randn(*shape))
        return (x if "logits" in name else softmax(x)), targets
    if name == "mse_loss":
        return x, rng.randn(*shape)
    return (x if "logits" in name else 1 / (1 + np.exp(-x))), rng.rand(*shape)


def expected(name, p, t):
    if name == "mse_loss":
        return np.mean((p - t) ** 2)
    if name in CLASSES:
        logs = np.log(p if name == "cross_entropy_loss" else softmax(p))
        t = t if t.ndim == p.ndim else np.moveaxis(np.eye(p.shape[1])[t], -1, 1)
        return -np.mean(np.sum(t * logs, axis=1))
    p = p if name == "binary_cross_entropy" else 1 / (1 + np.exp(-p))
    return -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))


def differences(fn, x, h=1e-6):
    found = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        found[i] = (float(fn(up)) - float(fn(down))) / (2 * h)
    return found


def both_targets(name):
    return [False, True] if name in CLASSES else [False]


CASES = [(name, indices) for name in PAIRS for indices in both_targets(name)]


@pytest.mark.parametrize(("name", "indices"), CASES)
def test_values_and_gradients(backend, name, indices):
    engine = gl.get_backend(backend)
    loss, gradient = getattr(losses, name), PAIRS[name]
    for shape in ((5, 4), (3, 4, 2)):
        p, t = sample(name, indices, shape)
        native = engine.array(p), engine.array(t)
        value, g = loss(*native), gradient(*native)
        assert type(value) in engine.array_types or isinstance(value, np.float32)
        assert type(g) in engine.array_types and engine.dtype_of(g) is gl.float32
        assert tuple(value.shape) == () and f"{value:.4f}" == f"{float(engine.to_numpy(value)):.4f}"
        np.testing.assert_allclose(engine.to_numpy(value), expected(name, p, t), rtol=1e-5)
        numeric = differences(lambda q, t=t: expected(name, q, t), p)
        np.testing.assert_allclose(engine.to_numpy(g), numeric, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "indices"), CASES)
@pytest.mark.parametrize("engine", ["numpy", "jax", "torch"])
def test_gradients_against_differences_in_float64(engine, name, indices):
    pytest.importorskip(engine)
    chosen = {"numpy": "NumpyBackend", "jax": "JaxBackend", "torch": "TorchBackend"}[engine]
    chosen = getattr(gl, chosen)(dtype="float64")
    loss, gradient = getattr(losses, name), PAIRS[name]
    p, t = sample(name, indices)
    target = chosen.array(t)
    # Outside of the backend's context: the arrays' dtype alone decides.
    g = gradient(chosen.array(p), target)
    assert chosen.dtype_of(g) is gl.float64 and chosen.dtype_of(loss(chosen.array(p), target)) is gl.float64
    numeric = differences(lambda q: chosen.to_numpy(loss(chosen.array(q), target)), p)
    np.testing.assert_allclose(chosen.to_numpy(g), numeric, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("name", "indices"), CASES)
def test_gradients_against_the_tape(backend, name, indices):
    p, t = sample(name, indices)
    if not indices:
        t = t.astype("float32")
    x = gl.tensor(p.astype("float32"), requires_grad=True)
    target = gl.tensor(t)
    value = getattr(losses, name)(x, target)
    assert isinstance(value, gl.Tensor) and f"{value:.4f}" == f"{value.item():.4f}"
    value.backward()
    g = PAIRS[name](x, target)
    np.testing.assert_allclose(g.detach().numpy(), x.grad.numpy(), rtol=1e-6, atol=1e-8)
    # The gradient is a function like any other: it can be differentiated again.
    (second,) = gl.autograd.grad((g * x.detach()).sum(), [x])
    again = gl.autograd.grad(getattr(losses, name)(x, target), [x], create_graph=True)[0]
    (theirs,) = gl.autograd.grad((again * x.detach()).sum(), [x])
    np.testing.assert_allclose(second.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "indices"), CASES)
def test_under_jax(name, indices):
    jax = pytest.importorskip("jax")
    p, t = sample(name, indices)
    p, t = jax.numpy.asarray(p, "float32"), jax.numpy.asarray(t, "int32" if indices else "float32")
    loss, gradient = getattr(losses, name), PAIRS[name]
    value, found = jax.jit(jax.value_and_grad(loss))(p, t)
    np.testing.assert_allclose(value, loss(p, t), rtol=1e-6)
    np.testing.assert_allclose(found, gradient(p, t), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(jax.jit(gradient)(p, t), gradient(p, t), rtol=1e-5, atol=1e-7)
    assert jax.vmap(loss)(jax.numpy.stack([p, p]), jax.numpy.stack([t, t])).shape == (2,)


@pytest.mark.parametrize(("name", "indices"), CASES)
def test_under_torch(name, indices):
    torch = pytest.importorskip("torch")
    p, t = (torch.from_numpy(a) for a in sample(name, indices))
    p.requires_grad_()
    loss = getattr(losses, name)(p, t)
    loss.backward()
    torch.testing.assert_close(PAIRS[name](p, t).detach(), p.grad)
    F = torch.nn.functional
    if "logits" in name or not indices:
        theirs = {
            "mse_loss": F.mse_loss, "binary_cross_entropy": F.binary_cross_entropy,
            "cross_entropy_with_logits": F.cross_entropy,
            "binary_cross_entropy_with_logits": F.binary_cross_entropy_with_logits,
        }.get(name)  # fmt: skip
        if theirs is not None:
            torch.testing.assert_close(loss, theirs(p, t))


def test_inside_of_a_compiled_step(backend):
    step = gl.jit(lambda p, t: (losses.cross_entropy_loss(p, t), losses.cross_entropy_loss_gradient(p, t)))
    p, t = (gl.tensor(a.astype("float32")) for a in sample("cross_entropy_loss"))
    for _ in range(2):
        value, g = step(p, t)
    np.testing.assert_allclose(value.numpy(), losses.cross_entropy_loss(p, t).numpy(), rtol=1e-6)
    np.testing.assert_allclose(g.numpy(), losses.cross_entropy_loss_gradient(p, t).numpy(), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_probabilities_are_clamped(backend, dtype):
    engine = gl.get_backend(backend)
    if backend == "numpy" and dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    p = engine.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 2.0], [0.5, 0.5]], dtype=dtype)
    t = engine.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], dtype=dtype)
    to = lambda a: np.asarray(engine.to_numpy(engine.astype(a, "float32")))
    worst = -np.log(float(gl.finfo(dtype).tiny))
    for targets in (t, engine.array([0, 0, 0, 0])):
        np.testing.assert_allclose(to(losses.cross_entropy_loss(p, targets)), (2 * worst + np.log(2)) / 4, rtol=1e-2)
        g = to(losses.cross_entropy_loss_gradient(p, targets))
        np.testing.assert_allclose(g, [[0, 0], [-0.25, 0], [0, 0], [-0.5, 0]])
    np.testing.assert_allclose(to(losses.binary_cross_entropy(p, t)), (400 + 2 * np.log(2)) / 8, rtol=1e-2)
    if dtype != "float16":  # whose largest number is 65504
        g = to(losses.binary_cross_entropy_gradient(p, t))
        assert np.isfinite(g).all()
        np.testing.assert_allclose(g[1:], [[0, 0], [0, 0], [-0.25, 0.25]])
        assert g[0, 0] < 0 < g[0, 1]  # what is wrong is pushed the right way


def test_logits_of_any_size(backend):
    engine = gl.get_backend(backend)
    x, t = engine.array([[1000.0, -1000.0]]), engine.array([[0.0, 1.0]])
    assert float(engine.to_numpy(losses.cross_entropy_with_logits(x, t))) == 2000
    assert float(engine.to_numpy(losses.binary_cross_entropy_with_logits(x, t))) == 1000
    np.testing.assert_array_equal(engine.to_numpy(losses.cross_entropy_with_logits_gradient(x, t)), [[1, -1]])


@pytest.mark.parametrize("name", CLASSES)
def test_indices_and_one_hot_rows(backend, name):
    engine = gl.get_backend(backend)
    p, t = sample(name, True)
    one_hot = np.eye(4, dtype="int64")[t]
    p = engine.array(p)
    loss, gradient = getattr(losses, name), PAIRS[name]
    for rows in (one_hot, one_hot.astype("float32"), one_hot.astype(bool)):
        np.testing.assert_allclose(
            engine.to_numpy(loss(p, engine.array(rows))), engine.to_numpy(loss(p, engine.array(t))), rtol=1e-6
        )
        np.testing.assert_allclose(
            engine.to_numpy(gradient(p, engine.array(rows))),
            engine.to_numpy(gradient(p, engine.array(t))),
            rtol=1e-5,
            atol=1e-7,
        )
    # One row by itself.
    np.testing.assert_allclose(
        engine.to_numpy(loss(p[0], engine.array(int(t[0])))),
        engine.to_numpy(loss(p[:1], engine.array(t[:1]))),
        rtol=1e-6,
    )
    t[0] = -100  # counts nothing
    np.testing.assert_allclose(
        engine.to_numpy(loss(p, engine.array(t))), engine.to_numpy(loss(p[1:], engine.array(t[1:]))), rtol=1e-6
    )
    assert not engine.to_numpy(gradient(p, engine.array(t)))[0].any()
    t[0] = 4  # no class
    assert np.isnan(engine.to_numpy(loss(p, engine.array(t))))
    assert np.isnan(engine.to_numpy(gradient(p, engine.array(t)))[0]).any()


def test_the_predictions_dtype_is_kept():
    p, t = sample("mse_loss")
    assert losses.mse_loss(p.astype("float32"), t).dtype == np.float32
    assert losses.mse_loss_gradient(p.astype("float32"), t).dtype == np.float32
    assert losses.mse_loss_gradient(p, t.astype("float32")).dtype == np.float64
    whole = losses.mse_loss_gradient(np.array([1, 2]), np.array([1, 4]))
    assert whole.dtype == np.float32 and whole.tolist() == [0, -2]


@pytest.mark.parametrize("name", [*PAIRS, *(f.__name__ for f in PAIRS.values())])
@pytest.mark.parametrize("shapes", [((4, 3), (4, 1)), ((4, 3), (3,)), ((4, 1), (4,)), ((4,), (4, 1)), ((2, 3), (3, 2))])
def test_nothing_broadcasts(backend, name, shapes):
    engine = gl.get_backend(backend)
    with pytest.raises(ShapeError) as caught:
        getattr(losses, name)(*(engine.zeros(s) for s in shapes))
    for text in (name, str(shapes[0]), str(shapes[1])):
        assert text in str(caught.value)


@pytest.mark.parametrize("name", [*CLASSES, *(f"{n}_gradient" for n in CLASSES)])
def test_indices_that_do_not_fit(backend, name):
    engine = gl.get_backend(backend)
    with pytest.raises(ShapeError, match=r"(?s)class index for each row.*\(4, 3\), target \(5,\)"):
        getattr(losses, name)(engine.zeros(4, 3), engine.zeros(5, dtype="int64"))


def test_what_is_no_array():
    for call in (lambda: losses.mse_loss([1.0], [1.0]), lambda: losses.cross_entropy_loss(np.ones((1, 2)), [0])):
        with pytest.raises(DTypeError, match="not an array"):
            call()
    torch = pytest.importorskip("torch")
    for fn in (losses.mse_loss, losses.mse_loss_gradient):
        with pytest.raises(BackendError, match="different backends"):
            fn(np.ones(2), torch.ones(2))
