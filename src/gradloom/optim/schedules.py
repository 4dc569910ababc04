"""Schedules: pure functions from the number of updates done to a value.

A schedule may drive any hyper-parameter: a learning rate, weight decay, momentum, a loss weight. It holds no state, and its count
may be a Python number (the value is then a Python float, computed in float64) or an array of any engine, a Tensor, or a value
that is being traced: `optimizer = Adam(learning_rate=schedules.cosine(1e-3, 100))` works under `jax.jit` and `gradloom.jit`.

Counts start from 0, and what has ended keeps its last value. Where another schedule is expected a number may stand, and any
function of the count. `lr_scheduler` is PyTorch's face of the same formulas.

Example:
    >>> from gradloom.optim import schedules
    >>> rate = schedules.warmup(schedules.cosine(0.1, 90), steps=10)
    >>> [round(rate(n), 3) for n in (0, 5, 10, 55, 100)]
    [0.0, 0.05, 0.1, 0.05, 0.0]
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import OptionError, explain
from .curves import CYCLES, SHAPES, Arrays, Numbers, cycle_at, half_cosine, interpolated, triangle_at

__all__ = [
    "Schedule", "constant", "step", "multistep", "exponential", "linear", "polynomial", "cosine", "cosine_restarts",
    "piecewise", "one_cycle", "cyclic", "inverse_sqrt", "warmup", "warmup_cosine", "warmup_stable_decay", "cooldown",
    "join", "scale", "product",
]  # fmt: skip


class Schedule:
    """What the functions of this module make: call it with a count.

    Args:
        body: Takes the maths (`math` for numbers, ops for arrays, under the same names) and the count as a float.
        text: How it prints.
    """

    __slots__ = ("__weakref__", "_body", "_text")

    def __init__(self, body: Callable[[Any, Any], Any], text: str):
        self._body, self._text = body, text

    def __call__(self, count: Any) -> Any:
        """The value after `count` updates: a float, or an array of the count's engine and shape."""
        return self._body(Numbers if isinstance(count, numbers.Number) else Arrays, count * 1.0)

    def __repr__(self) -> str:
        return self._text


#: name -> function that makes a schedule
SCHEDULES: dict[str, Callable[..., Schedule]] = {}


def _schedule(make: Callable[..., Callable[[Any, Any], Any]]) -> Callable[..., Schedule]:
    """A function that gives a body, as one that gives a Schedule which prints as the call that made it."""

    @functools.wraps(make)
    def wrapper(*args: Any, **options: Any) -> Schedule:
        text = ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in options.items())])
        return Schedule(make(*args, **options), f"{make.__name__}({text})")

    wrapper.__annotations__["return"] = "Schedule"
    SCHEDULES[make.__name__] = wrapper
    return wrapper


def _positive(name: str, **options: float) -> None:
    for option, value in options.items():
        if not value > 0:
            raise OptionError(explain(f"schedules.{name}: {option} must be positive", given=f"{option}={value}"))


def _one_of(name: str, option: str, value: str, known: Any) -> Any:
    """The entry of a table, or an error that lists what there is."""
    if value not in known:
        raise OptionError(
            explain(f"schedules.{name}: unknown {option} {value!r}", expected=", ".join(map(repr, known)))
        )
    return known[value]


def _function(schedule: Any) -> Callable[[Any], Any]:
    """A schedule, or a number as a constant one."""
    return schedule if callable(schedule) else constant(schedule)


def _part(m: Any, t: Any, steps: float) -> Any:
    """t / steps, held between 0 and 1.

    It is held after the division: compilers may divide by multiplying, and what then is a rounding above 1 makes rates below 0.
    """
    return m.minimum(m.maximum(t / steps, 0.0), 1.0)


def _held(left: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A shape that ends at 1, for the same reason."""
    return lambda m, x: left(m, m.minimum(x, 1.0))


# --- decays


@_schedule
def constant(value: float):
    """The same value always.

    Example:
        >>> constant(0.1)(1000)
        0.1
    """
    return lambda m, t: m.like(t, value)


@_schedule
def step(value: float, step_size: int, gamma: float = 0.1):
    """value * gamma**(count // step_size); PyTorch's `StepLR`.

    Example:
        >>> [step(1.0, 3, gamma=0.5)(n) for n in (0, 2, 3, 6)]
        [1.0, 1.0, 0.5, 0.25]
    """
    _positive("step", step_size=step_size)
    return lambda m, t: value * m.pow(gamma, m.floor(t / step_size))


@_schedule
def multistep(value: float, milestones: Sequence[int] | Mapping[int, float], gamma: float = 0.1):
    """The value times gamma from each milestone on; PyTorch's `MultiStepLR`, optax's `piecewise_constant_schedule`.

    Args:
        value: The first value.
        milestones: Counts, in any order (one that comes twice counts twice), or {count: factor} with factors in place of gamma.
        gamma: Factor.

    Example:
        >>> [multistep(8.0, [2, 4], gamma=0.5)(n) for n in range(6)]
        [8.0, 8.0, 4.0, 4.0, 2.0, 2.0]
        >>> multistep(8.0, {2: 0.5, 4: 3.0})(4)
        12.0
    """
    factors = list(milestones.items()) if isinstance(milestones, Mapping) else [(b, gamma) for b in milestones]

    def body(m: Any, t: Any) -> Any:
        one = m.like(t, 1.0)
        return value * functools.reduce(lambda out, pair: out * m.where(t >= pair[0], pair[1], one), factors, one)

    return body


@_schedule
def exponential(
    value: float, gamma: float, steps: float = 1, begin: float = 0, staircase: bool = False, end: float | None = None
):
    """value * gamma**((count - begin) / steps) from `begin` on; optax's `exponential_decay`.

    Args:
        value: The first value.
        gamma: Factor for each `steps` counts.
        steps: Counts in which the value is multiplied by gamma once.
        begin: Where it begins.
        staircase: Multiply every `steps` counts only.
        end: A bound: the least value (for gamma >= 1 the largest).

    Example:
        >>> exponential(1.0, 0.5)(3), exponential(1.0, 0.5, steps=10, staircase=True)(19)
        (0.125, 0.5)
    """
    _positive("exponential", steps=steps)

    def body(m: Any, t: Any) -> Any:
        power = m.maximum(t - begin, 0.0) / steps
        out = value * m.pow(gamma, m.floor(power) if staircase else power)
        return out if end is None else (m.maximum if gamma < 1 else m.minimum)(out, end)

    return body


@_schedule
def polynomial(value: float, end: float, steps: float, power: float = 1.0, begin: float = 0):
    """(value - end) * (1 - (count - begin) / steps)**power + end; optax's `polynomial_schedule`.

    Example:
        >>> [polynomial(1.0, 0.0, steps=4, power=2)(n) for n in (0, 2, 4, 9)]
        [1.0, 0.25, 0.0, 0.0]
    """
    _positive("polynomial", steps=steps)

    def body(m: Any, t: Any) -> Any:
        return (value - end) * m.pow(1 - _part(m, t - begin, steps), power) + end

    return body


@_schedule
def linear(value: float, end: float, steps: float, begin: float = 0):
    """A straight line from value to end; optax's `linear_schedule`.

    Example:
        >>> [linear(1.0, 3.0, steps=4)(n) for n in (0, 1, 4, 5)]
        [1.0, 1.5, 3.0, 3.0]
    """
    _positive("linear", steps=steps)
    return lambda m, t: value + (end - value) * _part(m, t - begin, steps)


@_schedule
def cosine(value: float, steps: float, end: float = 0.0, exponent: float = 1.0):
    """From value to end along half a cosine (SGDR, https://arxiv.org/abs/1608.03983), and `end` from then on.

    The numbers of optax's `cosine_decay_schedule(value, steps, alpha=end / value, exponent=exponent)`.

    Example:
        >>> [round(cosine(1.0, steps=4)(n), 3) for n in range(6)]
        [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """
    _positive("cosine", steps=steps)

    def body(m: Any, t: Any) -> Any:
        left = half_cosine(m, _part(m, t, steps))
        return end + (value - end) * (left if exponent == 1 else m.pow(left, exponent))

    return body


@_schedule
def cosine_restarts(value: float, T_0: float, T_mult: float = 1, end: float = 0.0, decay: float = 1.0):
    """SGDR (https://arxiv.org/abs/1608.03983): cosines one after the other, each from the top again.

    PyTorch's `CosineAnnealingWarmRestarts`.

    Args:
        value: The value at the start of the first cycle.
        T_0: Length of the first cycle.
        T_mult: How many times as long as the one before each cycle is, from 1.
        end: The value that cycles fall to.
        decay: Factor of a cycle's height over the one before.

    Example:
        >>> [round(cosine_restarts(1.0, 2, T_mult=2)(n), 3) for n in range(7)]
        [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """
    _positive("cosine_restarts", T_0=T_0)
    if T_mult < 1:
        raise OptionError(explain("schedules.cosine_restarts: T_mult must be at least 1", given=f"T_mult={T_mult}"))

    def body(m: Any, t: Any) -> Any:
        x, n = cycle_at(m, t, T_0, T_mult)
        height = value - end if decay == 1 else (value - end) * m.pow(decay, n)
        return end + height * half_cosine(m, x)

    return body


# --- through several values


@_schedule
def piecewise(boundaries: Sequence[float], values: Sequence[float], shape: str = "linear"):
    """From value to value: `values[i]` is reached at `boundaries[i]`; optax's `piecewise_interpolate_schedule`.

    Args:
        boundaries: Counts, rising. Before the first and after the last the value stays.
        values: As many.
        shape: Between them: "linear", "cosine" or "sqrt".

    Example:
        >>> [piecewise([0, 2, 6], [0.0, 1.0, 0.0])(n) for n in (0, 1, 2, 4, 6, 7)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    """
    left = _one_of("piecewise", "shape", shape, SHAPES)
    if len(boundaries) != len(values) or len(values) < 2 or list(boundaries) != sorted(boundaries):
        raise OptionError(
            explain(
                "schedules.piecewise: boundaries must rise, and there must be as many values, two or more",
                given=f"boundaries={list(boundaries)}, values={list(values)}",
            )
        )

    def body(m: Any, t: Any) -> Any:
        return interpolated(m, m.minimum(m.maximum(t, boundaries[0]), boundaries[-1]), boundaries, values, _held(left))

    return body


@_schedule
def one_cycle(
    value: float,
    steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    shape: str = "cosine",
    three_phase: bool = False,
):
    """Up to the value and down to nearly nothing (https://arxiv.org/abs/1708.07120); PyTorch's `OneCycleLR`.

    Args:
        value: The largest value.
        steps: Length; the last value is that of count steps - 1.
        pct_start: Part of the steps in which the value rises.
        div_factor: It starts at value / div_factor ...
        final_div_factor: ... and ends at value / div_factor / final_div_factor.
        shape: "cosine" or "linear".
        three_phase: Fall as fast as it rose, back to the start, and then to the end.

    Example:
        >>> [round(one_cycle(1.0, 10, shape="linear")(n), 3) for n in (0, 1, 2, 9)]
        [0.04, 0.52, 1.0, 0.0]
    """
    _positive("one_cycle", steps=steps, div_factor=div_factor, final_div_factor=final_div_factor)
    left = _one_of("one_cycle", "shape", shape, SHAPES)
    start = value / div_factor
    boundaries: list[float] = [0, pct_start * steps - 1, steps - 1]
    values = [start, value, start / final_div_factor]
    if three_phase:
        boundaries.insert(2, 2 * pct_start * steps - 2)
        values.insert(2, start)
    return lambda m, t: interpolated(m, m.minimum(t, steps - 1), boundaries, values, _held(left))


@_schedule
def cyclic(
    value: float,
    peak: float,
    steps_up: float,
    steps_down: float | None = None,
    mode: str = "triangular",
    gamma: float = 1.0,
    scale_fn: Callable[[Any], Any] | None = None,
    scale_mode: str = "cycle",
):
    """Up and down between value and peak (https://arxiv.org/abs/1506.01186); PyTorch's `CyclicLR`.

    Args:
        value, peak: Where a cycle starts and ends, and what it reaches.
        steps_up, steps_down: Lengths of the two parts of a cycle; the second is like the first where it is not given.
        mode: "triangular", "triangular2" (each cycle half as high as the one before) or "exp_range" (height gamma**count).
        gamma: For "exp_range".
        scale_fn: Gives a cycle's relative height in place of the mode.
        scale_mode: Its argument: "cycle", the cycle's number, from 1, or "iterations", the count.

    Example:
        >>> [cyclic(0.0, 1.0, 2, mode="triangular2")(n) for n in range(8)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25]
    """
    total = steps_up + (steps_up if steps_down is None else steps_down)
    _positive("cyclic", steps_up=steps_up, cycle_length=total)
    if scale_fn is None:
        make, scale_mode = _one_of("cyclic", "mode", mode, CYCLES)
        height = make(gamma)
    else:
        _one_of("cyclic", "scale_mode", scale_mode, dict.fromkeys(("cycle", "iterations")))
        height = lambda m, n: scale_fn(n)

    def body(m: Any, t: Any) -> Any:
        triangle, cycle = triangle_at(m, t, total, steps_up / total)
        return value + (peak - value) * triangle * height(m, cycle if scale_mode == "cycle" else t)

    return body


# --- warm-up and cool-down


@_schedule
def warmup(schedule: float | Callable[[Any], Any], steps: float, start: float = 0.0, shape: str = "linear"):
    """Rises from `start` to the schedule's first value, then follows the schedule, which counts from there.

    Args:
        schedule: A schedule or a number.
        steps: Counts until the schedule begins; with 0 there is no warm-up.
        start: The first value.
        shape: "linear", or "exponential" (equal factors; start must be positive).

    Example:
        >>> rate = warmup(0.1, steps=4, start=0.02)
        >>> [round(rate(n), 3) for n in range(6)]
        [0.02, 0.04, 0.06, 0.08, 0.1, 0.1]
    """
    after = _function(schedule)
    _one_of("warmup", "shape", shape, dict.fromkeys(("linear", "exponential")))
    if shape == "exponential":
        _positive("warmup", start=start)
    if steps < 0:
        raise OptionError(explain("schedules.warmup: steps must not be negative", given=f"steps={steps}"))
    target = after(0)

    def body(m: Any, t: Any) -> Any:
        if steps == 0:
            return after(t)
        x = _part(m, t, steps)
        ramp = start + (target - start) * x if shape == "linear" else start * m.pow(target / start, x)
        return m.where(t < steps, ramp, after(m.maximum(t - steps, 0.0)))

    return body


@_schedule
def cooldown(
    schedule: float | Callable[[Any], Any], begin: float, steps: float, end: float = 0.0, shape: str = "linear"
):
    """Follows the schedule for `begin` updates, then falls from the value reached to `end`.

    Args:
        schedule: A schedule or a number.
        begin: Where the fall begins.
        steps: How long it takes.
        end: The last value.
        shape: "linear", "cosine" or "sqrt" (1 - sqrt(x), https://arxiv.org/abs/2405.18392).

    Example:
        >>> [cooldown(0.5, begin=2, steps=2)(n) for n in range(6)]
        [0.5, 0.5, 0.5, 0.25, 0.0, 0.0]
    """
    _positive("cooldown", steps=steps)
    left = _one_of("cooldown", "shape", shape, SHAPES)
    before = _function(schedule)
    top = before(begin)

    def body(m: Any, t: Any) -> Any:
        return m.where(t < begin, before(t), end + (top - end) * left(m, _part(m, t - begin, steps)))

    return body


@_schedule
def inverse_sqrt(value: float, warmup_steps: int, start: float = 0.0, timescale: float | None = None):
    """A linear warm-up, then value * sqrt(timescale / (timescale + updates since)) (https://arxiv.org/abs/1706.03762).

    Args:
        value: The largest value.
        warmup_steps: Length of the warm-up.
        start: The first value.
        timescale: Default: warmup_steps, which makes it value * sqrt(warmup_steps / count).

    Example:
        >>> [inverse_sqrt(1.0, 4)(n) for n in (0, 2, 4, 16)]
        [0.0, 0.5, 1.0, 0.5]
    """
    scale = warmup_steps if timescale is None else timescale
    _positive("inverse_sqrt", timescale=scale)
    return warmup(Schedule(lambda m, t: value * m.sqrt(scale / (t + scale)), "inverse_sqrt"), warmup_steps, start)._body


@_schedule
def warmup_cosine(value: float, warmup_steps: int, steps: int, start: float = 0.0, end: float = 0.0, cycles: int = 1):
    """A linear warm-up, then a cosine down to `end`; optax's `warmup_cosine_decay_schedule`.

    Args:
        value: The largest value.
        warmup_steps: Length of the warm-up.
        steps: Length of all, the warm-up included.
        start: The first value.
        end: The last value.
        cycles: In so many equal parts the rest falls anew from the top.

    Example:
        >>> [round(warmup_cosine(1.0, 2, 10)(n), 3) for n in (0, 1, 2, 6, 10, 20)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    """
    rest = steps - warmup_steps
    _positive("warmup_cosine", steps_after_warmup=rest, cycles=cycles)
    if cycles == 1:
        return warmup(cosine(value, rest, end), warmup_steps, start)._body
    return warmup(join([cosine_restarts(value, rest / cycles, end=end), end], [rest]), warmup_steps, start)._body


@_schedule
def warmup_stable_decay(
    value: float,
    warmup_steps: int,
    stable_steps: int,
    decay_steps: int,
    start: float = 0.0,
    end: float = 0.0,
    shape: str = "linear",
):
    """WSD: a linear warm-up, the value for a while, then down to `end` (https://arxiv.org/abs/2404.06395).

    Args:
        value: The largest value.
        warmup_steps, stable_steps, decay_steps: Lengths of the three parts.
        start, end: The first and the last value.
        shape: Of the decay: "linear", "cosine" or "sqrt".

    Example:
        >>> [warmup_stable_decay(1.0, 2, 3, 2)(n) for n in range(9)]
        [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    return cooldown(warmup(value, warmup_steps, start), warmup_steps + stable_steps, decay_steps, end, shape)._body


# --- of others


@_schedule
def join(schedules: Sequence[float | Callable[[Any], Any]], boundaries: Sequence[float]):
    """One schedule after the other, each counting from where it begins; optax's `join_schedules`.

    Args:
        schedules: Schedules or numbers.
        boundaries: Counts at which the next one begins, one less than schedules.

    Example:
        >>> [join([linear(0.0, 1.0, 2), 5.0, linear(1.0, 0.0, 2)], [2, 3])(n) for n in range(6)]
        [0.0, 0.5, 5.0, 1.0, 0.5, 0.0]
    """
    if len(boundaries) != len(schedules) - 1 or list(boundaries) != sorted(boundaries):
        raise OptionError(
            explain(
                "schedules.join: boundaries must rise, and there must be one less than schedules",
                given=f"{len(schedules)} schedules, boundaries={list(boundaries)}",
            )
        )
    parts = [_function(s) for s in schedules]

    def body(m: Any, t: Any) -> Any:
        out = parts[0](t)
        for boundary, part in zip(boundaries, parts[1:], strict=True):
            out = m.where(t < boundary, out, part(m.maximum(t - boundary, 0.0)))
        return out

    return body


@_schedule
def product(*schedules: float | Callable[[Any], Any]):
    """The product of the schedules' values.

    Example:
        >>> product(linear(1.0, 0.0, 4), step(1.0, 2, gamma=0.5))(2)
        0.25
    """
    parts = [_function(s) for s in schedules]
    return lambda m, t: functools.reduce(lambda out, part: out * part(t), parts, m.like(t, 1.0))


@_schedule
def scale(schedule: Callable[[Any], Any], factor: float):
    """The schedule's value times a factor, such as for a group of parameters with a smaller rate.

    Example:
        >>> scale(linear(1.0, 0.0, 4), 10)(2)
        5.0
    """
    return product(schedule, factor)._body
