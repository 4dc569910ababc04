"""Where PyTorch would have a view's elements in memory: it decides what `view`, `reshape`, `contiguous` share and what
they copy.

Nothing here is about real memory, which is the engine's affair. The result of an operation counts as contiguous; a
view's strides follow from its lens (see `storage`).
"""

from __future__ import annotations

from typing import Any


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of a row-major array."""
    out, step = [], 1
    for n in reversed(shape):
        out.append(step)
        step *= max(n, 1)
    return tuple(reversed(out))


def strides_of(t: Any) -> tuple[int, ...]:
    """The strides, in elements, that the Tensor has in PyTorch."""
    chain = []
    while t._base is not None and t._strides is None:
        chain.append(t)
        t = t._base
    shape = tuple(t._array.shape)
    steps = contiguous_strides(shape) if t._base is None else t._strides
    for view in reversed(chain):
        op, attrs, _ = view._lens
        before, shape = shape, tuple(view._array.shape)
        rule = _RULES.get(op.name)
        found = rule(before, steps, shape, attrs) if rule else None
        steps = view._strides = contiguous_strides(shape) if found is None else found
    return steps


def is_contiguous(shape: tuple[int, ...], steps: tuple[int, ...]) -> bool:
    """Whether these are a row-major array's strides; those of axes of length 1 do not matter."""
    if 0 in shape:
        return True
    return all(n == 1 or s == c for n, s, c in zip(shape, steps, contiguous_strides(shape), strict=True))


def view_strides(shape: tuple[int, ...], steps: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...] | None:
    """The strides of the same elements, in the same order, in another shape; None where no strides give that."""
    if 0 in shape or not shape:
        return contiguous_strides(new)
    out = [0] * len(new)
    at = len(new) - 1
    inner, have, got = (
        steps[-1],
        1,
        1,
    )  # of the run of axes that lie behind each other: stride, elements, elements given to `new`
    for d in range(len(shape) - 1, -1, -1):
        have *= shape[d]
        if d and (shape[d - 1] == 1 or steps[d - 1] == have * inner):
            continue
        while at >= 0 and (got < have or new[at] == 1):
            out[at] = got * inner
            got *= new[at]
            at -= 1
        if got != have:
            return None
        if d:
            inner, have, got = steps[d - 1], 1, 1
    return tuple(out) if at < 0 else None


def _transposed(before, steps, shape, attrs):
    return tuple(steps[a] for a in attrs["axes"])


def _broadcast(before, steps, shape, attrs):
    new = len(shape) - len(before)
    return (0,) * new + tuple(0 if n == 1 and m != 1 else s for n, m, s in zip(before, shape[new:], steps, strict=True))


def _indexed(before, steps, shape, attrs):
    key = attrs["key"]
    taken = sum(k is not None and k is not Ellipsis for k in key)
    out, axis = [], 0
    for k in key:
        if k is None:
            out.append(before[axis] * steps[axis] if axis < len(before) else 1)
        elif k is Ellipsis:
            skipped = len(before) - taken
            out += steps[axis : axis + skipped]
            axis += skipped
        else:
            if isinstance(k, slice):
                out.append(steps[axis] * (k.step or 1))
            axis += 1
    return (*out, *steps[axis:])


def _diagonal(before, steps, shape, attrs):
    a, b = attrs.get("axis1", 0) % len(before), attrs.get("axis2", 1) % len(before)
    return (*(s for i, s in enumerate(steps) if i not in (a, b)), steps[a] + steps[b])


def _reshaped(before, steps, shape, attrs):
    return view_strides(before, steps, shape)


_RULES = {
    "reshape": _reshaped,
    "expand_dims": _reshaped,
    "squeeze": _reshaped,
    "transpose": _transposed,
    "broadcast_to": _broadcast,
    "getitem": _indexed,
    "diagonal": _diagonal,
}
