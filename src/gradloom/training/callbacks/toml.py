"""Plain values as TOML, which the standard library reads and does not write."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ...errors import OptionError, explain

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(values: Mapping[str, Any]) -> str:
    """A dict as a TOML document; entries that are None are left out.

    Args:
        values: Strings, numbers, bools, lists and dicts of them. Other things (paths) are written as strings.

    Example:
        >>> print(toml_text({"seed": 0, "optimizer": {"name": "Adam", "lr": 1e-3}}), end="")
        seed = 0
        <BLANKLINE>
        [optimizer]
        name = "Adam"
        lr = 0.001
    """
    plain = {k: v for k, v in values.items() if v is not None and not isinstance(v, Mapping)}
    lines = [f"{_key(k)} = {_value(v)}" for k, v in plain.items()]
    for name, table in values.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{_key(name)}]", *(f"{_key(k)} = {_value(v)}" for k, v in table.items() if v is not None)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _key(name: Any) -> str:
    return str(name) if _BARE.fullmatch(str(name)) else json.dumps(str(name))


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, (list, tuple)):
        items = [_value(v) for v in value]
        if sum(map(len, items)) > 100:
            return "[\n" + "".join(f"    {item},\n" for item in items) + "]"
        return "[" + ", ".join(items) + "]"
    if value is None:
        raise OptionError(explain("TOML has no None in a list", do="leave it out"))
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
