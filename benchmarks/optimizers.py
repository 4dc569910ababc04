"""Updates alone: Adam over one, some and many float32 tensors beside the memory's bandwidth, and the other rules of
elements beside that of their own arrays. ``python -m benchmarks.optimizers [--quick]``.

The floor is a loop with the reads and writes of the update (Adam: reads of 4 arrays, writes of 3) over one flat array,
compiled by Numba and run in parallel; without Numba it is NumPy's, in chunks, which is slower than the memory. It is the
memory's: of small arrays it takes many in turn, since in training what lies between two updates drives them out of the
cache. What the cache alone would give, where arithmetic is the limit, stands beside it.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import itertools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.harness import Comparison, Step, compare
from benchmarks.report import Claim, Table

SIZES = {
    "one": ("1 tensor of 10M elements", 1, 10_000_000),
    "some": ("200 tensors of 50k elements", 200, 50_000),
    "many": ("2,000 tensors of 500 elements", 2_000, 500),
}
FLOOR, CACHED = "floor", "floor, in cache"
FLAT, SEPARATE = "gradloom, NumPy with Numba, flat gradient", "gradloom, NumPy with Numba"
NUMPY, TORCH = "gradloom, NumPy", "gradloom, PyTorch"
FUSED, FOREACH = "PyTorch, fused", "PyTorch, foreach"
JAX, OPTAX, TREE = "gradloom, JAX, a step", "optax, a step, one flat array", "optax, a step, pytree"
HAS_NUMBA = importlib.util.find_spec("numba") is not None


def run(quick: bool = False) -> list[Table]:
    """A table a size, and one of the other rules."""
    options: dict[str, Any] = {"blocks": 3, "seconds": 0.2} if quick else {"blocks": 9, "seconds": 1.0}
    return [*(measure(size, options, quick) for size in SIZES), rules(options)]


def measure(size: str, options: dict[str, Any], quick: bool = False) -> Table:
    """Adam over the tensors of one size."""
    title, count, length = SIZES[size]
    here = "benchmarks.optimizers:{}(" + f"count={count}, length={length}" + ", {})"
    contestants = {
        FLOOR: here.format("floor", "states=2"),
        CACHED: here.format("floor", "states=2, sets=1"),
        FLAT: here.format("flat", ""),
        SEPARATE: here.format("ours", "engine='numpy'"),
        NUMPY: here.format("ours", "engine='numpy', fused=False"),
        TORCH: here.format("ours", "engine='torch'"),
        FUSED: here.format("pytorch", "fused=True"),
        FOREACH: here.format("pytorch", "foreach=True"),
        JAX: here.format("ours_step", ""),
        OPTAX: here.format("optax_step", "flat=True"),
        TREE: here.format("optax_step", "flat=False"),
    }
    if not HAS_NUMBA:
        del contestants[FLAT], contestants[SEPARATE]
    if size != "many":
        del contestants[CACHED]
    else:
        del contestants[TREE]  # minutes to compile, as ours
        if quick:
            del contestants[JAX]
    comparison = compare(
        contestants,
        name=f"optimizers_{size}",
        title=f"Adam, {title}, float32",
        isolated=True,
        show=False,
        claims=[c for c in claims(size) if {c.contestant, c.baseline} <= contestants.keys()],
        **options,
    )
    elements = count * length
    table = comparison.table()
    table.notes += bandwidths(comparison, 28 * elements)
    table.notes.append("A step on JAX also computes its gradient, that of the sum of squares.")
    return table.show_and_save()


def claims(size: str) -> list[Claim]:
    """The targets, as ratios of times: 1 / 0.85 is 0.85 of the floor's bandwidth."""
    separate = {"one": 0.40, "some": 0.40, "many": 0.30}[size]
    made = [Claim(FLAT, FLOOR, 1 / 0.85), Claim(SEPARATE, FLOOR, 1 / separate)]
    if size != "some":
        made.append(Claim(NUMPY, FOREACH, {"one": 1.0, "many": 0.25}[size]))
    made.append(Claim(TORCH, FUSED, 1 / 3 if size == "many" else 1.0))
    made.append(Claim(JAX, OPTAX, 1.0))
    return made


def bandwidths(comparison: Comparison, size: int) -> list[str]:
    """GB/s of each contestant, from its fastest call and from the median."""
    return [
        f"{label}: {size / comparison.minimum(label) / 1e9:.1f} GB/s, in the median {size / comparison.median(label) / 1e9:.1f}."
        for label in comparison.blocks
    ]


# --- contestants ----------------------------------------------------------------------------------------


def floor(count: int, length: int, states: int, sets: int | None = None) -> Step:
    """Reads and writes of an update with so many state arrays, on several sets of arrays in turn."""
    size = count * length
    sets = -(-SIZES["one"][2] // size) if sets is None else sets
    arrays = [[made(size, k) for k in range(states + 2)] for _ in range(sets)]
    loop = compiled_floor(states) if HAS_NUMBA else numpy_floor
    loop(*arrays[0])
    turns = itertools.cycle(arrays)
    return lambda: loop(*next(turns))


def numpy_floor(p: np.ndarray, g: np.ndarray, *states: np.ndarray) -> None:
    """An estimate: each sum goes through the cache once more than it has to."""
    for start in range(0, p.size, 32768):
        part = slice(start, start + 32768)
        for a in (p, *states):
            np.add(a[part], g[part], out=a[part])


@functools.cache
def compiled_floor(states: int) -> Callable:
    """The loop as Numba compiles it, shared by threads."""
    import numba

    names = ["p", *(f"s{k}" for k in range(states))]
    lines = [
        f"def loop(g, {', '.join(names)}):",
        "    for i in range(g.size):",
        *(f"        {n}[i] = {n}[i] + g[i]" for n in names),
    ]
    scope: dict[str, Any] = {}
    exec("\n".join(lines), scope)
    loop = numba.njit(error_model="numpy", nogil=True)(scope["loop"])
    # Threads that sleep between calls: those of Numba itself spin, and on a busy machine lose more than they bring.
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads)

    def run(p: np.ndarray, g: np.ndarray, *rest: np.ndarray) -> None:
        step = -(-p.size // threads)
        parts = [slice(k, k + step) for k in range(0, p.size, step)]
        waiting = [pool.submit(loop, *(a[part] for a in (g, p, *rest))) for part in parts[1:]]
        loop(*(a[parts[0]] for a in (g, p, *rest)))
        for future in waiting:
            future.result()

    return run


def flat(count: int, length: int) -> Step:
    """What a compiled step of gradloom calls: parameters, state and gradient each in one array."""
    import gradloom as gl
    from gradloom.graph import fast
    from gradloom.optim.rules.rule import HOST

    adam = gl.optim.Adam([gl.zeros(1, requires_grad=True)])
    options = adam.param_groups[0]
    kernel = fast.kernel(adam.rule, adam.rule.flags(options), gl.float32)
    p, g, m, v = (made(count * length, k) for k in range(4))
    scalars = adam.rule.scalars(HOST, options, 10)
    return lambda: kernel([p], [g], [m], [v], *scalars)


def ours(count: int, length: int, engine: str, **options: Any) -> Step:
    """`Adam.step` of gradloom, eagerly, on gradients that lie apart."""
    import gradloom as gl

    gl.set_default_backend(engine)
    params = [gl.tensor(made(length, k), requires_grad=True) for k in range(count)]
    for k, p in enumerate(params):
        p.grad = gl.tensor(made(length, k))
    return gl.optim.Adam(params, **options).step


def pytorch(count: int, length: int, **options: Any) -> Step:
    """`Adam.step` of PyTorch."""
    import torch

    params = [torch.tensor(made(length, k), requires_grad=True) for k in range(count)]
    for k, p in enumerate(params):
        p.grad = torch.tensor(made(length, k))
    return torch.optim.Adam(params, **options).step


@functools.cache  # compiled once in a process
def ours_step(count: int, length: int) -> Step:
    """A compiled step of gradloom on JAX."""
    import jax

    import gradloom as gl

    gl.set_default_backend("jax")
    params = [gl.tensor(made(length, k), requires_grad=True) for k in range(count)]
    optimizer = gl.optim.Adam(params)

    @gl.jit
    def step(scale):
        optimizer.zero_grad()
        loss = sum(((p * p).sum() for p in params), start=scale * 0)
        loss.backward()
        optimizer.step()
        return loss

    scale = gl.tensor(1.0)
    step(scale)
    (blocks,) = optimizer._blocks.values()

    def call() -> None:
        loss = step(scale)
        jax.block_until_ready((loss.native, blocks[0].state))

    return call


@functools.cache
def optax_step(count: int, length: int, flat: bool) -> Step:
    """The same with optax, jitted as a whole, its arguments donated."""
    import jax
    import jax.numpy as jnp
    import optax

    params: Any = [jnp.asarray(made(length, k)) for k in range(count)]
    if flat:
        params = jnp.concatenate(params)
    adam = optax.adam(1e-3)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        loss, grads = jax.value_and_grad(lambda p: sum((x * x).sum() for x in jax.tree.leaves(p)))(params)
        updates, state = adam.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    now = [params, adam.init(params)]

    def call() -> None:
        *now[:], loss = step(*now)
        jax.block_until_ready((loss, now))

    return call


def made(size: int, seed: int) -> np.ndarray:
    """Positive numbers: they may be squares."""
    return np.random.default_rng(seed).random(size, np.float32) + np.float32(0.1)


# --- the other rules --------------------------------------------------------------------------------------


def rules(options: dict[str, Any]) -> Table:
    """Each rule of elements over one flat array of 4M, beside the floor of its own arrays."""
    import gradloom as gl
    from gradloom.optim.rules.rule import Rule

    found = {}
    for name in sorted(gl.optim.__all__):
        rule = getattr(getattr(gl.optim, name), "rule", None)
        if isinstance(rule, Rule) and rule.per == "element":
            found.setdefault(rule.name, name)
    contestants, states = {}, {}
    for rule_name, name in found.items():
        if HAS_NUMBA:
            optimizer = getattr(gl.optim, name)([gl.zeros(1, requires_grad=True)])
            states[rule_name] = len(optimizer.rule.state(optimizer.rule.flags(optimizer.param_groups[0])))
            contestants[rule_name] = f"benchmarks.optimizers:one_rule(name={name!r})"
    floors = {k: f"floor of {k + 2} arrays" for k in sorted({*states.values()} or {2})}
    comparison = compare(
        {label: f"benchmarks.optimizers:floor(count=1, length=4000000, states={k})" for k, label in floors.items()}
        | contestants,
        name="optimizers_rules",
        title="Update rules of elements on NumPy with Numba, 4M elements, flat, float32",
        isolated=True,
        show=False,
        claims=[Claim(name, floors[states[name]], 1.5) for name in contestants],
        **options,
    )
    return comparison.table().show_and_save()


def one_rule(name: str) -> Step:
    """The kernel of an optimizer's rule with its default options."""
    import gradloom as gl
    from gradloom.graph import fast
    from gradloom.optim.rules.rule import HOST

    optimizer = getattr(gl.optim, name)([gl.zeros(1, requires_grad=True)])
    rule, options = optimizer.rule, optimizer.param_groups[0]
    flags = rule.flags(options) | rule.phase(options, 10)
    kernel = fast.kernel(rule, flags, gl.float32)
    columns = [[made(4_000_000, k)] for k in range(2 + len(rule.state(flags)))]
    scalars = tuple(
        s if math.isfinite(s) else 1.0 for s in rule.scalars(HOST, options, 10, *rule.first_numbers(options))
    )
    return lambda: kernel(*columns, *scalars)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    run(parser.parse_args().quick)
