"""A contestant in a process of its own: ``python -m benchmarks.worker module:factory``.

Reads one JSON object a line from stdin, ``{"do": ..., ...}``, and answers with one a line on stdout,
``{"answer": ...}`` or ``{"error": ...}``; the first line, before any command, says that the module is imported.

- ``block`` (seconds): one block, as ``harness.measure_block``.
- ``first`` (): seconds to build, of the first call, and of the first three calls together.
- ``curve`` (steps): what every step returned, as lists of numbers.
- ``memory`` (prime, steps): as ``harness.peak_memory``.
- ``call`` (): calls the target itself and answers with what it returns.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from typing import Any

from benchmarks.harness import Factory, measure_block, measure_memory, resolve


def _first(factory: Factory) -> dict[str, float]:
    start = time.perf_counter()
    step = factory()
    built = time.perf_counter()
    step()
    first = time.perf_counter()
    step()  # a step may compile again when it meets an optimizer that now has state
    step()
    third = time.perf_counter()
    return {"build": built - start, "first": first - built, "three": third - built}


def _numbers(value: Any) -> list[list[float]]:
    """A step's result, a loss or (loss, gradient, ...), as flat lists."""
    values = value if isinstance(value, tuple) else (value,)
    return [_flat(v) for v in values]


def _flat(value: Any) -> list[float]:
    if hasattr(value, "detach"):  # a Tensor, PyTorch's or ours
        value = value.detach()
    if hasattr(value, "numpy"):
        value = value.numpy()
    if not hasattr(value, "ravel"):
        return [float(value)]
    return [float(v) for v in value.ravel()]


def _answer(target: str, command: dict[str, Any]) -> Any:
    factory = resolve(target)
    match command["do"]:
        case "block":
            return vars(measure_block(factory, command["seconds"]))
        case "first":
            return _first(factory)
        case "curve":
            step = factory()
            return [_numbers(step()) for _ in range(command["steps"])]
        case "memory":
            prime = command["prime"]
            return measure_memory(factory, resolve(prime) if prime else None, command["steps"])
        case "call":
            return factory()
    raise ValueError(f"unknown command {command['do']!r}")


def _end_with_parent() -> None:
    """Linux ends this process with its parent, also while it is stopped and cannot see its stdin close."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def main(target: str) -> None:
    _end_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what engines print is not taken for an answer

    def reply(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    def guarded(work: Any) -> bool:
        try:
            reply({"answer": work()})
        except Exception as error:
            if os.environ.get("BENCHMARK_TRACEBACKS"):
                traceback.print_exc()
            reply({"error": f"{type(error).__name__}: {error}"})
            return False
        return True

    if not guarded(lambda: resolve(target) and None):
        return
    for line in sys.stdin:
        if not guarded(lambda: _answer(target, json.loads(line))):  # noqa: B023 (called at once)
            return


if __name__ == "__main__":
    main(sys.argv[1])
