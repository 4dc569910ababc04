"""L-BFGS, PyTorch's face: a quasi-Newton method that asks for the loss as often as it needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import ops
from ..errors import TraceError, explain
from ..graph.graph import PLACE
from ..tensor.grad_mode import enable_grad, no_grad
from ..tensor.tensor import Tensor
from .block import plain_options
from .bound import Optimizer
from .groups import check_not_negative

C1, C2 = 1e-4, 0.9  # of the Wolfe conditions: decrease of the loss, flattening of the slope


class LBFGS(Optimizer):
    """Limited-memory BFGS; the numbers of `torch.optim.LBFGS`.

    A step takes a closure that computes the loss and its gradients, and calls it several times. The closure may be compiled by
    `gradloom.jit`; the step itself decides by values and can not be. State is kept as PyTorch keeps it, with the first parameter.

    Args:
        params: Tensors, in one group.
        lr: Length of a step, or where the line search begins.
        max_iter: Most iterations in a step.
        max_eval: Most calls of the closure in a step; default: max_iter * 5 // 4.
        tolerance_grad: Stop where no gradient is larger.
        tolerance_change: Stop where neither the loss nor a parameter changes more.
        history_size: How many last directions make up the curvature.
        line_search_fn: "strong_wolfe", or None for steps of the same length.

    Raises:
        ValueError: A negative rate, a rate of several elements, or several groups.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([-1.5, 2.0], requires_grad=True)
        >>> optimizer = gl.optim.LBFGS([w], line_search_fn="strong_wolfe")
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2  # Rosenbrock's valley
        ...     loss.backward()
        ...     return loss
        >>> for _ in range(3):
        ...     loss = optimizer.step(closure)
        >>> [round(x, 2) for x in w.tolist()]
        [1.0, 1.0]
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ):
        check_not_negative(lr=lr)
        super().__init__(
            params,
            {
                "lr": lr,
                "max_iter": max_iter,
                "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
                "tolerance_grad": tolerance_grad,
                "tolerance_change": tolerance_change,
                "history_size": history_size,
                "line_search_fn": line_search_fn,
            },
        )

    def check_group(self, group: dict[str, Any]) -> None:
        """Raises for a second group."""
        if self.param_groups:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    def step(self, closure: Callable) -> Any:  # type: ignore[override]
        """One step, of up to `max_iter` iterations.

        Args:
            closure: Computes the loss and its gradients anew, and returns the loss.

        Returns:
            What the closure returned first.

        Raises:
            RuntimeError: `line_search_fn` is neither None nor "strong_wolfe".
            TraceError: In a function that `gradloom.jit` compiles.
        """
        return super().step(closure)

    def _step(self, closure: Callable | None = None) -> Any:
        if PLACE.graph is not None:
            raise TraceError(
                explain(
                    "LBFGS.step decides by the values of losses and gradients how to go on; a compiled function has no values yet",
                    do="compile the closure instead: optimizer.step(gradloom.jit(closure))",
                )
            )
        assert closure is not None
        with no_grad(), np.errstate(all="ignore"):  # NumPy's numbers, whose quotients by 0 are infinite as in PyTorch
            return _Step(self, closure).run()


class _Step:
    """One step: the options, the closure, and where it is."""

    def __init__(self, optimizer: LBFGS, closure: Callable):
        self.o = plain_options(optimizer.param_groups[0])
        self.params: list[Tensor] = optimizer.param_groups[0]["params"]
        self.optimizer, self.closure = optimizer, closure
        # The state is replaced as a whole, so that what `state_dict` gave stays as it was.
        self.state: dict[str, Any] = {"func_evals": 0, "n_iter": 0, **optimizer.state.get(self.params[0], {})}
        self.evals = 0

    def evaluate(self) -> Any:
        """Calls the closure; sets the loss and the gradients of all parameters as one vector."""
        with enable_grad():
            result = self.closure()
        self.evals += 1
        self.loss = np.float64(float(result))
        self.grad = flat_gradients(self.params)
        return result

    def run(self) -> Any:
        """The step; gives what the closure returned first."""
        first = self.evaluate()
        if not largest(self.grad) <= self.o["tolerance_grad"]:
            for iteration in range(1, self.o["max_iter"] + 1):
                if self.iterate(iteration == self.o["max_iter"]):
                    break
        self.state["func_evals"] += self.evals
        self.optimizer.state[self.params[0]] = self.state
        return first

    def iterate(self, last: bool) -> bool:
        """One iteration; gives whether the step is at its end."""
        o, state = self.o, self.state
        state["n_iter"] += 1
        self.direct()
        state["prev_flat_grad"], state["prev_loss"] = self.grad, float(self.loss)
        slope = dot(self.grad, state["d"])
        if slope > -o["tolerance_change"]:
            return True
        if o["line_search_fn"] is None:
            self.move(state["t"], state["d"])
            if not last:
                self.evaluate()
        elif o["line_search_fn"] != "strong_wolfe":
            raise RuntimeError("only 'strong_wolfe' is supported")
        else:
            state["t"], self.loss, self.grad, _ = self.search(state["t"], state["d"], slope)
            self.move(state["t"], state["d"])
        return bool(
            last
            or self.evals >= o["max_eval"]
            or largest(self.grad) <= o["tolerance_grad"]
            or largest(state["d"]) * abs(state["t"]) <= o["tolerance_change"]
            or abs(self.loss - state["prev_loss"]) < o["tolerance_change"]
        )

    def direct(self) -> None:
        """Sets the direction `d` and the first length `t`: the two loops over the history (Nocedal, 1980)."""
        state, lr = self.state, self.o["lr"]
        if state["n_iter"] == 1:
            total = np.float64(float(ops.abs(self.grad).sum()))
            state.update(d=-self.grad, t=float(min(1.0, 1.0 / total) * lr))
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1)
            return
        self.remember()
        dirs, steps, ro = state["old_dirs"], state["old_stps"], state["ro"]
        al: list[Any] = [None] * max(len(dirs), self.o["history_size"])
        q = -self.grad
        for i in range(len(dirs) - 1, -1, -1):
            al[i] = ops.sum(steps[i] * q) * ro[i]
            q = q - al[i] * dirs[i]
        q = q * state["H_diag"]
        for i in range(len(dirs)):
            q = q + (al[i] - ops.sum(dirs[i] * q) * ro[i]) * steps[i]
        state.update(d=q, t=lr, al=al)

    def remember(self) -> None:
        """Adds the last step and the change of the gradient to the history, if they show curvature."""
        state = self.state
        y, s = self.grad - state["prev_flat_grad"], state["d"] * float(state["t"])
        ys = ops.sum(y * s)
        if float(ys) > 1e-10:
            full = len(state["old_dirs"]) == self.o["history_size"]
            for name, new in (("old_dirs", y), ("old_stps", s), ("ro", 1.0 / ys)):
                state[name] = [*state[name][full:], new]
            state["H_diag"] = ys / ops.sum(y * y)

    # --- the line search

    def move(self, t: float, d: Tensor) -> None:
        """Adds t * d to the parameters."""
        at = 0
        for p in self.params:
            p += (d[at : at + p.numel()] * t).reshape(tuple(p.shape))
            at += p.numel()

    def point(self, start: list[Tensor], t: float, d: Tensor) -> tuple:
        """(t, loss, gradient, slope) at start + t * d; the parameters are at `start` before and after."""
        self.move(t, d)
        self.evaluate()
        for p, value in zip(self.params, start, strict=True):
            p.copy_(value)
        return t, self.loss, self.grad, dot(self.grad, d)

    def search(self, t: float, d: Tensor, slope: Any) -> tuple:
        """The point at a length that satisfies the strong Wolfe conditions, or the best that was found.

        Brackets such a length, then zooms in (Nocedal and Wright, 2006, algorithms 3.5 and 3.6; Schmidt's minFunc).
        """
        most = self.o["max_eval"] - self.evals
        start = [p.clone() for p in self.params]
        origin = before = (0.0, self.loss, self.grad, slope)
        new = self.point(start, t, d)
        for tried in range(most):
            if new[1] > origin[1] + C1 * new[0] * slope or (tried > 1 and new[1] >= before[1]):
                return self.zoom([before, new], start, d, origin, most - tried)
            if abs(new[3]) <= -C2 * slope:
                return new
            if new[3] >= 0:
                return self.zoom([before, new], start, d, origin, most - tried)
            bounds = (new[0] + 0.01 * (new[0] - before[0]), new[0] * 10)
            before, t = new, float(cubic_minimum(before, new, bounds))
            new = self.point(start, t, d)
        return origin if origin[1] <= new[1] else new  # as many as are allowed, and none brackets it

    def zoom(self, bracket: list[tuple], start: list[Tensor], d: Tensor, origin: tuple, most: int) -> tuple:
        """Narrows a bracket until its lower end satisfies the conditions; gives that end."""
        _, loss, _, slope = origin
        size, stuck = largest(d), False
        low, high = _order(bracket)
        for _ in range(most):
            a, b = sorted((bracket[0][0], bracket[1][0]))
            if (b - a) * size < self.o["tolerance_change"]:
                break
            t = cubic_minimum(bracket[0], bracket[1])
            margin = 0.1 * (b - a)
            close = min(b - t, t - a) < margin
            if close and (stuck or t >= b or t <= a):  # at an end, or twice near one: a tenth away from it
                t = b - margin if abs(t - b) < abs(t - a) else a + margin
                close = False
            stuck = close
            new = self.point(start, float(t), d)
            if new[1] > loss + C1 * new[0] * slope or new[1] >= bracket[low][1]:
                bracket[high] = new
                low, high = _order(bracket)
                continue
            if abs(new[3]) <= -C2 * slope:
                return new
            if new[3] * (bracket[high][0] - bracket[low][0]) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = new
        return bracket[low]


def _order(bracket: list[tuple]) -> tuple[int, int]:
    """Which end has the smaller loss, and the other."""
    return (0, 1) if bracket[0][1] <= bracket[1][1] else (1, 0)


def flat_gradients(params: list[Tensor]) -> Tensor:
    """All gradients as one vector, a copy; zeros for parameters without one."""
    parts = [(ops.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in params]
    return ops.concat(*parts, axis=0) if len(parts) > 1 else parts[0].clone()


def largest(x: Tensor) -> Any:
    """The largest absolute value."""
    return np.float64(float(ops.abs(x).max()))


def dot(x: Tensor, y: Tensor) -> Any:
    """The scalar product, as a number."""
    return np.float64(float(ops.sum(x * y)))


def cubic_minimum(a: tuple, b: tuple, bounds: tuple | None = None) -> Any:
    """Where the cubic through two points (length, loss, gradient, slope) is smallest within bounds; their middle if it has no minimum."""
    (x1, f1, _, g1), (x2, f2, _, g2) = (a, b) if a[0] <= b[0] else (b, a)
    smallest, most = bounds if bounds is not None else (x1, x2)
    d1 = g1 + g2 - 3 * (f1 - f2) / np.float64(x1 - x2)
    square = d1**2 - g1 * g2
    if not square >= 0:
        return (smallest + most) / 2.0
    root = np.sqrt(square)
    t = x2 - (x2 - x1) * ((g2 + root - d1) / (g2 - g1 + 2 * root))
    return min(max(t, smallest), most)
