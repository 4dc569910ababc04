"""Charts as SVG text. Colours are CSS variables, so that they follow the page's light or dark scheme."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 32


@dataclass
class Series:
    """A curve: a name, the values (None or NaN: a gap), and the CSS class of its colour."""

    name: str
    values: Sequence[float | None]
    style: str = "a"


def line_chart(title: str, xs: Sequence[float], series: Sequence[Series], log: bool = False) -> str:
    """Curves over epochs.

    Args:
        title: What readers of screens are told, with the last values.
        xs: The epochs.
        series: The curves.
        log: Logarithmic axis; values of 0 and below are gaps.

    Example:
        >>> text = line_chart("loss", [1, 2], [Series("train_loss", [2.0, 1.0])])
        >>> text.startswith("<svg"), text.count("<circle"), "epoch 2: train_loss 1" in text
        (True, 2, True)
    """
    usable = [v for s in series for v in s.values if v is not None and _shown(v, log)]
    low, high = (min(usable), max(usable)) if usable else (0.1, 1.0)
    ticks = log_ticks(low, high) if log else nice_ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    first, last = (min(xs), max(xs)) if xs else (0, 1)

    def px(x: float) -> float:
        share = 0.5 if last == first else (x - first) / (last - first)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 2)

    def py(y: float) -> float:
        share = (math.log(y / low) / math.log(high / low)) if log else (y - low) / (high - low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 2)

    parts = [_grid(ticks, py), _x_axis(xs, px)]
    for s in series:
        points = [(px(x), py(v), x, v) if _shown(v, log) else None for x, v in zip(xs, s.values, strict=True)]  # type: ignore[arg-type]
        parts.append(_curve(s, points))
    told = "; ".join(f"{s.name} {_last(s.values)}" for s in series)
    text = f"{title}{' (logarithmic)' if log else ''}, by epoch; at the end: {told}"
    data = {
        "x": [{"e": x, "px": px(x)} for x in xs],
        "s": [{"n": s.name, "c": s.style, "v": [_number(v) for v in s.values]} for s in series],
    }
    hover = f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}" x1="0" x2="0"/>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(text)}" '
        f'data-chart="{escape(json.dumps(data))}">' + "".join(parts) + hover + "</svg>"
    )


def _curve(s: Series, points: Sequence[tuple[float, float, float, float | None] | None]) -> str:
    """A polyline for each stretch without gaps; dots where there are few, or where a point stands alone."""
    stretches: list[list] = [[]]
    for point in points:
        if point is None:
            stretches.append([])
        else:
            stretches[-1].append(point)
    parts = []
    for stretch in stretches:
        if len(stretch) > 1:
            places = " ".join(f"{x:g},{y:g}" for x, y, *_ in stretch)
            parts.append(f'<polyline class="line {s.style}" points="{places}"/>')
        if stretch and (len(points) <= 40 or len(stretch) == 1):
            parts += [
                f'<circle class="dot {s.style}" cx="{x:g}" cy="{y:g}" r="2.5"><title>'
                f"epoch {e:g}: {escape(s.name)} {short(v)}</title></circle>"
                for x, y, e, v in stretch
            ]
    return "".join(parts)


def _grid(ticks: Sequence[float], py: Callable[[float], float]) -> str:
    parts = []
    for tick in ticks:
        y = py(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:g}" y2="{y:g}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:g}" text-anchor="end">{short(tick)}</text>')
    return "".join(parts)


def _x_axis(xs: Sequence[float], px: Callable[[float], float]) -> str:
    y = HEIGHT - BOTTOM
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>']
    for x in whole_ticks(xs):
        parts.append(f'<text class="tick" x="{px(x):g}" y="{y + 15}" text-anchor="middle">{x}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    return "".join([*parts, f'<text class="tick" x="{middle:g}" y="{HEIGHT - 3}" text-anchor="middle">epoch</text>'])


def bar_chart(title: str, xs: Sequence[int], values: Sequence[float], unit: str) -> str:
    """Bars over epochs.

    Example:
        >>> bar_chart("seconds", [1, 2], [0.5, 0.25], "s").count("<rect")
        2
    """
    ticks = nice_ticks(0.0, max(values, default=1.0) or 1.0)
    room = (WIDTH - LEFT - RIGHT) / max(len(xs), 1)
    high = ticks[-1]

    def py(y: float) -> float:
        return round(HEIGHT - BOTTOM - y / high * (HEIGHT - TOP - BOTTOM), 2)

    def px(x: float) -> float:
        return round(LEFT + (list(xs).index(int(x)) + 0.5) * room, 2)

    parts = [_grid(ticks, py)]
    wide = min(room * 0.7, 40)
    for x, v in zip(xs, values, strict=True):
        top = py(v)
        parts.append(
            f'<rect class="bar" x="{px(x) - wide / 2:.2f}" y="{top:g}" width="{wide:.2f}" height="{HEIGHT - BOTTOM - top:.2f}">'
            f"<title>epoch {x}: {short(v)} {escape(unit)}</title></rect>"
        )
    parts.append(_x_axis([x for x in whole_ticks(xs) if x in set(xs)] or list(xs), px))
    text = f"{title}, by epoch: from {short(min(values, default=0))} to {short(max(values, default=0))} {unit}"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(text)}">' + "".join(parts) + "</svg>"


# --- numbers


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that span a range.

    Example:
        >>> nice_ticks(0.13, 0.92)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        >>> nice_ticks(3.0, 3.0)
        [2.0, 3.0, 4.0]
    """
    if not high - low > 1e-12 * max(abs(low), abs(high)):
        step = abs(low) / 3 or 1.0
        return [low - step, low, low + step]
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = size * next(m for m in (1, 2, 2.5, 5, 10) if m * size >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(i * step, digits) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that span a range; 1, 2 and 5 times them where it is small.

    Example:
        >>> log_ticks(0.02, 3.0)
        [0.01, 0.1, 1.0, 10.0]
        >>> log_ticks(1.5, 4.0)
        [1.0, 2.0, 5.0]
    """
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    if last - first > 2:
        every = -(-(last - first) // 6)
        powers = [*range(first, last, every), last] if (last - first) % every else list(range(first, last + 1, every))
        return [10.0**p for p in powers]
    ticks = [m * 10.0**p for p in range(first, last + 1) for m in (1, 2, 5)]
    start = max((i for i, t in enumerate(ticks) if t <= low * (1 + 1e-9)), default=0)
    end = min((i for i, t in enumerate(ticks) if t >= high * (1 - 1e-9)), default=len(ticks) - 1)
    return [float(f"{t:.1g}") for t in ticks[start : max(end, start + 1) + 1]]


def whole_ticks(xs: Sequence[float], most: int = 8) -> list[int]:
    """Epochs to write below an axis: at most so many, at round distances.

    Example:
        >>> whole_ticks(range(1, 31)), whole_ticks([1, 2, 3])
        ([5, 10, 15, 20, 25, 30], [1, 2, 3])
    """
    if not xs:
        return []
    first, last = math.ceil(min(xs)), math.floor(max(xs))
    step = next(m * 10**p for p in range(12) for m in (1, 2, 5) if (last - first) // (m * 10**p) < most)
    return [first] if first == last else [x for x in range(first, last + 1) if x % step == 0]


def short(value: float | None) -> str:
    """A number in four digits.

    Example:
        >>> short(0.123456), short(1e-5), short(12), short(None)
        ('0.1235', '1e-05', '12', '–')
    """
    return "–" if value is None else f"{value:.4g}"


def _shown(value: float | None, log: bool) -> bool:
    return value is not None and math.isfinite(value) and (not log or value > 0)


def _number(value: float | None) -> str | None:
    return None if value is None else short(value)


def _last(values: Sequence[float | None]) -> str:
    return short(next((v for v in reversed(values) if v is not None), None))
