"""Python source as HTML, coloured by its tokens."""

from __future__ import annotations

import io
import keyword
import tokenize
from html import escape

_STRINGS = {tokenize.STRING}
for _name in ("FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END"):  # since Python 3.12
    if hasattr(tokenize, _name):
        _STRINGS.add(getattr(tokenize, _name))


def coloured(source: str) -> str:
    """The source, escaped, with spans of the classes kw, str, num and com; source that is no Python is escaped only.

    Example:
        >>> coloured("x = 1  # <one>")
        'x = <span class="num">1</span>  <span class="com"># &lt;one&gt;</span>'
    """
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    parts, done = [], 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            kind = _class(token)
            if kind is None:
                continue
            begin = starts[token.start[0] - 1] + token.start[1]
            end = starts[token.end[0] - 1] + token.end[1]
            if begin < done:
                continue
            parts += [escape(source[done:begin]), f'<span class="{kind}">{escape(source[begin:end])}</span>']
            done = end
    except (tokenize.TokenError, SyntaxError, IndexError):
        return escape(source)
    return "".join([*parts, escape(source[done:])])


def _class(token: tokenize.TokenInfo) -> str | None:
    if token.type == tokenize.COMMENT:
        return "com"
    if token.type in _STRINGS:
        return "str"
    if token.type == tokenize.NUMBER:
        return "num"
    return "kw" if token.type == tokenize.NAME and keyword.iskeyword(token.string) else None
