"""Which engines are installed, and which work: each is tried in a process of its own, which it may break."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.registry import backend_class, using_backend
from ..tensor.creation import tensor
from ..training.callbacks.run_folder import version_of

SOURCES = str(Path(__file__).parents[2])


@dataclass
class Engine:
    """What is known of an engine: its version ("": not installed), whether it works, devices, float64, or what went wrong."""

    name: str
    version: str
    works: bool = False
    devices: str = ""
    float64: bool = False
    fault: str = ""


def check(name: str, timeout: float) -> Engine:
    """Looks at an engine from outside."""
    found = Engine(name, version_of(name))
    if not found.version:
        found.fault = f"pip install 'gradloom[{name}]'"
        return found
    env = os.environ | {"PYTHONPATH": os.pathsep.join([SOURCES, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "gradloom.cli.engines", name], env=env, capture_output=True, text=True,
            timeout=timeout, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        found.fault = f"no answer in {timeout:g} s"
        return found
    lines = done.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
        found.works, found.devices, found.float64 = answer["works"], answer["devices"], answer["float64"]
        found.fault = answer["fault"]
    except (IndexError, ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        found.fault = f"ended with status {done.returncode}: {last}"
    return found


def table(found: list[Engine]) -> str:
    """The engines, a line each."""
    head = ["backend", "version", "works", "float64", "devices"]
    rows = [
        [
            e.name,
            e.version or "not installed",
            "yes" if e.works else "no",
            ("yes" if e.float64 else "no") if e.works else "",
            e.devices or e.fault,
        ]
        for e in found
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows])


def probe(name: str) -> dict[str, Any]:
    """Tries an engine here: a product and its gradient, against NumPy's."""
    answer: dict[str, Any] = {"works": False, "devices": "", "float64": False, "fault": ""}
    try:
        backend = backend_class(name)
        a, b = np.arange(6, dtype="float32").reshape(2, 3), np.arange(12, dtype="float32").reshape(3, 4)
        with using_backend(backend()):
            x = tensor(a, requires_grad=True)
            y = x @ tensor(b)
            y.sum().backward()
            right = np.allclose(y.detach().numpy(), a @ b) and np.allclose(x.grad.numpy(), b.sum(1) * np.ones_like(a))
        answer["works"] = bool(right)
        answer["fault"] = "" if right else "a product of matrices, or its gradient, is wrong"
        answer["devices"] = ", ".join(_devices(name))
        answer["float64"] = _float64(backend)
    except Exception as error:  # whatever an engine raises is what is asked for here
        answer["fault"] = f"{type(error).__name__}: {error}".splitlines()[0]
    return answer


def _devices(name: str) -> list[str]:
    """The devices that an engine sees."""
    if name == "jax":
        import jax

        return [f"{d.platform}:{d.id}" if d.platform != "cpu" else "cpu" for d in jax.devices()]
    if name == "torch":
        import torch

        more = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        return ["cpu", *more, *(["mps"] if torch.backends.mps.is_available() else [])]
    if name == "mlx":
        import mlx.core as mx

        return ["cpu", *(["gpu"] if "gpu" in str(mx.default_device()).lower() else [])]
    return ["cpu"]


def _float64(backend: Any) -> bool:
    """Whether float64 is kept."""
    try:
        with using_backend(backend(dtype="float64", device="cpu")):
            x = tensor(np.array([1.0 + 1e-12]))
            return bool((x * 1.0).numpy()[0] == 1.0 + 1e-12)
    except Exception:  # "no" is the answer
        return False


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):  # an engine that greets
        result = probe(sys.argv[1])
    print(json.dumps(result))
