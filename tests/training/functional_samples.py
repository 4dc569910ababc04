"""What tests of functional optimizers share: samples of all classes, and runs of them."""

import inspect

import numpy as np

import gradloom as gl
from gradloom.training import optimizers

CLASSES = {
    name: cls for name in optimizers.__all__ if getattr(cls := getattr(optimizers, name), "of", None) is not None
}

#: class -> options, besides a rate of 0.01, under the names of the bound class
SAMPLES = {
    "SGD": [
        {},
        {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True, "maximize": True},
    ],
    "Adam": [{}, {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True}],
    "AdamW": [{}, {"weight_decay": 0.2, "maximize": True}],
    "NAdam": [{"momentum_decay": 0.01, "weight_decay": 0.1}],
    "RAdam": [{"betas": (0.9, 0.7), "weight_decay": 0.1, "decoupled_weight_decay": True}],
    "Adamax": [{"weight_decay": 0.1}],
    "RMSProp": [{}, {"momentum": 0.9, "centered": True, "weight_decay": 0.1}],
    "AdaGrad": [{"lr_decay": 0.1, "initial_accumulator_value": 0.2, "weight_decay": 0.1}],
    "Adadelta": [{"rho": 0.8, "weight_decay": 0.1}],
    "Rprop": [{"etas": (0.4, 1.3), "step_sizes": (1e-5, 0.1)}],
    "ASGD": [{"lambd": 0.01, "alpha": 0.6, "t0": 2.0, "weight_decay": 0.1}],
    "Adafactor": [{"weight_decay": 0.1}],
    "Muon": [{"momentum": 0.8, "nesterov": False, "weight_decay": 0.2}],
    "Lion": [{"betas": (0.8, 0.9), "weight_decay": 0.1}],
    "AdaBelief": [{}, {"weight_decay": 0.1, "rectify": False, "amsgrad": True}],
    "Yogi": [{"weight_decay": 0.1}],
    "Adan": [{"weight_decay": 0.1}, {"weight_decay": 0.1, "no_prox": True}],
    "ADOPT": [{"weight_decay": 0.1}],
    "AdEMAMix": [{"alpha": 3.0, "alpha_warmup": 4, "beta3_warmup": 4, "weight_decay": 0.1}],
    "SophiaG": [{"rho": 0.1, "bs": 2.0, "weight_decay": 0.1}],
    "SGDScheduleFree": [{"warmup_steps": 3, "weight_decay": 0.1}, {"r": 1.0, "weight_lr_power": 0.0}],
    "AdamWScheduleFree": [{"warmup_steps": 3, "weight_decay": 0.1}],
    "LAMB": [{"weight_decay": 0.1, "trust_clip": True}],
    "LARS": [{"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1, "trust_clip": True}],
    "NovoGrad": [{"weight_decay": 0.1, "grad_averaging": True, "amsgrad": True}],
    "Shampoo": [{"momentum": 0.9, "weight_decay": 0.1, "precondition_frequency": 2}, {"beta2": 0.9}],
    "SOAP": [{"precondition_frequency": 2, "weight_decay": 0.1}],
    "Prodigy": [{"weight_decay": 0.1, "use_bias_correction": True, "safeguard_warmup": True}],
}
CASES = [(name, i) for name, samples in SAMPLES.items() for i in range(len(samples))]
STEPS = 5


def made(name, i=0, **options):
    return CLASSES[name](**{"learning_rate": 0.01, **SAMPLES[name][i], **options})


def values(seed, name="Adam", dtype="float32"):
    """{name: NumPy array}: a matrix, and a vector or another matrix."""
    rng = np.random.RandomState(seed)
    shapes = {"linear.weight": (4, 3), "linear.bias": (2, 5) if name == "Muon" else (3,)}
    return {n: rng.randn(*s).astype(dtype) for n, s in shapes.items()}


def arrays(engine, seed, name="Adam"):
    return {n: engine.array(x) for n, x in values(seed, name).items()}


def host(engine, tree):
    return {n: np.array(engine.to_numpy(getattr(x, "_array", x))) for n, x in tree.items()}


def trained(engine, optimizer, steps=STEPS, update=None, name="Adam", start=0, found=None):
    """Parameters and state after some updates from fixed gradients."""
    params, state = found or (arrays(engine, 0, name), None)
    state = optimizer.init(params) if state is None else state
    for k in range(start, start + steps):
        params, state = (update or optimizer.update)(params, arrays(engine, k + 1, name), state)
    return params, state


def signature_of(cls):
    return inspect.signature(cls).parameters.keys()


def close(a, b, rtol=1e-5, atol=1e-6):
    assert a.keys() == b.keys()
    for n in a:
        np.testing.assert_allclose(a[n], b[n], rtol=rtol, atol=atol, err_msg=n)


def frozen(engine, tree):
    return {n: (id(x), np.array(engine.to_numpy(x))) for n, x in tree.items()}


def model_and_data(backend):
    model = gl.Model()
    model |= gl.models.Embedding(7, 4, name="embedding")(input="tokens")
    model += gl.models.Linear(3)
    compiled = gl.compile(model, backend)
    return compiled, {"tokens": gl.get_backend(backend).array(np.arange(5))}


def gradients_of(compiled, params, inputs):
    return compiled.evaluate(params, inputs, output_gradients=lambda o: {k: 2 * v for k, v in o.items()})[1]


def as_tensors(tree):
    return {n: gl.tensor(x) for n, x in tree.items()}
