"""The source of functions and classes: read, stripped of what only readers and checkers need, and with names replaced."""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import re
import textwrap
from collections.abc import Iterator
from types import CodeType
from typing import Any, NamedTuple


class Names(NamedTuple):
    """The names in a text that defines a function or class.

    Attributes:
        read: Global names that are read: (name, from, to, attribute), with places in bytes. Of an op's own functions,
            `name.op.forward` and `name.op.body`, the place is that of all of it, and the last word is the attribute.
        variables: Of all functions in it.
        of_xp: What is read of `xp`.
        modules: What is imported inside it; a relative import begins with ".".
        meaning: Equal for texts that differ in layout only.
    """

    read: list[tuple[str, int, int, str]]
    variables: set[str]
    of_xp: list[str]
    modules: list[str]
    meaning: str


@functools.lru_cache(4096)
def names(text: str) -> Names:
    """The names in a text."""
    tree, code = ast.parse(text), compile(text, "<exported>", "exec")
    starts = _starts(text)
    own: dict[int, tuple[int, str]] = {}
    of_xp: dict[str, None] = {}
    modules: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules.append("." * node.level + (node.module or ""))
        elif isinstance(node, ast.Attribute):
            inner = node.value
            if isinstance(inner, ast.Name) and inner.id == "xp":
                of_xp[node.attr] = None
            elif node.attr in ("forward", "body") and isinstance(inner, ast.Attribute) and inner.attr == "op":
                own[_begin(starts, node)] = (_end(starts, node), node.attr)
    read = set()
    variables: set[str] = set()
    for part in _codes(code):
        variables.update(part.co_varnames, part.co_cellvars)
        instructions = list(dis.get_instructions(part))
        stored = {i.argval for i in instructions if i.opname == "STORE_NAME"}
        for i in instructions:
            implicit = i.opname == "LOAD_NAME" and (i.argval in stored or i.argval.startswith("__"))
            if i.opname in ("LOAD_GLOBAL", "LOAD_NAME") and not implicit:
                p: Any = i.positions
                start = starts[p.lineno - 1] + p.col_offset
                read.add((i.argval, start, *own.get(start, (starts[p.end_lineno - 1] + p.end_col_offset, ""))))
    return Names(sorted(read, key=lambda r: r[1]), variables, list(of_xp), modules, ast.dump(tree))


@functools.lru_cache(4096)
def source(thing: CodeType | type, name: str, bfloat16: bool = True) -> str:
    """The text of a function's code or of a class, under another name.

    Without annotations, the function's decorators and all but the first line of docstrings. Without `bfloat16`,
    `to_bfloat16(x) if ... else x` is x.

    Raises:
        OSError: There is no source.
        ValueError: It is no `def` or `class` (a lambda).
    """
    text = textwrap.dedent(inspect.getsource(thing))
    tree: Any = ast.parse(text).body[0]
    if not isinstance(tree, ast.FunctionDef | ast.ClassDef):
        raise ValueError("neither a function nor a class")
    starts, raw = _starts(text), text.encode()
    edits: list[tuple[int, int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            edits.append((_begin(starts, node) + len(node.arg.encode()), _end(starts, node.annotation), ""))
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            edits.append((_end(starts, node.target), _begin(starts, node.value), " = "))
        elif isinstance(node, ast.IfExp) and not bfloat16 and _makes_bfloat16(node.body):
            edits.append((_begin(starts, node), _begin(starts, node.orelse), ""))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            first: Any = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                line = first.value.value.strip().splitlines()[0]
                edits.append((_begin(starts, first), _end(starts, first), f'"""{line}"""'))
            returns: Any = getattr(node, "returns", None)
            if returns is not None:
                arrow = raw.rindex(b"->", 0, _begin(starts, returns))
                edits.append((len(raw[:arrow].rstrip()), _end(starts, returns), ""))
    start = name_at = _begin(starts, tree)
    if isinstance(tree, ast.ClassDef) and tree.decorator_list:
        start = _begin(starts, tree.decorator_list[0]) - 1
    name_at += len("def " if isinstance(tree, ast.FunctionDef) else "class ")
    edits += [(0, start, ""), (name_at, name_at + len(tree.name.encode()), name)]
    return re.sub(r" +# (type: ignore|noqa).*$", "", edited(text, edits), flags=re.MULTILINE).rstrip()


def _makes_bfloat16(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "to_bfloat16"


def renamed(text: str, name: str, new: str) -> str:
    """A function's or class's text under another name, also where it calls itself."""
    edits = [(start, end, new) for n, start, end, _ in names(text).read if n == name]
    found = re.search(rf"^(?:def|class) ({name})\b", text, re.MULTILINE)
    assert found is not None
    start = len(text[: found.start(1)].encode())
    return edited(text, [*edits, (start, start + len(name.encode()), new)])


def edited(text: str, edits: list[tuple[int, int, str]]) -> str:
    """The text with (from, to, new), in bytes, replaced; an edit inside of another is left out."""
    raw, pieces, at = text.encode(), [], 0
    for start, end, new in sorted(edits, key=lambda e: (e[0], -e[1])):
        if start >= at:
            pieces += [raw[at:start], new.encode()]
            at = end
    return b"".join([*pieces, raw[at:]]).decode()


def _starts(text: str) -> list[int]:
    """The place of each line, in bytes, as Python's positions are."""
    starts = [0]
    for line in text.encode().split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    return starts


def _begin(starts: list[int], node: Any) -> int:
    return starts[node.lineno - 1] + node.col_offset


def _end(starts: list[int], node: Any) -> int:
    return starts[node.end_lineno - 1] + node.end_col_offset


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
