"""Printing a graph as Python source. The text that is printed is the text that runs.

A node is printed as an operator (`a + b`), as a call into the engine's namespace (`xp.exp(x)`), as the engine's own kernel of the op, as
the expression of a body of one line, or as a call of a helper, which is the op's body and stands above. Values have the
names of the model's parts: `h0` is what the module "0" gives, `d_h0` its cotangent, `p["0.weight"]` a parameter.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import keyword
import linecache
import re
import textwrap
from collections.abc import Callable, Container
from types import CodeType, FunctionType
from typing import Any

from ..backends.base import Backend
from ..dtypes import DType
from ..ops.namespace import NAMESPACE
from ..ops.op import HALF, REGISTRY, Op, in_float32
from .graph import Graph, Node, Value
from .passes import substitute

INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "matmul": "@", "pow": "**",
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=",
    "equal": "==", "not_equal": "!=", "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^",
}  # fmt: skip


def identifier(text: str) -> str:
    """A Python name of a path such as "features.0.weight"."""
    name = re.sub(r"\W+", "_", text).strip("_")
    if not name or name[0].isdigit():
        name = "h" + name
    return name + "_" if keyword.iskeyword(name) or hasattr(builtins, name) else name


# ------------------------------------------------------------------------------------------------------- names


def name_values(graph: Graph, reserved: set[str], seeds: dict[Value, Value] | None = None) -> None:
    """Gives a name to each value that has none: by the module that made it, or the value that it is the cotangent of.

    Args:
        reserved: Names that are taken.
        seeds: {input: the value whose cotangent it is}.
    """
    if all(value.name is not None for node in graph.nodes for value in node.outputs):
        return
    of = cotangents(graph, seeds)
    counts: dict[str, int] = {}  # the last number of each name: long graphs have many of one
    taken = set(reserved) | {v.name for node in graph.nodes for v in node.outputs if v.name is not None}
    for node in graph.nodes:
        for value in node.outputs:
            if value.name is not None:
                continue
            if value in of:
                base = "d_" + re.sub(r"\W+", "_", _bare(of[value].name or "x"))
            elif value.label is not None:
                base = identifier(value.label)
                base = f"{base}_out" if base in reserved else base  # a layer may be called as an op is
            else:
                result = node.op.outputs[min(value.index, len(node.op.outputs) - 1)].lstrip("*")
                base = (
                    identifier(node.op.name if result == "out" else result)
                    if result != "out" or len(node.op.name) > 2
                    else "t"
                )
            name, k = base, counts.get(base, 0)
            while name in taken:
                k += 1
                name = f"{base}_{k}"
            counts[base] = k
            value.name = name
            taken.add(name)


def unique(base: str, taken: set[str]) -> str:
    """The name, with a number if it is taken."""
    name, k = base, 0
    while name in taken:
        k += 1
        name = f"{base}_{k}"
    return name


def _bare(name: str) -> str:
    found = re.fullmatch(r'\w+\["(.*)"\](\[\d+\])?', name)
    return found[1] if found else name


def cotangents(graph: Graph, seeds: dict[Value, Value] | None = None) -> dict[Value, Value]:
    """{value of the backward pass: the forward value whose cotangent (or a part of it) it is}, followed from the seeds."""
    of = dict(seeds or {})
    users: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for v in node.inputs:
            if type(v) is Value and node.phase == "forward":
                users.setdefault(v, []).append(node)
    for node in graph.nodes:
        if node.phase != "backward":
            continue
        first = next((v for v in node.inputs if type(v) is Value), None)
        if node.op.name == "ones_like" and first is not None:
            of[node.outputs[0]] = first
        elif node.op.name in ("add", "sum_to", "reshape", "astype") and first in of:
            of[node.outputs[0]] = of[first]
        elif "_vjp_" in node.op.name and first in of:
            forward = of[first].node
            if forward is not None and node.op.name.startswith(forward.op.name + "_vjp_"):
                targets = [
                    forward.inputs[forward.op.args.index(n[2:])] for n in node.op.outputs if n[2:] in forward.op.args
                ]
                for value, target in zip(node.outputs, targets, strict=False):
                    if type(target) is Value:
                        of[value] = target
    return of


def drop_copies(graph: Graph) -> None:
    """Removes nodes that give an operand as it is, such as the gradient of an addition without broadcasting."""
    same: dict[Value, Value] = {}
    for node in graph.nodes:
        if not node.several and node.op.name not in NAMESPACE and (template := inline(node.op)) is not None:
            for name, v in zip(node.op.args, node.inputs, strict=False):
                if template == f"{{{name}}}" and type(v) is Value:
                    same[node.outputs[0]] = v
    substitute(graph, same)
    graph.nodes = [node for node in graph.nodes if node.outputs[0] not in same]


# ----------------------------------------------------------------------------------------------------- helpers


class Helpers:
    """The functions that emitted source calls: op bodies and kernels, each printed once above it.

    Attributes:
        sources: name -> source text, in the order in which they are needed.
        namespace: What the text refers to that is not printed: `xp`, the engine's modules, dtypes, constants.
        blocks: Name of each function that a loop or branch calls.
    """

    def __init__(self, backend: Backend):
        self.backend = backend
        self.sources: dict[str, str] = {}
        self.namespace: dict[str, Any] = {"xp": backend.xp}
        self.blocks: dict[Graph, str] = {}
        self._keys: dict[Any, str] = {}

    def unique(self, name: str, key: Any) -> str:
        """The name of the helper made for `key`: `name`, with a number where others have it."""
        if key not in self._keys:
            taken = set(self._keys.values()) | set(self.sources) | set(self.namespace)
            k, made = 1, name
            while made in taken:
                k += 1
                made = f"{name}_{k}"
            self._keys[key] = made
        return self._keys[key]

    def op(self, record: Op) -> str:
        """The helper of an op: the engine's kernel of that name, or the op's body."""
        kernel = self.backend.fast.get(record.name) or self.backend.loops.get(record.name)
        name = record.name + "_" * hasattr(builtins, record.name)  # `max` stays Python's
        return self.function(name, kernel or record.body, drop_xp=kernel is None)

    def function(self, name: str, fn: Callable, drop_xp: bool = False) -> str:
        if name in self.sources or (name in self.namespace and not drop_xp):
            return name
        made = _source(fn, name, drop_xp)
        if made is None:
            self.namespace[name] = (
                fn  # the engine's own function, or one made by another: there is no text that would do
            )
            return name
        text, free = made
        self.sources[name] = ""  # takes its place before what it calls, which may call it
        for n in free:
            self._bind(n, fn)  # type: ignore[arg-type]
        del self.sources[name]
        self.sources[name] = text
        return name

    def block(self, base: str, graph: Graph, operands: list, taken: set[str]) -> str:
        """The function that a loop or branch calls; equal ones are printed once.

        Args:
            operands: What the node is given for the graph's inputs, whose names inputs without a label take.
            taken: Names that it may not have.
        """
        name = self.blocks.get(graph)
        if name is None:
            name = unique(base, {*taken, *self.sources, *self.namespace})
            self.blocks[graph] = name
            for v, operand in zip(graph.inputs, operands, strict=True):
                v.name = v.label or (type(operand) is Value and operand.name) or "x"
            self.sources[name] = ""
            text = function_text(name, graph, self)
            del self.sources[name]
            self.sources[name] = text
        return name

    def _bind(self, name: str, fn: FunctionType) -> None:
        """Makes a global that a helper refers to known to the emitted source."""
        if name not in fn.__globals__ or name == "xp":
            return
        value = fn.__globals__[name]
        if isinstance(value, FunctionType) and value.__module__.startswith("gradloom.") and not hasattr(value, "op"):
            self.function(name, value)
        elif self.namespace.setdefault(name, value) is not value:
            raise AssertionError(f"two meanings of {name} in emitted source")


def parsed(fn: FunctionType) -> tuple[str, Any]:
    """A function's text and its tree.

    Its lines are found by their indentation: `inspect.getsource` looks through all modules that are loaded and through each token.
    """
    lines = linecache.getlines(fn.__code__.co_filename, fn.__globals__)[fn.__code__.co_firstlineno - 1 :]
    start = next((i for i, line in enumerate(lines) if line.lstrip().startswith("def ")), 0)
    indent = " " * (len(lines[start]) - len(lines[start].lstrip())) if lines else ""
    outside = re.compile(rf"{indent}[^\s#)]|(?!{indent})\s*\S")
    end = next((i for i, line in enumerate(lines[start + 1 :], start + 1) if outside.match(line)), len(lines))
    try:
        text = textwrap.dedent("".join(lines[:end]))
        tree = ast.parse(text).body[0]
    except (SyntaxError, IndexError):  # a string that goes on at the left margin
        text = textwrap.dedent(inspect.getsource(fn))
        tree = ast.parse(text).body[0]
    return "".join(text.splitlines(True)[: tree.end_lineno]), tree


@functools.cache
def _source(fn: Callable, name: str, drop_xp: bool) -> tuple[str, tuple[str, ...]] | None:
    """A function's text under another name, without decorators, annotations and all but the first line of its docstring; and the
    globals that it uses."""
    if not isinstance(fn, FunctionType) or fn.__closure__:
        return None
    text, tree = parsed(fn)
    if not isinstance(tree, ast.FunctionDef):
        return None
    arguments = tree.args
    if drop_xp:
        arguments.args = arguments.args[1:]
    for a in (*arguments.args, *arguments.kwonlyargs, *arguments.posonlyargs, arguments.vararg, arguments.kwarg):
        if a is not None:
            a.annotation = None
    first, body = tree.body[0], tree.body
    lines = [f"def {name}({ast.unparse(arguments)}):"]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines.append(f'    """{first.value.value.strip().splitlines()[0]}"""')
        body = body[1:]
    if body:
        lines += [line.rstrip() for line in text.splitlines()[body[0].lineno - 1 :]]
    return "\n".join(lines), tuple(sorted(_globals(tree, fn.__code__) & fn.__globals__.keys()))


def _globals(tree: ast.FunctionDef, code: CodeType) -> set[str]:
    """The names that a function reads from its module or from Python; not those of attributes."""
    words = {n.id for statement in tree.body for n in ast.walk(statement) if isinstance(n, ast.Name)}
    return (words & _names(code)) - {*code.co_varnames, *code.co_cellvars}


def _names(code: CodeType) -> set[str]:
    """Global names, and names of attributes, of a function and those inside it."""
    return set(code.co_names).union(*(_names(c) for c in code.co_consts if isinstance(c, CodeType)))


_inline: dict[Op, str | None] = {}


def inline(record: Op) -> str | None:
    """A format string for an op whose body is one short `return` ("xp.maximum({x}, 0)"); None for longer ones."""
    if record not in _inline:
        _inline[record] = None
        fn = record.body
        if isinstance(fn, FunctionType) and not fn.__closure__ and not record.variadic:
            _, tree = parsed(fn)
            body = [s for s in tree.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            if len(body) == 1 and isinstance(body[0], ast.Return) and body[0].value is not None:
                names = [n for n in ast.walk(body[0]) if isinstance(n, ast.Name)]
                if not {n.id for n in names} & fn.__globals__.keys() and len(ast.unparse(body[0].value)) < 70:
                    for n in names:
                        if n.id in record.args or n.id in record.attrs:
                            n.id = f"{{{n.id}}}"
                    text = ast.unparse(body[0].value)
                    _inline[record] = text if text.count("{") == sum(n.id.startswith("{") for n in names) else None
    return _inline[record]


# --------------------------------------------------------------------------------------------------- expressions


def literal(x: Any) -> str:
    """Source text of a static attribute."""
    if isinstance(x, DType):
        return x.name if x.name != "bool" else "bool_"
    if isinstance(x, tuple):  # also a subclass, such as a shape: its repr need not be Python
        return "(" + ", ".join(literal(v) for v in x) + ("," if len(x) == 1 else "") + ")"
    if isinstance(x, list):
        return "[" + ", ".join(literal(v) for v in x) + "]"
    if isinstance(x, slice):
        return f"slice({literal(x.start)}, {literal(x.stop)}, {literal(x.step)})"
    if x is Ellipsis:
        return "Ellipsis"
    if isinstance(x, float) and (x != x or x in (float("inf"), float("-inf"))):
        return f'float("{x}")'
    return repr(x)


def operand(v: Any) -> str:
    return str(v.name) if type(v) is Value else literal(v)


def expression(node: Node, helpers: Helpers) -> str:
    """The right side of a node's line."""
    record, args = node.op, [operand(v) for v in node.inputs]
    attrs = {k: v for k, v in node.attrs.items() if k not in record.defaults or record.defaults[k] != v}
    for k, v in node.attrs.items():
        _bind_static(v, helpers)
        if isinstance(v, Graph):
            attrs[k] = _Name(helpers.blocks[v])
    while (
        args
        and args[-1] == "None"
        and record.defaults.get(record.args[min(len(args), len(record.args)) - 1], 0) is None
    ):
        args.pop()
    if record.name in helpers.backend.fast:
        return call(helpers.op(record), args, attrs)
    if record.name in INFIX and len(args) == 2:
        return f"{args[0]} {INFIX[record.name]} {args[1]}"
    if record.name == "negative":
        return f"-{args[0]}"
    if record.name == "getitem" and len(args) == 1:
        return f"{args[0]}[{index(node.attrs['key'])}]"
    if record.name == "transpose" and node.attrs["axes"] == (1, 0):
        return f"{args[0]}.T"
    if record.name in NAMESPACE:
        return call(f"xp.{record.name}", args, attrs)
    if in_half(node):
        rounds = {} if record.rounds == 1 else {"rounds": record.rounds}
        runner = helpers.function("in_float32", in_float32, drop_xp=True)
        return call(runner, [helpers.op(record), *args], attrs | rounds)
    template = inline(record)
    if template is not None:
        texts = {k: literal(v) for k, v in (*record.defaults.items(), *node.attrs.items())}
        texts.update(zip(record.args, args, strict=False))
        return template.format(**{k: f"({t})" if t[0] == "-" else t for k, t in texts.items()})
    return call(helpers.op(record), args, attrs)


def in_half(node: Node) -> bool:
    """Whether a node's body is run in float32, as its operands are float16 or bfloat16."""
    return node.op.wide and type(node.inputs[0]) is Value and HALF[node.inputs[0].dtype]


class _Name(str):
    """A name among attributes: printed without quotes."""

    __repr__ = str.__str__


def prepare(graph: Graph, helpers: Helpers) -> set[str]:
    """Makes the helpers of all nodes, and gives the names that values may not have."""
    taken = {v.name for node in graph.nodes for v in node.outputs if v.name} | {v.name for v in graph.inputs if v.name}
    for node in graph.nodes:
        for key, inner in node.attrs.items():
            if isinstance(inner, Graph):
                helpers.block(
                    f"{node.op.name}_{key}", inner, node.inputs[len(node.inputs) - len(inner.inputs) :], taken
                )
        if hasattr(node.op, "rule"):
            continue
        fast = node.op.name in helpers.backend.fast
        if fast or (node.op.name not in NAMESPACE and (inline(node.op) is None or in_half(node))):
            helpers.op(node.op)
        if not fast and node.op.name not in NAMESPACE and in_half(node):
            helpers.function("in_float32", in_float32, drop_xp=True)
    return set(helpers.sources) | set(helpers.namespace)


def call(name: str, args: list[str], attrs: dict[str, Any]) -> str:
    return f"{name}({', '.join(args + [f'{k}={literal(v)}' for k, v in attrs.items()])})"


def index(key: tuple) -> str:
    """Text of a static index."""

    def one(k: Any) -> str:
        if isinstance(k, slice):
            text = ":".join("" if b is None else str(b) for b in (k.start, k.stop))
            return text + (f":{k.step}" if k.step is not None else "")
        return "..." if k is Ellipsis else repr(k)

    return ", ".join(one(k) for k in key) or "()"


def _bind_static(v: Any, helpers: Helpers) -> None:
    if isinstance(v, DType):
        helpers.namespace[literal(v)] = v
    elif isinstance(v, tuple | list):
        for x in v:
            _bind_static(x, helpers)
    elif type(v).__name__ == "_Index":
        helpers.namespace["INDEX"] = v


# -------------------------------------------------------------------------------------------------------- lines


def body(
    graph: Graph,
    helpers: Helpers,
    line: Callable[[Node], list[str] | None] | None = None,
    width: int = 100,
    planned: Container = (),
) -> list[str]:
    """The lines of the function: one a node with its shape, the phases as headings, values deleted after their last use.

    Args:
        line: Prints a node in another way than as `name = expression`, or gives None.
        planned: Values that lie in buffers (graph/plan.py): they are not deleted.
    """
    last: dict[Value, Node] = {}
    for node in graph.nodes:
        for v in node.inputs:
            if type(v) is Value:
                last[v] = node
    kept = set(graph.outputs) | set(graph.inputs)
    dying: dict[Node, list[Value]] = {}
    for v, node in last.items():
        if v not in kept and v.constant is None:
            dying.setdefault(node, []).append(v)
    lines: list[str] = []
    phase = ""
    for node in graph.nodes:
        if node.phase != phase:
            phase = node.phase
            lines.append(f"# {phase}")
        special = line(node) if line is not None else None
        gone = [v.name for v in dying.get(node, ()) if v not in planned and v.name.isidentifier()]
        if special is not None:
            lines += special
            if gone:
                lines.append(f"del {', '.join(gone)}")
            continue
        used = [v for v in node.outputs if v in last or v in kept]
        names = ", ".join(v.name if v in last or v in kept else "_" for v in node.outputs) or "_"
        shapes = ", ".join(str(v.shape) for v in used)
        lines += comment(
            f"{names}{',' if node.several and len(node.outputs) == 1 else ''} = {expression(node, helpers)}",
            shapes,
            width,
        )
        if gone:
            lines.append(f"del {', '.join(gone)}")
    return lines


def function_text(name: str, graph: Graph, helpers: Helpers) -> str:
    """A graph as a function that returns a tuple."""
    for node in graph.nodes:
        for v in node.outputs:
            v.name = None
    reserved = {name, "xp", *REGISTRY, *prepare(graph, helpers)}
    for v in graph.inputs:
        v.name = unique(identifier(_bare(v.name or "x")), reserved)
        reserved.add(v.name)
    name_values(graph, reserved)
    lines = body(graph, helpers)
    results = ", ".join(v.name for v in graph.outputs) + ("," if len(graph.outputs) == 1 else "")
    lines += comment(f"return ({results})", "", 100)
    return f"def {name}({', '.join(v.name for v in graph.inputs)}):\n" + "\n".join("    " + line for line in lines)


def comment(text: str, note: str, width: int) -> list[str]:
    """The line with its comment in one column; a long one is wrapped at commas, inside brackets."""
    most = width + 6  # the function is indented by four
    if not note:
        return [text] if len(text) <= width else _wrap_at_commas(_bracketed(text, width), width)
    line = f"{text.ljust(64)}  # {note}"
    if len(line) <= most:
        return [line]
    parts = [text] if len(text) <= width else _wrap_at_commas(_bracketed(text, width), width)
    line = f"{parts[-1].ljust(64)}  # {note}"
    if len(line) <= most:
        return [*parts[:-1], line]
    return [*(["# " + p for p in textwrap.wrap(note, width)]), *parts]


def _bracketed(text: str, width: int) -> str:
    left, equals, right = text.partition(" = ")
    if not equals or "(" in left or "," not in left:
        return text
    fits = len(left) + 3 + len(right.partition(", ")[0]) < width  # the first break comes after the equals sign
    return text if fits else f"({left}) = {right}"


def _wrap_at_commas(text: str, width: int) -> list[str]:
    pieces = re.split(r"(?<=,) ", text)
    lines, now = [], ""
    for piece in pieces:
        if now and len(now) + len(piece) + 1 > width:
            lines.append(now)
            now = "    " + piece
        else:
            now = f"{now} {piece}" if now else piece
    return [*lines, now]


_serial = iter(range(1 << 62))


def build(name: str, source: str, namespace: dict[str, Any], filename: str | None = None) -> Callable:
    """Runs emitted source and gives its function `name`. Tracebacks show the lines of the source, which may be in a file."""
    filename = filename or f"<gradloom step {next(_serial)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    scope = dict(namespace)
    exec(compile(source, filename, "exec"), scope)
    return scope[name]


def module_text(helpers: Helpers, function: str) -> str:
    """Helpers and function as one text. Helpers that the function turned out not to need are left out."""
    needed: set[str] = set()
    texts = [function]
    while texts:
        words = set(re.findall(r"\w+", texts.pop()))
        new = (words & helpers.sources.keys()) - needed
        needed |= new
        texts += [helpers.sources[name] for name in new]
    return "\n\n\n".join([*(text for name, text in helpers.sources.items() if name in needed), function]) + "\n"
