"""Recurrent layers, and their cells."""

from __future__ import annotations

from typing import Any, ClassVar

from ... import nn
from ...errors import OptionError, explain
from ..part import Layer, Shape, Shapes, size
from ..shapes import merged
from .base import at, at_least, choice, first, probability


class _LSTM(nn.LSTM):
    """An LSTM that takes and gives its two states one by one."""

    def forward(self, input: Any, hidden: Any = None, cell: Any = None) -> Any:
        out, (h, c) = super().forward(input, _both("LSTM", hidden, cell))
        return out, h, c


class _LSTMCell(nn.LSTMCell):
    def forward(self, input: Any, hidden: Any = None, cell: Any = None) -> Any:
        return super().forward(input, _both("LSTMCell", hidden, cell))


def _both(name: str, hidden: Any, cell: Any) -> Any:
    if (hidden is None) != (cell is None):
        raise OptionError(
            explain(
                f"{name} takes both states or none",
                given="initial_hidden only" if cell is None else "initial_cell only",
                do="connect both",
            )
        )
    return None if hidden is None else (hidden, cell)


_GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}


class _Recurrent(Layer):
    """What sequences and cells have in common: `kind` is their name without "Cell"."""

    kind: ClassVar[str]
    hidden_size: int
    use_bias: bool

    def _parameters(self, inside: int | None) -> dict[str, Shape]:
        """Shapes of the parameters for a size of the input."""
        raise NotImplementedError

    @property
    def parameter_keys(self) -> tuple[str, ...]:
        return tuple(self._parameters(None))

    @staticmethod
    def _inside(shapes: dict, weight: str) -> int | None:
        return first(at(shapes.get(weight), 1), at(shapes.get("input"), -1))

    def _block(self, inside: int | None, outside: int, suffix: str = "") -> dict[str, Shape]:
        rows = _GATES[self.kind] * self.hidden_size
        found: dict[str, Shape] = {"weight_ih" + suffix: (rows, inside), "weight_hh" + suffix: (rows, outside)}
        if self.use_bias:
            found |= {"bias_ih" + suffix: (rows,), "bias_hh" + suffix: (rows,)}
        return found


class _Sequence(_Recurrent):
    optional: ClassVar[tuple[str, ...]] = ("initial_hidden",)
    outputs: ClassVar[tuple[str, ...]] = ("output", "hidden")
    num_layers: int
    batch_first: bool
    dropout: float
    bidirectional: bool
    proj_size: int = 0

    def _check(self) -> None:
        at_least(self, 1, hidden_size=self.hidden_size, num_layers=self.num_layers)
        probability(self, "dropout", self.dropout)

    def _parameters(self, inside: int | None) -> dict[str, Shape]:
        directions = 2 if self.bidirectional else 1
        outside = self.proj_size or self.hidden_size
        found: dict[str, Shape] = {}
        for k in range(self.num_layers):
            for suffix in (f"_l{k}", f"_l{k}_reverse")[:directions]:
                found |= self._block(inside if k == 0 else outside * directions, outside, suffix)
                if self.proj_size:
                    found["weight_hr" + suffix] = (self.proj_size, self.hidden_size)
        return found

    def _common(self, given: dict) -> dict[str, Any]:
        inside = self._inside(given, "weight_ih_l0")
        return {
            "input_size": size((inside,), 0) if inside is not None else size(given.get("input"), -1),
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "bias": self.use_bias,
            "batch_first": self.batch_first,
            "dropout": self.dropout,
            "bidirectional": self.bidirectional,
        }

    def relate(self, shapes: Shapes) -> Shapes:
        x, y = shapes.get("input"), shapes.get("output")
        inside = self._inside(shapes, "weight_ih_l0")
        found: Shapes = dict(self._parameters(inside))
        lead = merged(None if x is None else x[:-1], None if y is None else y[:-1])
        if lead is None or len(lead) not in (1, 2):
            return found
        directions, out = 2 if self.bidirectional else 1, self.proj_size or self.hidden_size
        states = [key for key in ("hidden", "cell", "initial_hidden", "initial_cell") if shapes.get(key) is not None]
        batch: Shape = ()
        if len(lead) == 2:
            k = 0 if self.batch_first else 1
            n = first(lead[k], *(at(shapes[key], -2) for key in states))
            lead, batch = (n, lead[1]) if k == 0 else (lead[0], n), (n,)
        found |= {"input": (*lead, inside), "output": (*lead, directions * out)}
        for key in ("hidden", "initial_hidden"):
            found[key] = (self.num_layers * directions, *batch, out)
        for key in ("cell", "initial_cell"):
            found[key] = (self.num_layers * directions, *batch, self.hidden_size)
        return found


class RNN(_Sequence):
    """h = tanh(W_ih input + b_ih + W_hh h + b_hh) over a sequence (L, N, E): output (L, N, directions * hidden_size).

    `hidden` and `initial_hidden` are (layers * directions, N, hidden_size). N may be missing.

    Args:
        hidden_size: Size of h.
        num_layers: Layers on top of each other.
        nonlinearity: "tanh" or "relu".
        use_bias: Add biases.
        batch_first: input and output are (N, L, ...).
        dropout: Probability of dropout on the output of each layer but the last, in training.
        bidirectional: A second set of layers runs from the end; outputs are concatenated.
        name: Its name in models.
    """

    kind = "RNN"

    def __init__(
        self,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        use_bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        name: str | None = None,
    ):
        self.hidden_size, self.num_layers, self.use_bias = hidden_size, num_layers, use_bias
        self.nonlinearity = choice(self, "nonlinearity", nonlinearity, ("tanh", "relu"))
        self.batch_first, self.dropout, self.bidirectional, self.name = batch_first, dropout, bidirectional, name
        self._check()

    def make(self, **shapes: Any) -> nn.Module:
        return nn.RNN(**self._common(shapes), nonlinearity=self.nonlinearity)


class GRU(_Sequence):
    """Gated recurrent units over a sequence (L, N, E): output (L, N, directions * hidden_size).

    `hidden` and `initial_hidden` are (layers * directions, N, hidden_size). N may be missing.

    Args:
        hidden_size: Size of h.
        num_layers: Layers on top of each other.
        use_bias: Add biases.
        batch_first: input and output are (N, L, ...).
        dropout: Probability of dropout on the output of each layer but the last, in training.
        bidirectional: A second set of layers runs from the end; outputs are concatenated.
        name: Its name in models.
    """

    kind = "GRU"

    def __init__(
        self,
        hidden_size: int,
        num_layers: int = 1,
        use_bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        name: str | None = None,
    ):
        self.hidden_size, self.num_layers, self.use_bias = hidden_size, num_layers, use_bias
        self.batch_first, self.dropout, self.bidirectional, self.name = batch_first, dropout, bidirectional, name
        self._check()

    def make(self, **shapes: Any) -> nn.Module:
        return nn.GRU(**self._common(shapes))


class LSTM(_Sequence):
    """Long short-term memory over a sequence (L, N, E): output (L, N, directions * h's size).

    `hidden` and `initial_hidden` are (layers * directions, N, h's size), `cell` and `initial_cell` (layers * directions, N,
    hidden_size). N may be missing.

    Args:
        hidden_size: Size of c, and of h unless there is a projection.
        num_layers: Layers on top of each other.
        use_bias: Add biases.
        batch_first: input and output are (N, L, ...).
        dropout: Probability of dropout on the output of each layer but the last, in training.
        bidirectional: A second set of layers runs from the end; outputs are concatenated.
        proj_size: If not 0, h is projected to this size.
        name: Its name in models.
    """

    kind = "LSTM"
    optional = ("initial_hidden", "initial_cell")
    outputs = ("output", "hidden", "cell")

    def __init__(
        self,
        hidden_size: int,
        num_layers: int = 1,
        use_bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        name: str | None = None,
    ):
        self.hidden_size, self.num_layers, self.use_bias = hidden_size, num_layers, use_bias
        self.batch_first, self.dropout, self.bidirectional = batch_first, dropout, bidirectional
        self.proj_size, self.name = proj_size, name
        self._check()
        at_least(self, 0, proj_size=proj_size)

    def make(self, **shapes: Any) -> nn.Module:
        return _LSTM(**self._common(shapes), proj_size=self.proj_size)


class _Cell(_Recurrent):
    """One step: input (N, E) or (E,), states and results (N, hidden_size) or (hidden_size,)."""

    optional: ClassVar[tuple[str, ...]] = ("initial_hidden",)

    def _parameters(self, inside: int | None) -> dict[str, Shape]:
        return self._block(inside, self.hidden_size)

    def _sizes(self, given: dict) -> tuple[int, int, bool]:
        inside = self._inside(given, "weight_ih")
        return size(given.get("input"), -1) if inside is None else inside, self.hidden_size, self.use_bias

    def relate(self, shapes: Shapes) -> Shapes:
        inside = self._inside(shapes, "weight_ih")
        found: Shapes = dict(self._parameters(inside))
        states = ("output", "cell", "initial_hidden", "initial_cell")
        lead: Shape | None = None
        for key in ("input", *states):
            known = shapes.get(key)
            lead = merged(lead, None if known is None else known[:-1])
        if lead is not None:
            found |= dict.fromkeys(states, (*lead, self.hidden_size)) | {"input": (*lead, inside)}
        return found


class RNNCell(_Cell):
    """output = tanh(W_ih input + b_ih + W_hh initial_hidden + b_hh); without the state it is 0.

    Args:
        hidden_size: Size of the state.
        nonlinearity: "tanh" or "relu".
        use_bias: Add biases.
        name: Its name in models.
    """

    kind = "RNN"

    def __init__(self, hidden_size: int, nonlinearity: str = "tanh", use_bias: bool = True, name: str | None = None):
        at_least(self, 1, hidden_size=hidden_size)
        self.nonlinearity = choice(self, "nonlinearity", nonlinearity, ("tanh", "relu"))
        self.hidden_size, self.use_bias, self.name = hidden_size, use_bias, name

    def make(self, **shapes: Any) -> nn.Module:
        return nn.RNNCell(*self._sizes(shapes), nonlinearity=self.nonlinearity)


class GRUCell(_Cell):
    """One step of `GRU`: output is the next state; without initial_hidden that is 0.

    Args:
        hidden_size: Size of the state.
        use_bias: Add biases.
        name: Its name in models.
    """

    kind = "GRU"

    def __init__(self, hidden_size: int, use_bias: bool = True, name: str | None = None):
        at_least(self, 1, hidden_size=hidden_size)
        self.hidden_size, self.use_bias, self.name = hidden_size, use_bias, name

    def make(self, **shapes: Any) -> nn.Module:
        return nn.GRUCell(*self._sizes(shapes))


class LSTMCell(_Cell):
    """One step of `LSTM`: output is the next h, cell the next c; without initial_hidden and initial_cell they are 0.

    Args:
        hidden_size: Size of the states.
        use_bias: Add biases.
        name: Its name in models.
    """

    kind = "LSTM"
    optional = ("initial_hidden", "initial_cell")
    outputs = ("output", "cell")

    def __init__(self, hidden_size: int, use_bias: bool = True, name: str | None = None):
        at_least(self, 1, hidden_size=hidden_size)
        self.hidden_size, self.use_bias, self.name = hidden_size, use_bias, name

    def make(self, **shapes: Any) -> nn.Module:
        return _LSTMCell(*self._sizes(shapes))
