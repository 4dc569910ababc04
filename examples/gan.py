"""A GAN of two composed models learns a ring of points in the plane.

    python examples/gan.py [--backend numpy|jax|torch|mlx] [--quick]

Prints how far generated points are from the ring: the mean of |radius - 2|, and how evenly they lie around it.
"""

import argparse

import numpy as np

import gradloom as gl
from gradloom.models import LeakyRelu, Linear, Model
from gradloom.training.losses import binary_cross_entropy_with_logits, binary_cross_entropy_with_logits_gradient
from gradloom.training.optimizers import Adam

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default="numpy")
parser.add_argument("--quick", action="store_true")
args = parser.parse_args()
backend = gl.get_backend(args.backend)
steps, batch = 1000 if args.quick else 5000, 128
rng = np.random.default_rng(0)


def network(outputs: int) -> Model:
    model = Model()
    model |= Linear(64)(input="input")
    for layer in (LeakyRelu(), Linear(64), LeakyRelu(), Linear(outputs)):
        model += layer
    return model


def ring(n: int) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack([2 * np.cos(angle), 2 * np.sin(angle)], 1) + rng.normal(0, 0.05, (n, 2))


generator = gl.compile(network(2), backend, shapes={"input": [batch, 4]})
critic = gl.compile(network(1), backend, shapes={"input": [batch, 2]})
makes, judges = generator.randomize_params(seed=0), critic.randomize_params(seed=1)
optimizers = Adam(learning_rate=2e-3, beta1=0.5, beta2=0.99), Adam(learning_rate=2e-3, beta1=0.5, beta2=0.99)
states = [optimizers[0].init(makes), optimizers[1].init(judges)]
real, fake = backend.ones((batch, 1)), backend.zeros((batch, 1))


def judge(points, truth, **wanted):
    """The critic's loss for points of which it should say `truth`, and the gradients."""
    gradient = lambda o: {"output": binary_cross_entropy_with_logits_gradient(o["output"], truth)}
    outputs, gradients = critic.evaluate(judges, {"input": points}, output_gradients=gradient, **wanted)
    return float(binary_cross_entropy_with_logits(outputs["output"], truth)), gradients


def spread(points: np.ndarray) -> tuple[float, float]:
    """(mean distance from the ring, share of 12 sectors with at least a third of their part of the points)."""
    sectors = np.histogram(np.arctan2(points[:, 1], points[:, 0]), 12, (-np.pi, np.pi))[0]
    return float(np.abs(np.hypot(*points.T) - 2).mean()), float((sectors > len(points) / 36).mean())


for step in range(steps + 1):
    noise = backend.array(rng.normal(size=(batch, 4)))
    points = generator.evaluate(makes, {"input": noise})["output"]
    if step % (steps // 4) == 0:
        distance, covered = spread(np.asarray(backend.to_numpy(points)))
        print(f"step {step:4d}: distance {distance:.3f}, sectors {covered:.2f}")
    true_loss, g_true = judge(backend.array(ring(batch)), real)
    fake_loss, g_fake = judge(points, fake)
    total = type(g_true)({name: g + g_fake[name] for name, g in g_true.items()})
    judges, states[1] = optimizers[1].update(judges, total, states[1])
    _, through = judge(points, real)  # what would make the critic take them for real: its input's gradient
    _, gradients = generator.evaluate(makes, {"input": noise}, output_gradients={"output": through["input_grad"]})
    makes, states[0] = optimizers[0].update(makes, gradients, states[0])
