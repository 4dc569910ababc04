"""Runs the Python code blocks of README.md and docs/*.md as a reader would: one page, one program, from top to bottom.

A block that cannot run in a test has `<!-- no-test: reason -->` on the line before it and is reported as skipped.
"""

import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if page.exists()]
MARKER = re.compile(r"\s*<!--\s*no-test:\s*(.*?)\s*-->\s*$")


@dataclass
class Block:
    """A code block: the number of its first line of code (from 1), its code, and why it is not run (None: it is)."""

    line: int
    code: str
    skip: str | None


def blocks_of(text: str) -> list[Block]:
    """The blocks fenced as ```python in a page; a block that has no end, or a marker without a block, is an error."""
    lines = text.splitlines()
    blocks: list[Block] = []
    used: set[int] = set()
    index = 0
    while index < len(lines):
        fence = re.match(r"(\s*)(`{3,})(.*)$", lines[index])
        if not fence:
            index += 1
            continue
        start = index + 1
        end = next((i for i in range(start, len(lines)) if lines[i].strip() == fence[2]), None)
        if end is None:
            raise ValueError(f"line {start}: the code block has no closing fence")
        if fence[3].strip() == "python":
            marker = MARKER.match(lines[index - 1]) if index else None
            if marker:
                used.add(index - 1)
                if not marker[1]:
                    raise ValueError(f"line {index}: `no-test` gives no reason")
            code = textwrap.dedent("\n".join(lines[start:end]))
            blocks.append(Block(start + 1, code, marker[1] if marker else None))
        else:
            used.update(range(start, end))  # a marker shown as an example in a block of text
        index = end + 1
    for number, line in enumerate(lines):
        if MARKER.match(line) and number not in used:
            raise ValueError(f"line {number + 1}: `no-test` has no ```python block on the next line")
    return blocks


def program_of(blocks: list[Block]) -> str:
    """The blocks that run as one program in which every line keeps its number in the page."""
    lines: list[str] = []
    for block in blocks:
        if block.skip is None:
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_runs(page, tmp_path):
    blocks = blocks_of(page.read_text(encoding="utf-8"))
    for block in blocks:
        if block.skip is None:  # each block is whole by itself, not only after the one before
            compile("\n" * (block.line - 1) + block.code, str(page), "exec")
    if all(block.skip is not None for block in blocks):
        pytest.skip("the page has no block to run")
    # A process of its own: a page may choose a default backend, start workers, or write files.
    script = tmp_path / f"{page.stem}.py"
    script.write_text(program_of(blocks), encoding="utf-8")
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{page.name} fails (its line numbers):\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _skipped():
    for page in PAGES:
        for block in blocks_of(page.read_text(encoding="utf-8")):
            if block.skip is not None:
                yield pytest.param(block.skip, id=f"{page.name}:{block.line}")


@pytest.mark.parametrize("reason", list(_skipped()))
def test_block_not_run(reason):
    pytest.skip(reason)


PAGE = """\
# A page
```python
x = 1
```
```sh
make demo
```
<!-- no-test: needs a GPU -->
```python
x = 2
```
- a list
  ```python
  if x == 1:
      y = 3
  ```
"""


def test_blocks_are_found_with_their_lines_and_reasons():
    assert blocks_of(PAGE) == [
        Block(3, "x = 1", None),
        Block(10, "x = 2", "needs a GPU"),
        Block(14, "if x == 1:\n    y = 3", None),
    ]


def test_program_shares_names_and_keeps_line_numbers():
    program = program_of(blocks_of(PAGE))
    assert program.splitlines()[2] == "x = 1"
    assert program.splitlines()[13] == "if x == 1:"
    names: dict[str, object] = {}
    exec(program, names)
    assert (names["x"], names["y"]) == (1, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- no-test: why -->\n", "line 1: `no-test` has no ```python block"),
        ("<!-- no-test: why -->\n\n```python\nx\n```\n", "line 1: `no-test` has no ```python block"),
        ("<!-- no-test: -->\n```python\nx\n```\n", "line 1: `no-test` gives no reason"),
        ("```python\nx\n", "line 1: the code block has no closing fence"),
    ],
)
def test_malformed_pages_are_errors(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        blocks_of(text)
