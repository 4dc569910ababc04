"""Classical models, composed: linear SVM, logistic regression, kernel ridge regression.

    python examples/classical.py [--backend numpy|jax|torch|mlx]

Each is a few lines of `gradloom.models`, trained with plain gradient descent, and is compared with scikit-learn's.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import gradloom as gl
from gradloom.models import L2, BinaryCrossEntropy, HingeLoss, Input, IOKey, Linear, Model, TrainModel


def linear_svm(penalty: float) -> TrainModel:
    """Hinge loss of a linear score (targets are -1 and 1), and the squared norm of its weight."""
    model = Model()
    model |= Linear(1)(output="score")
    train = TrainModel(model)
    train.add_loss(HingeLoss())
    train.add_regularization(L2(), coef=penalty)
    return train


def logistic_regression(penalty: float) -> TrainModel:
    """Cross-entropy of a linear score's sigmoid (targets are 0 and 1), and the squared norm of its weight."""
    model = Model()
    model |= Linear(1)(output="score")
    train = TrainModel(model)
    train.add_loss(BinaryCrossEntropy(from_logits=True))
    train.add_regularization(L2(), coef=penalty)
    return train


def kernel_ridge(points: np.ndarray, gamma: float, penalty: float) -> Model:
    """exp(-gamma |x - y|²) between inputs and training points, times one coefficient a point."""
    x, known = Input("x"), IOKey("points", value=points)
    squares = (x**2).sum(-1, keepdim=True) + (known**2).sum(-1) - 2 * (x @ known.T)
    kernel = (-gamma * squares).exp()
    alpha = IOKey("alpha", value=np.zeros(len(points)), trainable=True)
    prediction = kernel @ alpha
    error = prediction - Input("target")
    return Model.create(prediction=prediction, cost=(error**2).sum() + penalty * (prediction * alpha).sum())


def descend(
    compiled: gl.models.CompiledModel, inputs: dict, output: str, rate: float, steps: int
) -> tuple[dict, float]:
    """Gradient descent with momentum: (parameters, the last cost)."""
    params = compiled.get_parameters()
    momentum: dict = {}
    for _ in range(steps):
        outputs, gradients = compiled.evaluate(params, inputs, output_gradients={output: 1.0})
        for name, g in gradients.items():
            momentum[name] = 0.9 * momentum[name] + g if name in momentum else g
            params[name] = params[name] - rate * momentum[name]
    return params, float(compiled.backend.to_numpy(outputs[output]))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--backend", default="numpy", choices=["numpy", "jax", "torch", "mlx"])
    options.add_argument("--steps", type=int, default=500)
    given = options.parse_args()
    backend = gl.get_backend(given.backend)

    x, y = load_breast_cancer(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, random_state=0)
    scaler = StandardScaler().fit(x)
    x, x_test = scaler.transform(x), scaler.transform(x_test)
    n = len(x)
    for title, train, targets, theirs in (
        ("linear SVM", linear_svm(1 / n), 2.0 * y - 1, LinearSVC(C=1.0, loss="hinge", max_iter=100_000)),
        ("logistic regression", logistic_regression(1 / n), 1.0 * y, LogisticRegression(C=1.0, max_iter=1000)),
    ):
        compiled = gl.compile(train, backend)
        inputs = {"input": backend.array(x), "target": backend.array(targets[:, None])}
        params, cost = descend(compiled, inputs, "final_cost", 0.05, given.steps)
        new = {"input": backend.array(x_test), "target": backend.array(y_test[:, None])}
        score = backend.to_numpy(compiled.evaluate(params, new)["score"])[:, 0]
        accuracy = np.mean((score > 0) == (y_test == 1))
        print(
            f"{title:20} cost {cost:.4f}  accuracy {accuracy:.3f}  scikit-learn {theirs.fit(x, y).score(x_test, y_test):.3f}"
        )

    x, y = load_diabetes(return_X_y=True)
    x, y = StandardScaler().fit_transform(x), (y - y.mean()) / y.std()
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, random_state=0)
    gamma, penalty = 0.02, 1.0
    compiled = gl.compile(kernel_ridge(x, gamma, penalty), backend)
    inputs = {"x": backend.array(x), "target": backend.array(y)}
    params, cost = descend(compiled, inputs, "cost", 2e-5, 4 * given.steps)
    predictor = gl.compile(kernel_ridge(x, gamma, penalty), backend, discard_keys=["cost"], inference=True)
    found = backend.to_numpy(predictor.evaluate(params, {"x": backend.array(x_test)})["prediction"])
    theirs = KernelRidge(alpha=penalty, kernel="rbf", gamma=gamma).fit(x, y).predict(x_test)
    ours, other = (1 - np.mean((p - y_test) ** 2) / np.var(y_test) for p in (found, theirs))
    print(f"{'kernel ridge':20} cost {cost:.4f}  R2 {ours:.3f}  scikit-learn {other:.3f}")


if __name__ == "__main__":
    main()
