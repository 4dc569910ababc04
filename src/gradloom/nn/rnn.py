"""Recurrent layers. A sequence is one `gradloom.scan`, so the graph does not grow with its length."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from ..errors import DTypeError, OptionError, ShapeError, explain
from ..graph.control import scan
from ..tensor.creation import empty
from ..tensor.functions import cat, stack
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

# ---------------------------------------------------------------------------------------------------------- one step
# Each takes the projected input x (with its bias), the state, and what projects the state: (weight, bias, second weight).


def _rnn_step(activation: Callable) -> Callable:
    def step(x: Any, state: tuple, weights: tuple) -> tuple:
        return (activation(x + F.linear(state[0], weights[0], weights[1])),)

    return step


def _lstm_step(x: Any, state: tuple, weights: tuple) -> tuple:
    h, c = state
    i, f, g, o = (x + F.linear(h, weights[0], weights[1])).chunk(4, -1)
    c = F.sigmoid(f) * c + F.sigmoid(i) * F.tanh(g)
    h = F.sigmoid(o) * F.tanh(c)
    return (h if weights[2] is None else F.linear(h, weights[2])), c


def _gru_step(x: Any, state: tuple, weights: tuple) -> tuple:
    h = state[0]
    x_r, x_z, x_n = x.chunk(3, -1)
    h_r, h_z, h_n = F.linear(h, weights[0], weights[1]).chunk(3, -1)
    z = F.sigmoid(x_z + h_z)
    n = F.tanh(x_n + F.sigmoid(x_r + h_r) * h_n)
    return (n + z * (h - n),)


_STEPS = {
    "RNN_TANH": (_rnn_step(F.tanh), 1),
    "RNN_RELU": (_rnn_step(F.relu), 1),
    "LSTM": (_lstm_step, 4),
    "GRU": (_gru_step, 3),
}


def _draw(module: Module, hidden_size: int) -> None:
    bound = 1 / math.sqrt(hidden_size) if hidden_size > 0 else 0
    for weight in module.parameters():
        init.uniform_(weight, -bound, bound)


# ------------------------------------------------------------------------------------------------------------- cells


class RNNCellBase(Module):
    """What the cells have in common: their parameters and checks."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None
    ):
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = num_chunks * hidden_size
        self.weight_ih = Parameter(empty((rows, input_size), device=device, dtype=dtype))
        self.weight_hh = Parameter(empty((rows, hidden_size), device=device, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(empty(rows, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new values."""
        _draw(self, self.hidden_size)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        nonlinearity = self.__dict__.get("nonlinearity", "tanh")
        return text if nonlinearity == "tanh" else f"{text}, nonlinearity={nonlinearity}"

    def _run(self, mode: str, input: Any, state: Any) -> tuple:
        """The next state: of shape (N, hidden_size), or without N if the input has none."""
        name = type(self).__name__
        if input.ndim not in (1, 2):
            raise ShapeError(f"{name}: Expected input to be 1D or 2D, got {input.ndim}D instead")
        if input.shape[-1] != self.input_size:
            raise ShapeError(
                explain(
                    f"{name}: input has inconsistent input_size", expected=f"(N, {self.input_size})",
                    given=list(input.shape),
                )
            )  # fmt: skip
        shape = (*tuple(input.shape[:-1]), self.hidden_size)
        if state is None:
            state = (input.new_zeros(shape),) * (2 if mode == "LSTM" else 1)
        for i, h in enumerate(state):
            if tuple(h.shape) != shape:
                which = f"hx[{i}]" if mode == "LSTM" else "hidden"
                raise ShapeError(
                    explain(
                        f"{name}: {which} does not fit input", expected=f"{which} {list(shape)}",
                        given=f"input {list(input.shape)}, {which} {list(h.shape)}",
                    )
                )  # fmt: skip
        x = F.linear(input, self.weight_ih, self.bias_ih)
        return _STEPS[mode][0](x, state, (self.weight_hh, self.bias_hh, None))


class RNNCell(RNNCellBase):
    """One step of `RNN`: tanh(W_ih x + b_ih + W_hh h + b_hh).

    Args:
        input_size, hidden_size: Sizes of the last axes of x and of h.
        bias: Add biases.
        nonlinearity: "tanh" or "relu".
        device, dtype: Of the parameters. Default: the backend's.

    Attributes:
        weight_ih, weight_hh: (hidden_size, input_size) and (hidden_size, hidden_size), uniform in
            ±1 / sqrt(hidden_size) at first.
        bias_ih, bias_hh: (hidden_size,), likewise; or None.

    Example:
        >>> import gradloom as gl
        >>> gl.nn.RNNCell(3, 2)(gl.ones(5, 3)).shape
        gradloom.Size([5, 2])
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", device: Any = None,
        dtype: Any = None,
    ):  # fmt: skip
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The next h (N, hidden_size), from x (N, input_size) and h (zeros if None); N may be missing."""
        if self.nonlinearity not in ("tanh", "relu"):
            raise OptionError(f"Unknown nonlinearity: {self.nonlinearity}")
        return self._run(f"RNN_{self.nonlinearity.upper()}", input, None if hx is None else (hx,))[0]


class LSTMCell(RNNCellBase):
    """One step of `LSTM`.

    Args:
        input_size, hidden_size: Sizes of the last axes of x and of h and c.
        bias: Add biases.
        device, dtype: Of the parameters. Default: the backend's.

    Attributes:
        weight_ih, weight_hh: (4 * hidden_size, input_size) and (4 * hidden_size, hidden_size): the gates i, f, g, o.
        bias_ih, bias_hh: (4 * hidden_size,); or None. All are uniform in ±1 / sqrt(hidden_size) at first.

    Example:
        >>> import gradloom as gl
        >>> h, c = gl.nn.LSTMCell(3, 2)(gl.ones(5, 3))
        >>> c.shape
        gradloom.Size([5, 2])
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None):
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The next (h, c), from x (N, input_size) and (h, c) (zeros if None); N may be missing."""
        return self._run("LSTM", input, hx)


class GRUCell(RNNCellBase):
    """One step of `GRU`.

    Args:
        input_size, hidden_size: Sizes of the last axes of x and of h.
        bias: Add biases.
        device, dtype: Of the parameters. Default: the backend's.

    Attributes:
        weight_ih, weight_hh: (3 * hidden_size, input_size) and (3 * hidden_size, hidden_size): r, z, n.
        bias_ih, bias_hh: (3 * hidden_size,); or None. All are uniform in ±1 / sqrt(hidden_size) at first.

    Example:
        >>> import gradloom as gl
        >>> gl.nn.GRUCell(3, 2)(gl.ones(3)).shape
        gradloom.Size([2])
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None):
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The next h (N, hidden_size), from x (N, input_size) and h (zeros if None); N may be missing."""
        return self._run("GRU", input, None if hx is None else (hx,))[0]


# --------------------------------------------------------------------------------------------------------- sequences


class RNNBase(Module):
    """Recurrent layers on top of each other; see `RNN`, `LSTM`, `GRU`."""

    def __init__(
        self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
        device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__()
        _check_options(input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size)
        if mode not in _STEPS:
            raise OptionError(f"Unrecognized RNN mode: {mode}")
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        directions, out, rows = 2 if bidirectional else 1, proj_size or hidden_size, _STEPS[mode][1] * hidden_size
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (rows, input_size if layer == 0 else out * directions), "weight_hh": (rows, out)
                }  # fmt: skip
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for name, shape in shapes.items():
                    setattr(self, name + suffix, Parameter(empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new values."""
        _draw(self, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Nothing: how parameters lie in memory is the engine's business. PyTorch has it for cuDNN."""

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters of each layer and direction."""
        return [
            [p for name, p in self._parameters.items() if name.partition("_l")[2] == suffix[2:]]
            for layer in range(self.num_layers)
            for suffix in self._suffixes(layer)
        ]

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}"] + ([f"_l{layer}_reverse"] if self.bidirectional else [])

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, default in (("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False),
                              ("dropout", 0), ("bidirectional", False)):  # fmt: skip
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text

    def _forward(self, input: Any, state: tuple | None) -> tuple[Any, tuple]:
        """The output of the last layer and the last states (layers * directions, N, ...) of all."""
        batched = self._check_input(input)
        if not batched:
            input = input.unsqueeze(0 if self.batch_first else 1)
            state = None if state is None else tuple(s.unsqueeze(1) for s in state)
        x = input.transpose(0, 1) if self.batch_first else input  # (L, N, F)
        shapes = [(self.num_layers * (2 if self.bidirectional else 1), x.shape[1], n) for n in self._state_sizes()]
        if state is None:
            state = tuple(x.new_zeros(shape) for shape in shapes)
        for i, (s, shape) in enumerate(zip(state, shapes, strict=True)):
            if tuple(s.shape) != shape:
                raise ShapeError(f"Expected {('hidden' if i == 0 else 'cell')} size {shape}, got {list(s.shape)}")
        last, k = [], 0
        for layer in range(self.num_layers):
            outs = []
            for suffix in self._suffixes(layer):
                end, out = self._direction(x, tuple(s[k] for s in state), suffix)
                last.append(end)
                outs.append(out)
                k += 1
            x = outs[0] if len(outs) == 1 else cat(outs, -1)
            if self.dropout and self.training and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout)
        ends = tuple(stack(column) for column in zip(*last, strict=True))
        x = x.transpose(0, 1) if self.batch_first else x
        return (x, ends) if batched else (x.squeeze(0 if self.batch_first else 1), tuple(e.squeeze(1) for e in ends))

    def _direction(self, x: Any, state: tuple, suffix: str) -> tuple[tuple, Any]:
        """One layer in one direction over x (L, N, F): the last state, and the h of all steps."""
        found = self._parameters
        step = _STEPS[self.mode][0]
        weights = (found["weight_hh" + suffix], found.get("bias_hh" + suffix), found.get("weight_hr" + suffix))
        projected = F.linear(x, found["weight_ih" + suffix], found.get("bias_ih" + suffix))

        def advance(carry: tuple, x: Any) -> tuple:
            carry = step(x, carry, weights)
            return carry, carry[0]

        return scan(advance, state, projected, reverse=suffix.endswith("_reverse"))

    def _state_sizes(self) -> list[int]:
        return [self.hidden_size]

    def _check_input(self, input: Any) -> bool:
        """Whether the input has a batch axis; raises where it does not fit."""
        name = type(self).__name__
        if hasattr(input, "batch_sizes"):
            raise OptionError(
                explain(
                    f"{name} does not take a PackedSequence", expected="a padded Tensor of one length",
                    given=type(input).__name__, do="pad the sequences, and mask what comes after their ends",
                )
            )  # fmt: skip
        if input.ndim not in (2, 3):
            raise ShapeError(f"{name}: Expected input to be 2D or 3D, got {input.ndim}D instead")
        weight = self._parameters["weight_ih_l0"]
        if weight is not None and input.dtype is not weight.dtype:
            raise DTypeError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). Convert input: "
                f"input.to({weight.dtype}), or convert model: model.to({input.dtype})"
            )
        if input.shape[-1] != self.input_size:
            raise ShapeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}"
            )
        if not input.shape[1 if self.batch_first and input.ndim == 3 else 0]:
            raise ShapeError(
                explain(f"{name} needs a step", expected="a sequence of 1 or more", given=list(input.shape))
            )
        return input.ndim == 3

    def _check_state(self, name: str, input: Any, states: tuple) -> None:
        for s in states:
            if s.ndim != input.ndim and input.ndim in (2, 3):
                batched = "batched" if input.ndim == 3 else "unbatched"
                raise ShapeError(
                    f"For {batched} {input.ndim}-D input, {name} should also be {input.ndim}-D but got {s.ndim}-D tensor"
                )


def _check_options(
    input_size: Any, hidden_size: Any, num_layers: int, bias: Any, batch_first: Any, dropout: Any, proj_size: int
) -> None:
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
        raise OptionError(
            "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
        )
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects num_layers "
            f"greater than 1, but got dropout={dropout} and num_layers={num_layers}",
            stacklevel=4,
        )
    for name, value, kind in (
        ("bias", bias, bool), ("batch_first", batch_first, bool), ("input_size", input_size, int),
        ("hidden_size", hidden_size, int),
    ):  # fmt: skip
        if not isinstance(value, kind):
            raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")
    for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
        if value <= 0:
            raise OptionError(f"{name} must be greater than zero")
    if proj_size < 0:
        raise OptionError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden_size:
        raise OptionError("proj_size has to be smaller than hidden_size")


class RNN(RNNBase):
    """h = tanh(W_ih x + b_ih + W_hh h + b_hh) over a sequence; Elman 1990, `torch.nn.RNN`.

    Args:
        input_size, hidden_size: Sizes of the last axes of x and of h.
        num_layers: Layers on top of each other.
        nonlinearity: "tanh" or "relu".
        bias: Add biases.
        batch_first: x and the output are (N, L, ...) rather than (L, N, ...); the states are not concerned.
        dropout: Probability of dropout on the output of each layer but the last, in training mode.
        bidirectional: A second set of layers runs from the end; outputs are concatenated.
        device, dtype: Of the parameters. Default: the backend's.

    Attributes:
        weight_ih_l[k], weight_hh_l[k], bias_ih_l[k], bias_hh_l[k]: Of layer k, also with the suffix `_reverse`; uniform
            in ±1 / sqrt(hidden_size) at first.

    Example:
        >>> import gradloom as gl
        >>> out, h = gl.nn.RNN(3, 4, num_layers=2)(gl.ones(7, 5, 3))
        >>> out.shape, h.shape
        (gradloom.Size([7, 5, 4]), gradloom.Size([2, 5, 4]))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None,
        dtype: Any = None,
    ):  # fmt: skip
        if nonlinearity not in ("tanh", "relu"):
            raise OptionError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__(
            f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, 0, device, dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Any = None) -> Any:
        """(output (L, N, directions * hidden_size), last h (layers * directions, N, hidden_size)); N may be missing."""
        if hx is not None:
            self._check_state("hx", input, (hx,))
        out, ends = self._forward(input, None if hx is None else (hx,))
        return out, ends[0]


class LSTM(RNNBase):
    """Long short-term memory over a sequence; Hochreiter and Schmidhuber 1997, `torch.nn.LSTM`.

    i, f, o = sigmoid(...), g = tanh(...) of W_ih x + b_ih + W_hh h + b_hh; c = f * c + i * g; h = o * tanh(c).

    Args:
        input_size, hidden_size: Sizes of the last axes of x and of c (and h, without proj_size).
        num_layers: Layers on top of each other.
        bias: Add biases.
        batch_first: x and the output are (N, L, ...) rather than (L, N, ...); the states are not concerned.
        dropout: Probability of dropout on the output of each layer but the last, in training mode.
        bidirectional: A second set of layers runs from the end; outputs are concatenated.
        proj_size: If not 0, h is projected to this size by W_hr; Sak et al. 2014.
        device, dtype: Of the parameters. Default: the backend's.

    Attributes:
        weight_ih_l[k], weight_hh_l[k], bias_ih_l[k], bias_hh_l[k], weight_hr_l[k]: Of layer k, the gates i, f, g, o
            below each other; also with the suffix `_reverse`. Uniform in ±1 / sqrt(hidden_size) at first.

    Example:
        >>> import gradloom as gl
        >>> out, (h, c) = gl.nn.LSTM(3, 4, batch_first=True, bidirectional=True)(gl.ones(5, 7, 3))
        >>> out.shape, h.shape
        (gradloom.Size([5, 7, 8]), gradloom.Size([2, 5, 4]))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device,
            dtype,
        )  # fmt: skip

    def _state_sizes(self) -> list[int]:
        return [self.proj_size or self.hidden_size, self.hidden_size]

    def forward(self, input: Any, hx: Any = None) -> Any:
        """(output (L, N, directions * h's size), the last (h, c), each (layers * directions, N, ...)); see `RNN`."""
        if hx is not None:
            self._check_state("hx and cx", input, tuple(hx))
        return self._forward(input, None if hx is None else tuple(hx))


class GRU(RNNBase):
    """Gated recurrent units over a sequence; Cho et al. 2014, `torch.nn.GRU`.

    r, z = sigmoid(...) of W_ih x + b_ih + W_hh h + b_hh; n = tanh(W_in x + b_in + r * (W_hn h + b_hn));
    h = (1 - z) * n + z * h.

    Args:
        input_size, hidden_size: Sizes of the last axes of x and of h.
        num_layers: Layers on top of each other.
        bias: Add biases.
        batch_first: x and the output are (N, L, ...) rather than (L, N, ...); the states are not concerned.
        dropout: Probability of dropout on the output of each layer but the last, in training mode.
        bidirectional: A second set of layers runs from the end; outputs are concatenated.
        device, dtype: Of the parameters. Default: the backend's.

    Attributes:
        weight_ih_l[k], weight_hh_l[k], bias_ih_l[k], bias_hh_l[k]: Of layer k, r, z and n below each other; also with
            the suffix `_reverse`. Uniform in ±1 / sqrt(hidden_size) at first.

    Example:
        >>> import gradloom as gl
        >>> out, h = gl.nn.GRU(3, 4)(gl.ones(7, 3))
        >>> out.shape, h.shape
        (gradloom.Size([7, 4]), gradloom.Size([1, 4]))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )

    def forward(self, input: Any, hx: Any = None) -> Any:
        """(output (L, N, directions * hidden_size), last h (layers * directions, N, hidden_size)); N may be missing."""
        if hx is not None:
            self._check_state("hx", input, (hx,))
        out, ends = self._forward(input, None if hx is None else (hx,))
        return out, ends[0]
