"""Every exported optimizer minimizes: Rosenbrock's function, an ill-conditioned quadratic, and the loss of a small network on digits."""

import functools

import numpy as np
import pytest

import gradloom as gl
from gradloom import nn
from gradloom.training import optimizers as functional

CLASSES = {
    name: c
    for name in sorted(gl.optim.__all__)
    if isinstance(c := getattr(gl.optim, name), type)
    and issubclass(c, gl.optim.Optimizer)
    and c is not gl.optim.Optimizer
}

#: name -> rates for Rosenbrock's function, the quadratic and digits, and other options.
RATES = {
    "ADOPT": (0.3, 0.3, 0.01, {}),
    "ASGD": (0.001, 0.1, 0.3, {}),
    "AdEMAMix": (0.03, 0.03, 0.01, {}),
    "AdaBelief": (0.01, 0.1, 0.03, {}),
    "Adadelta": (0.1, 1.0, 1.0, {}),
    "Adafactor": (0.01, 0.1, 0.03, {}),
    "Adagrad": (1.0, 1.0, 0.1, {}),
    "Adam": (0.01, 0.03, 0.01, {}),
    "AdamW": (0.01, 0.03, 0.01, {}),
    "AdamWScheduleFree": (0.03, 0.3, 0.03, {}),
    "Adamax": (0.1, 0.3, 0.03, {}),
    "Adan": (0.01, 0.01, 0.03, {}),
    "Bound": (0.01, 0.03, 0.01, {}),
    "LAMB": (0.01, 0.03, 0.01, {"weight_decay": 0.0}),
    "LARS": (0.01, 0.1, 0.03, {"momentum": 0.9, "trust_coeff": 0.1}),
    "Lion": (0.003, 0.003, 0.003, {}),
    "Muon": (0.003, 0.01, 0.03, {"weight_decay": 0.0}),
    "NAdam": (0.01, 0.01, 0.01, {}),
    "NovoGrad": (0.001, 0.001, 0.01, {}),
    "Prodigy": (0.3, 1.0, 1.0, {}),
    "RAdam": (0.01, 0.1, 0.03, {}),
    "RMSprop": (0.003, 0.01, 0.01, {}),
    "Rprop": (0.03, 0.03, 0.03, {}),
    "SGD": (0.001, 0.1, 0.1, {"momentum": 0.9}),
    "SGDScheduleFree": (0.01, 1.0, 1.0, {}),
    "SOAP": (0.01, 0.01, 0.01, {"weight_decay": 0.0}),
    "Shampoo": (1.0, 1.0, 0.3, {}),
    "SophiaG": (0.1, 0.03, 0.01, {"weight_decay": 0.0, "rho": 1.0, "bs": 1}),
    "Yogi": (0.1, 0.3, 0.01, {}),
}
CLOSURES = {"LBFGS"}  # those that call the loss several times in a step
MATRICES = {"Muon"}  # those that take matrices only


def maker(name, problem):
    """The function that makes an optimizer for parameters."""
    assert name in RATES, f"add rates for {name} to this file"
    lr, options = RATES[name][problem], RATES[name][3]
    if name == "Bound":
        return lambda params: CLASSES[name](params, functional.Adam(lr))
    return lambda params: CLASSES[name](params, lr=lr, **options)


def rosenbrock():
    """(parameters, loss); 12.5 at the start, 0 at (1, 1), at the end of a bent valley."""
    w = gl.tensor([[-1.5, 2.0]], dtype=gl.float64, requires_grad=True)

    def loss():
        x, y = w[0, 0], w[0, 1]
        return (1.0 - x) ** 2 + 100.0 * (y - x * x) ** 2

    return [w], loss


def quadratic():
    """w'Hw / 2 in 20 dimensions, curvatures from 0.01 to 10 (condition 1000) in directions of no axis; 6 at the start."""
    rng = np.random.default_rng(0)
    directions, _ = np.linalg.qr(rng.normal(size=(20, 20)))
    root = gl.tensor(np.sqrt(np.logspace(-2, 1, 20))[:, None] * directions.T)
    w = gl.tensor(rng.normal(size=(4, 5)), requires_grad=True)

    def loss():
        return 0.5 * ((root @ w.reshape(20)) ** 2).sum()

    return [w], loss


def minimize(problem, make, steps):
    """The loss after so many steps."""
    params, loss = problem()
    optimizer = make(params)

    @gl.jit
    def step():
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    @gl.jit
    def curvature():
        optimizer.zero_grad()
        loss().backward()
        optimizer.update_hessian()

    for t in range(steps):
        if t % 10 == 0 and hasattr(optimizer, "update_hessian"):
            curvature()
        step()
    if hasattr(optimizer, "eval"):
        optimizer.eval()  # Schedule-Free: the average
    return loss().item()


@functools.cache
def digits():
    """(images to train on, labels, held-out images, labels)."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x, y = (data.data / 16).astype("float32")[order], data.target[order]
    return x[:1408], y[:1408], x[1408:], y[1408:]


def accuracy(make, epochs, bias=True):
    """Of a network of one hidden layer on held-out digits."""
    gl.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32, bias=bias), nn.ReLU(), nn.Linear(32, 10, bias=bias))
    optimizer = make(model.parameters())
    criterion = nn.CrossEntropyLoss()

    @gl.jit
    def step(x, y):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()

    @gl.jit
    def curvature(x, y):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.update_hessian()

    x, y, held_x, held_y = digits()
    rng = np.random.default_rng(1)
    for _ in range(epochs):
        for t, batch in enumerate(np.split(rng.permutation(len(y)), 22)):
            arguments = gl.tensor(x[batch]), gl.tensor(y[batch])
            if t % 10 == 0 and hasattr(optimizer, "update_hessian"):
                curvature(*arguments)
            step(*arguments)
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    with gl.no_grad():
        found = model(gl.tensor(held_x)).argmax(1).numpy()
    return float((found == held_y).mean())


ONE_LOSS_A_STEP = [name for name in CLASSES if name not in CLOSURES]


def test_the_tables_hold_what_is_exported():
    assert set(CLASSES) >= {*RATES, *CLOSURES}


@pytest.mark.parametrize("name", ONE_LOSS_A_STEP)
def test_rosenbrock(name):
    assert minimize(rosenbrock, maker(name, 0), 3000) < 0.1


@pytest.mark.parametrize("name", ONE_LOSS_A_STEP)
def test_quadratic(name):
    assert minimize(quadratic, maker(name, 1), 1000) < 0.05


@pytest.mark.parametrize("name", ONE_LOSS_A_STEP)
def test_digits(name):
    assert accuracy(maker(name, 2), 8, bias=name not in MATRICES) > 0.92


@pytest.mark.parametrize("problem", [rosenbrock, quadratic])
@pytest.mark.parametrize("name", sorted(CLOSURES))
def test_minimizers_that_take_a_closure(name, problem):
    params, loss = problem()
    optimizer = CLASSES[name](params, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    for _ in range(10):
        optimizer.step(closure)
    assert loss().item() < 1e-8


@pytest.mark.parametrize("name", sorted(CLOSURES))
def test_digits_with_a_closure(name):
    gl.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = CLASSES[name](model.parameters(), max_iter=10, line_search_fn="strong_wolfe")
    x, y, held_x, held_y = digits()
    x, y = gl.tensor(x), gl.tensor(y)

    def closure():
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(model(x), y)
        value.backward()
        return value

    for _ in range(5):
        optimizer.step(closure)
    assert (model(gl.tensor(held_x)).argmax(1).numpy() == held_y).mean() > 0.92
