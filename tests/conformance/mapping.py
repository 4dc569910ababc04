"""Which function of gradloom answers which entry of PyTorch's `op_db`, and where the two are meant to differ.

An entry's name is PyTorch's, with the variant after a colon ("std:unbiased"). A name that is a function of `gradloom`,
of `gradloom.nn.functional` or a method of Tensors is found by itself, so that what is added to the library is tested
as soon as it has a name; what has another name, or another form of call, is in CALLS.
"""

import operator
import re
from collections.abc import Callable
from typing import Any

import gradloom as gl
from gradloom.nn import functional as F


def swapped(fn: Callable) -> Callable:
    return lambda input, other: fn(other, input)


def inplace(name: str) -> Callable:
    return lambda input, *args, **kwargs: getattr(input.clone(), name + "_")(*args, **kwargs)


def method(name: str) -> Callable:
    return lambda input, *args, **kwargs: getattr(input, name)(*args, **kwargs)


def attribute(name: str) -> Callable:
    return lambda input: getattr(input, name)


def batch_norm(input: Any, mean: Any = None, var: Any = None, *args: Any, **kwargs: Any) -> Any:
    """As PyTorch's entries call it; the running statistics are changed, which the samples do not look at."""
    return F.batch_norm(input, mean, var, *args, **kwargs)


def triplet(*args: Any, distance_function: Any = None, **kwargs: Any) -> Any:
    """The entries' distance functions are PyTorch's modules."""
    return F.triplet_margin_with_distance_loss(*args, distance_function=F.pairwise_distance, **kwargs)


# What is called in another way than by the entry's name.
CALLS: dict[str, Callable] = {
    "__radd__": swapped(operator.add),
    "__rsub__": swapped(operator.sub),
    "__rmul__": swapped(operator.mul),
    "__rdiv__": swapped(operator.truediv),
    "__rmod__": swapped(operator.mod),
    "__rpow__": swapped(operator.pow),
    "__rmatmul__": swapped(operator.matmul),
    "__rand__": swapped(operator.and_),
    "__ror__": swapped(operator.or_),
    "__rxor__": swapped(operator.xor),
    "__getitem__": operator.getitem,
    "T": attribute("T"),
    "mT": attribute("mT"),
    "max:binary": gl.max,
    "min:binary": gl.min,
    "split:list_args": gl.split,
    "split_with_sizes": gl.split,
    "fill": inplace("fill"),
    "zero_": inplace("zero"),
    "uniform": inplace("uniform"),
    "normal:in_place": inplace("normal"),
    "normal:number_mean": gl.normal,
    "nn.functional.batch_norm": batch_norm,
    "nn.functional.batch_norm:without_cudnn": batch_norm,
    "meshgrid:list_of_tensors": gl.meshgrid,
    "meshgrid:variadic_tensors": gl.meshgrid,
    "einsum": lambda operands, equation: gl.einsum(equation, *operands),
    "where": lambda input, condition, other: gl.where(condition, input, other),
    "nn.functional.embedding": lambda weight, input, **kwargs: F.embedding(input, weight, **kwargs),
    "nn.functional.triplet_margin_with_distance_loss": triplet,
    "nn.functional.embedding_bag": lambda weight, input, **kwargs: F.embedding_bag(input, weight, **kwargs),
}


def find(name: str) -> Callable | None:
    """The function of gradloom for an entry of `op_db`; None: gradloom does not have it."""
    if name in CALLS:
        return CALLS[name]
    base, _, _ = name.partition(":")
    if base.startswith("nn.functional."):
        return getattr(F, base.removeprefix("nn.functional."), None)
    if "." in base or base.startswith("_"):
        return None
    found = getattr(gl, base, None)
    if callable(found) and not isinstance(found, type):
        return found
    return method(base) if hasattr(gl.Tensor, base) else None


# Only shapes and dtypes are compared: random numbers, and memory that nobody has written.
SHAPE_ONLY = {
    "bernoulli", "empty", "empty_like", "new_empty", "nn.functional.dropout", "nn.functional.dropout2d",
    "nn.functional.dropout3d", "nn.functional.rrelu", "normal", "normal:in_place", "normal:number_mean", "rand_like",
    "randint", "randint_like", "randn", "randn_like", "uniform",
}  # fmt: skip

# (rtol, atol) by dtype; those of torch.testing.assert_close.
TOLERANCE = {
    "float64": (1e-7, 1e-7), "float32": (1.3e-6, 1e-5), "float16": (1e-3, 1e-3), "bfloat16": (1.6e-2, 1e-2),
    "int64": (0, 0), "int32": (0, 0), "int16": (0, 0), "int8": (0, 0), "uint8": (0, 0), "bool": (0, 0),
}  # fmt: skip

# Wider ones: {entry: {dtype: rtol and atol}}.
WIDER: dict[str, dict[str, float]] = {
    # Sums of products in another order.
    "matmul": {"float32": 1e-4},
    "__rmatmul__": {"float32": 1e-4},
    "nn.functional.conv3d": {"float32": 1e-4},
    "nn.functional.scaled_dot_product_attention": {"float32": 1e-4},
}

# Options that gradloom refuses: {entry: {pattern in the error: reason}}.
_PADDING = {"pad does not support mode": "only constant padding"}
_STRIDED = {"as_strided is not supported": "not every engine shows how memory is laid out"}
_INDICES = {"does not give indices": "return_indices"}
_NUMBERS = "bools are no numbers; PyTorch computes with them here and there"
REFUSED: dict[str, dict[str, str]] = {
    "__rpow__": {"negative integer powers": "integers to negative powers raise; PyTorch gives 0"},
    "as_strided": _STRIDED,
    "as_strided:partial_views": _STRIDED,
    "nn.functional.adaptive_max_pool1d": _INDICES,
    "nn.functional.adaptive_max_pool2d": _INDICES,
    "nn.functional.adaptive_max_pool3d": _INDICES,
    "nn.functional.batch_norm": {"needs channels": "input without channels"},
    "nn.functional.embedding": {"does not support these options": "max_norm, scale_grad_by_freq, sparse"},
    "nn.functional.embedding_bag": {"does not support these options": "max_norm, scale_grad_by_freq, sparse"},
    "nn.functional.gaussian_nll_loss": {"a loss does not broadcast": "losses do not broadcast"},
    "nn.functional.max_pool1d": _INDICES,
    "nn.functional.max_pool2d": _INDICES,
    "nn.functional.max_pool3d": _INDICES,
    "nn.functional.pad:circular": _PADDING,
    "nn.functional.pad:reflect": _PADDING,
    "nn.functional.pad:replicate": _PADDING,
    "nn.functional.pad:replicate_negative": _PADDING,
    "norm:nuc": {"norm does not support": "norms of matrices"},
    "scatter": {"argument 'reduce'": "reduce="},
    "sign": {"not defined for bool": _NUMBERS},
}

# Results that differ on purpose: {entry: {pattern in the difference: reason}}.
_TIES = "equal elements keep their order (the sort is stable); PyTorch's order is open"
_AVERAGE = {"int64 .*dtype float32, not int64": "averages of integers are floats, as they are of mean()"}
DIFFERENT: dict[str, dict[str, str]] = {
    "argsort": {"(bool|int64) .*: values": _TIES},
    "div:floor_rounding": {"requires_grad is False": "no gradient, where PyTorch's is 0 everywhere"},
    "nn.functional.avg_pool1d": _AVERAGE,
    "nn.functional.avg_pool2d": _AVERAGE,
    "nn.functional.avg_pool3d": _AVERAGE,
    "nn.functional.local_response_norm": {"int64 .*: values": "averages of integers are floats"},
    "sort": {"(bool|int64) .*result 1: values": _TIES},
    "topk": {"(bool|int64) .*result 1: values": _TIES},
}

# Engines that do not have an entry's function, with the reason: {entry: {engine: reason}}.
_FLOAT64 = {"jax": "float64 has to be asked for with JaxBackend(dtype='float64')"}
NOT_ON: dict[str, dict[str, str]] = {
    "double": _FLOAT64,
    "softmax:with_dtype": _FLOAT64,
    "log_softmax:with_dtype": _FLOAT64,
    "nn.functional.softmin:with_dtype": _FLOAT64,
    "int": {"jax": "integers are int64 publicly and held as int32"},
}

# What cannot be compiled, or not for all arguments, as it needs their values; each with what it needs.
_ANSWER = "the elements: its result is a Python bool"
_COUNT = "the elements: they say how large the result is"
NEEDS_VALUES: dict[str, str] = {
    "__getitem__": "a mask as an index: it says how large the result is; other indices compile",
    "allclose": _ANSWER,
    "equal": _ANSWER + "; Tensors of different shapes compile",
    "item": "the element: its result is a Python number",
    "linspace:tensor_overload": "its ends, which become Python numbers",
    "masked_select": _COUNT,
    "narrow": "a start that is a Tensor; ints compile",
    "nn.functional.instance_norm": "running statistics as arguments, which it would change; of a module they compile",
    "nonzero": _COUNT,
    "repeat_interleave": "repeats that are a Tensor, which say how large the result is; an int compiles",
}


def refusal(name: str, error: Exception) -> str | None:
    """The reason why gradloom refuses the sample; None where it should not."""
    for pattern, reason in REFUSED.get(name, {}).items():
        if re.search(pattern, f"{type(error).__name__}: {error}"):
            return reason
    return None
