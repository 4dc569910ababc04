"""The page docs/conformance.md: what each entry of PyTorch's `op_db` came to."""

import textwrap

import torch

from .compare import DTYPES, entries, tolerance
from .mapping import find

_HEAD = """\
# Held against PyTorch

Written by `make conformance`; do not edit.

PyTorch {version} keeps a list of its operations with sample inputs, `op_db`, which its own tests use. Here the samples
go through gradloom as well, on the NumPy backend, and everything has to agree: values, shapes, dtypes, and in float64
the gradients of a random cotangent. The dtypes are {dtypes}.
Where PyTorch has an operation as a function, a method and a method that works in place, and gradloom has them too, all
three are run. `make test` runs some of the samples, and one of each operation on the other engines.

| | entries | samples |
|---|---:|---:|
| agree | {agree} | {passed} |
| refused with an error | | {refused} |
| different on purpose | | {different} |
| **fail** | {failing} | {failed} |
| gradloom does not have them | {absent} | |

An entry is one operation, or one variant of it (after the colon). A sample is *refused* where it asks for something that
gradloom says it does not have, and *different* where gradloom gives another result for a reason; both reasons are in
the table. Tolerances are those of `torch.testing.assert_close` (relative and absolute: {rtol64:g} and {atol64:g} in
float64, {rtol32:g} and {atol32:g} in float32) unless another is given.

## What there is

| entry | agree | refused | different | fail | notes |
|---|---:|---:|---:|---:|---|
"""


def page(found: dict[str, dict]) -> str:
    """The page as text.

    Args:
        found: {entry: its counts and reasons, as the tests note them}.
    """
    names = [name for name in entries() if name in found]
    absent = sorted({name for name in entries() if find(name) is None})

    def total(key: str) -> int:
        return sum(count(found[name][key]) for name in names)

    failing = sum(1 for name in names if found[name]["failed"])
    wide, narrow = tolerance("", "float64"), tolerance("", "float32")
    text = _HEAD.format(
        version=torch.__version__.split("+")[0], dtypes=", ".join(DTYPES[:-1]) + " and " + DTYPES[-1],
        agree=sum(1 for name in names if found[name]["passed"] and not found[name]["failed"]),
        passed=total("passed"), refused=total("refused"), different=total("different"), failing=failing,
        failed=total("failed"), absent=len(absent), rtol64=wide["rtol"], atol64=wide["atol"], rtol32=narrow["rtol"],
        atol32=narrow["atol"],
    )  # fmt: skip
    lines = [row(found[name]) for name in sorted(names)]
    text += "\n".join(lines) + "\n\n## What there is not\n\n"
    return text + textwrap.fill(", ".join(f"`{name}`" for name in absent), 118, break_on_hyphens=False) + "\n"


def count(value: int | dict) -> int:
    return value if isinstance(value, int) else sum(value.values())


def row(entry: dict) -> str:
    """An entry's line of the table."""
    notes = [*entry["refused"], *entry["different"]]
    for dtype in DTYPES[:2]:
        wider = tolerance(entry["name"], dtype)
        if wider != tolerance("", dtype):
            notes.append(f"{wider['rtol']:g} in {dtype}")
    counts = [str(count(entry[k]) or "") for k in ("passed", "refused", "different", "failed")]
    return f"| `{entry['name']}` | {' | '.join(counts)} | {'; '.join(notes)} |"
