"""Interleaved measurement of contestants.

A contestant is a factory: called without arguments it builds a fresh instance (model, optimizer, data)
and returns ``step``, a function without arguments that returns when its results are ready. One *block*
builds every contestant anew (where the heap puts its arrays is luck, and is drawn again), warms it up and
times it; blocks go A B C, B C A, C A B, ... so that a slow minute of the machine meets everyone. What is
compared is the ratio within a block; the table gives its median over the blocks.

Contestants are given as callables or as text, ``"package.module:factory"`` or
``"package.module:factory(batch=64)"``; text is needed for ``isolated=True``, where every contestant lives
in a process of its own, so that thread pools do not disturb each other. Only one process runs at a time:
the others are stopped (SIGSTOP), which keeps their idle threads from spinning. That is preferred to
OMP_WAIT_POLICY=PASSIVE and KMP_BLOCKTIME=0, which change how fast the measured engine is as well (PyTorch's
small steps take two to four times as long); ``passive=True`` sets those too.

This module imports the standard library only, so that a worker holds nothing but its contestant.
"""

from __future__ import annotations

import ast
import functools
import gc
import importlib
import itertools
import json
import math
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import Claim, Table, duration

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_SECONDS = 100e-6  # a sample of calls lasts at least this long, so that the clock costs nothing
SETTLE_SECONDS = 0.05  # between contestants: pools that spin before they sleep (OpenBLAS: 2**26 cycles)
NOISY = 0.25  # cores that others keep busy, above which a block is taken again
ATTEMPTS = 3
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "0"}

Step = Callable[[], Any]
Factory = Callable[[], Step]


# --- one block of one contestant ----------------------------------------------------------------------


@dataclass
class Block:
    """What one contestant did in one block; times in seconds, a call's unless said otherwise."""

    median: float
    minimum: float
    calls: int
    build: float  # the factory
    first: float  # the first call
    page_faults: float  # minor faults a call: 0, or the heap gives memory back and takes it again
    cpu: float  # processor seconds of the whole block
    foreign: float = 0.0  # cores kept busy by others (or taken by the hypervisor) meanwhile


def measure_block(factory: Factory, seconds: float) -> Block:
    """Builds an instance, warms it up for a quarter of ``seconds`` and times it for ``seconds``."""
    clock = time.perf_counter
    gc.collect()
    cpu = time.process_time()
    start = clock()
    step = factory()
    built = clock()
    step()
    first = clock()

    calls, end = 0, clock() + seconds / 4
    warm = clock()
    while calls < 3 or clock() < end:
        step()
        calls += 1
    inner = max(1, math.ceil(SAMPLE_SECONDS / ((clock() - warm) / calls)))

    samples: list[float] = []
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    end = clock() + seconds
    while len(samples) < 5 or clock() < end:
        begin = clock()
        for _ in itertools.repeat(None, inner):
            step()
        samples.append((clock() - begin) / inner)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    calls = len(samples) * inner
    return Block(
        median=statistics.median(samples),
        minimum=min(samples),
        calls=calls,
        build=built - start,
        first=first - built,
        page_faults=faults / calls,
        cpu=time.process_time() - cpu,
    )


# --- contestants given as text, and the processes they live in ------------------------------------------


def resolve(target: str) -> Factory:
    """Finds ``"module:name"`` or ``"module:name(option=literal, ...)"``: the function, its options bound."""
    module, _, expression = target.partition(":")
    tree = ast.parse(expression, mode="eval").body
    options = {}
    if isinstance(tree, ast.Call) and not tree.args:
        options = {k.arg: ast.literal_eval(k.value) for k in tree.keywords if k.arg}
        tree = tree.func
    if not module or not isinstance(tree, ast.Name):
        raise ValueError(f"expected 'module:name' or 'module:name(option=literal)', got {target!r}")
    return functools.partial(getattr(importlib.import_module(module), tree.id), **options)


class ContestantFailed(RuntimeError):
    """A contestant raised or its process ended; the message is its own."""


class Local:
    """A contestant in this process."""

    def __init__(self, factory: Factory | str) -> None:
        self._factory = resolve(factory) if isinstance(factory, str) else factory

    def block(self, seconds: float) -> Block:
        try:
            return measure_block(self._factory, seconds)
        except Exception as error:
            raise ContestantFailed(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        pass


class Worker:
    """A contestant in a process of its own: asked by lines of JSON, stopped while not asked."""

    def __init__(self, target: str, passive: bool = False) -> None:
        self._target = target
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=worker_environment(passive),
        )
        self._read()  # it has imported its module
        self._pause()

    def ask(self, do: str, **options: Any) -> Any:
        """Sends one command and waits for its answer; the commands are those of ``benchmarks.worker``."""
        self._process.send_signal(signal.SIGCONT)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **options}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer, or its absence, tells more
        answer = self._read()
        self._pause()
        return answer

    def block(self, seconds: float) -> Block:
        return Block(**self.ask("block", seconds=seconds))

    def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()  # also ends a stopped process
            self._process.communicate()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise ContestantFailed(f"{self._target}: its process ended ({self._process.returncode})")
        answer = json.loads(line)
        if "error" in answer:
            self.close()
            raise ContestantFailed(answer["error"])
        return answer["answer"]


def worker_environment(passive: bool = False) -> dict[str, str]:
    """The environment of a worker: this checkout first, and no compilation that an earlier run had kept."""
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
        **(PASSIVE if passive else {}),
    }


# --- comparing ------------------------------------------------------------------------------------------


@dataclass
class Comparison:
    """The blocks of every contestant, and what follows from them."""

    name: str
    title: str
    baseline: str
    blocks: dict[str, list[Block]]
    failures: dict[str, str] = field(default_factory=dict)
    claims: Sequence[Claim] = ()

    def median(self, contestant: str) -> float:
        return statistics.median(b.median for b in self.blocks[contestant])

    def minimum(self, contestant: str) -> float:
        return min(b.minimum for b in self.blocks[contestant])

    def ratio(self, contestant: str, baseline: str | None = None) -> float | None:
        """The median over blocks of time / the baseline's time in that block; None if one has failed."""
        ours = self.blocks.get(contestant)
        theirs = self.blocks.get(self.baseline if baseline is None else baseline)
        if not ours or not theirs:
            return None
        return statistics.median(a.median / b.median for a, b in zip(ours, theirs, strict=True))

    def minimum_ratio(self, contestant: str, baseline: str | None = None) -> float | None:
        """The ratio of the fastest samples of all blocks."""
        baseline = self.baseline if baseline is None else baseline
        if not self.blocks.get(contestant) or not self.blocks.get(baseline):
            return None
        return self.minimum(contestant) / self.minimum(baseline)

    def foreign(self) -> float:
        """Cores that others kept busy, the median over all blocks; on a busy machine only minima mean much."""
        return statistics.median([b.foreign for bs in self.blocks.values() for b in bs] or [0.0])

    def table(self) -> Table:
        rows = []
        for contestant, blocks in self.blocks.items():
            rows.append(
                [
                    contestant,
                    duration(self.median(contestant)),
                    duration(self.minimum(contestant)),
                    _times(self.ratio(contestant)),
                    _times(self.minimum_ratio(contestant)),
                    f"{statistics.median(b.page_faults for b in blocks):.0f}",
                ]
            )
        rows += [[contestant, "failed", "", "", "", ""] for contestant in self.failures]
        return Table(
            name=self.name,
            title=self.title,
            columns=["contestant", "median", "minimum", f"÷ {self.baseline}", "minima ÷", "faults"],
            rows=rows,
            claims=[
                claim.measured(
                    self.ratio(claim.contestant, claim.baseline),
                    self.minimum_ratio(claim.contestant, claim.baseline),
                )
                for claim in self.claims
            ],
            notes=[f"Other processes kept {self.foreign():.2f} cores busy."],
            failures=dict(self.failures),
            data={c: [vars(b) for b in blocks] for c, blocks in self.blocks.items()},
        )


def compare(
    contestants: Mapping[str, Factory | str],
    *,
    name: str,
    title: str = "",
    baseline: str | None = None,
    blocks: int = 9,
    seconds: float = 0.5,
    isolated: bool = False,
    passive: bool = False,
    claims: Sequence[Claim] = (),
    show: bool = True,
) -> Comparison:
    """Measures the contestants in interleaved blocks; prints a table and writes ``results/<name>.json``.

    Args:
        contestants: label to factory, or to ``"module:factory(option=...)"``.
        name: the file's name under ``results/``.
        title: a heading for the table.
        baseline: the label that ratios are taken to; the first one if not given.
        blocks: how often every contestant is rebuilt and timed.
        seconds: how long each is timed in a block.
        isolated: a process for each contestant (they must be given as text).
        passive: tell OpenMP's pools in the workers not to spin; changes the engines' own speed.
        claims: ratios to be held, reported beside what was measured.
        show: print the table and write the file.

    A contestant that raises is left out and reported under ``failures``; the others go on.
    """
    baseline = next(iter(contestants)) if baseline is None else baseline
    for label in (baseline, *(n for c in claims for n in (c.contestant, c.baseline))):
        if label not in contestants:
            raise ValueError(f"no contestant {label!r}; there are {', '.join(map(repr, contestants))}")
    runners: dict[str, Local | Worker] = {}
    failures: dict[str, str] = {}
    results: dict[str, list[Block]] = {}
    try:
        for label, factory in contestants.items():
            if isolated and not isinstance(factory, str):
                raise ValueError(f"{label!r}: isolated contestants are given as 'module:factory'")
            try:
                runners[label] = Worker(factory, passive) if isolated else Local(factory)
                results[label] = []
            except ContestantFailed as error:
                failures[label] = str(error)
        for number in range(blocks):
            for label in rotated(list(runners), number):
                try:
                    results[label].append(_observed(runners[label], seconds))
                except ContestantFailed as error:
                    failures[label] = str(error)
                    runners.pop(label).close()
                    del results[label]
    finally:
        for runner in runners.values():
            runner.close()
    comparison = Comparison(name, title or name, baseline, results, failures, claims)
    if show:
        comparison.table().show_and_save()
    return comparison


def rotated(labels: Sequence[str], number: int) -> list[str]:
    """The order of round ``number``: begins one further each time."""
    shift = number % max(1, len(labels))
    return [*labels[shift:], *labels[:shift]]


def fresh_answers(
    contestants: Mapping[str, str], do: str, rounds: int, **options: Any
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Asks ``do`` of every contestant, in a new process each time, interleaved.

    Returns:
        The answers by label, and the messages of those that failed.
    """
    answers: dict[str, list[Any]] = {label: [] for label in contestants}
    failures: dict[str, str] = {}
    for number in range(rounds):
        for label in rotated(list(contestants), number):
            if label in failures:
                continue
            try:
                with Worker(contestants[label]) as worker:
                    answers[label].append(worker.ask(do, **options))
            except ContestantFailed as error:
                failures[label] = str(error)
                del answers[label]
    return answers, failures


# --- memory ---------------------------------------------------------------------------------------------


def peak_memory(target: str, *, prime: str | None = None, steps: int = 10) -> dict[str, int]:
    """Peak resident memory of a contestant's steps, in a fresh process.

    Args:
        target: the contestant, ``"module:factory(...)"``.
        prime: a small instance of the same that is built, stepped and dropped before, so that code pages and
            thread pools, which are loaded at the first step, are not counted.
        steps: steps to run.

    Returns:
        Bytes above what the process held before the build: ``built`` after it, ``first`` the peak of
        build and first step (with what compiling needs), ``steady`` the peak of the steps after it.
    """
    with Worker(target) as worker:
        return worker.ask("memory", prime=prime, steps=steps)


def measure_memory(factory: Factory, prime: Factory | None, steps: int) -> dict[str, int]:
    """The worker's side of ``peak_memory``."""
    if prime is not None:
        step = prime()
        for _ in range(3):
            step()
        del step
    gc.collect()
    before = _resident("VmRSS")
    _reset_peak()
    step = factory()
    built = _resident("VmRSS")
    step()
    first = _resident("VmHWM")
    gc.collect()
    _reset_peak()
    for _ in range(steps):
        step()
    steady = _resident("VmHWM")
    return {"built": built - before, "first": first - before, "steady": steady - before}


def _resident(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}; peak memory is measured on Linux only")


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # 5: the peak becomes what is resident now


# --- the machine's quiet --------------------------------------------------------------------------------


def _observed(runner: Local | Worker, seconds: float) -> Block:
    """One block, with what others did meanwhile; taken again if they did much, and then the quietest."""
    blocks: list[Block] = []
    while not blocks or (blocks[-1].foreign > NOISY and len(blocks) < ATTEMPTS):
        time.sleep(SETTLE_SECONDS)
        begin, busy = time.perf_counter(), _busy_seconds()
        block = runner.block(seconds)
        wall = time.perf_counter() - begin
        block.foreign = max(0.0, (_busy_seconds() - busy - block.cpu) / wall)
        blocks.append(block)
    return min(blocks, key=lambda block: block.foreign)


def _busy_seconds() -> float:
    """Processor seconds that this machine was not idle (with those stolen from it); 0 off Linux."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    except OSError:
        return 0.0
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}"
