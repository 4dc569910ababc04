"""What the tests of optimizers share: parameters of all kinds, gradients, runs of ours, and runs of optax in float64."""

import numpy as np

import gradloom as gl

SHAPES = [(3, 4), (5,), (), (2, 3, 2, 2), (4,)]
ALL = range(5)
ZERO = 4  # the parameter that starts at zero


def starts():
    rng = np.random.default_rng(0)
    return [rng.normal(size=s) if k != ZERO else np.zeros(s) for k, s in enumerate(SHAPES)]


def gradients(step):
    """Of each parameter; at step 0 that of the second is 0."""
    rng = np.random.default_rng(100 + step)
    found = [np.asarray(rng.normal(size=s)) for s in SHAPES]
    if step == 0:
        found[1] = np.zeros(SHAPES[1])
    return found


def engine(name):
    """float64 on each engine: on JAX it is asked for."""
    return gl.JaxBackend(dtype="float64") if name == "jax" else name


def numbers(params):
    return [np.asarray(p.detach().numpy()) for p in params]


def tensors(arrays, dtype=None):
    return [gl.tensor(a, dtype=dtype or gl.float64, requires_grad=True) for a in arrays]


def stepper(optimizer, params, compiled):
    """A function of one gradient for each parameter (Tensors) that updates the parameters."""

    def step(*grads):
        optimizer.zero_grad()
        sum((p * g).sum() for p, g in zip(params, grads, strict=True)).backward()
        optimizer.step()

    return gl.jit(step) if compiled else step


def run(make, steps=20, compiled=False, dtype=None, each=None, grads=gradients, only=ALL):
    """The parameters after some steps of `make(params)`.

    Args:
        each: Called with the optimizer and the number of the step before each.
        only: Numbers of the parameters.
    """
    params = tensors([starts()[i] for i in only], dtype)
    optimizer = make(params)
    step = stepper(optimizer, params, compiled)
    for k in range(steps):
        if each is not None:
            each(optimizer, k)
        step(*(gl.tensor(grads(k)[i], dtype=dtype or gl.float64) for i in only))
    return numbers(params), optimizer, step


def run_optax(transform, steps=20, grads=gradients):
    import jax
    import optax

    with jax.enable_x64(True):
        params = [jax.numpy.asarray(a) for a in starts()]
        state = transform.init(params)
        for k in range(steps):
            updates, state = transform.update([jax.numpy.asarray(g) for g in grads(k)], state, params)
            params = optax.apply_updates(params, updates)
        return [np.asarray(p) for p in params]


def assert_close(found, expected, rtol=1e-10, atol=1e-13):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def check_resumes(make, compiled, only=ALL):
    """A run that is saved and loaded half way is bit-equal to one that is not."""
    whole, _, _ = run(make, 6, compiled, gl.float32, only=only)
    params = tensors([starts()[i] for i in only], gl.float32)
    optimizer = make(params)
    step = stepper(optimizer, params, compiled)
    for k in range(3):
        step(*(gl.tensor(gradients(k)[i], dtype=gl.float32) for i in only))
    copies = [p.detach().clone().requires_grad_() for p in params]
    other = make(copies)
    other.param_groups[0]["lr"] *= 0.5  # comes with the state
    other.load_state_dict(optimizer.state_dict())
    step = stepper(other, copies, compiled)
    for k in range(3, 6):
        step(*(gl.tensor(gradients(k)[i], dtype=gl.float32) for i in only))
    for a, b in zip(numbers(copies), whole, strict=True):
        np.testing.assert_array_equal(a, b)


def halved(optimizer, k):
    """A rate that changes at each step."""
    optimizer.param_groups[0]["lr"] *= 0.9
