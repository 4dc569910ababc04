"""Parameter groups: what an optimizer is given, checked and brought to one form."""

from __future__ import annotations

import math
import warnings
from typing import Any

from ..errors import OptionError, explain
from ..tensor.tensor import Tensor


def prepared(group: dict[str, Any], defaults: dict[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """A group with a list of parameters and all options, as PyTorch makes it; its errors have PyTorch's texts.

    Args:
        group: {"params": Tensors or pairs of name and Tensor, options that differ from the defaults}.
        groups: Those that the optimizer has already.
    """
    if not isinstance(group, dict):
        raise TypeError(f"param_group must be a dict, but got {type(group)}")
    group = dict(group)
    params = group["params"]
    if isinstance(params, set):
        raise TypeError(
            "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets will "
            "change between runs. Please use a list instead."
        )
    group["params"] = [params] if isinstance(params, Tensor) else list(params)
    names = [item[0] for item in group["params"] if isinstance(item, tuple)]
    if names and len(names) != len(group["params"]):
        raise ValueError("all optimizer params should be with/without names. Some param names are missing")
    if names:
        group["param_names"] = names
        group["params"] = [p for _, p in group["params"]]
    for p in group["params"]:
        if not isinstance(p, Tensor):
            raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
        if not p.is_leaf:
            raise ValueError("can't optimize a non-leaf Tensor")
    for name, default in defaults.items():
        group.setdefault(name, default)
    check_lr(group)
    if len({id(p) for p in group["params"]}) != len(group["params"]):
        warnings.warn(
            "optimizer contains a parameter group with duplicate parameters; in future, this will cause an error",
            stacklevel=3,
        )
        group["params"] = list({id(p): p for p in group["params"]}.values())  # each is updated once
    for other in groups:
        if ("param_names" in group) != ("param_names" in other):
            given = "with names" if "param_names" in group else "without names"
            raise ValueError(
                "all optimizer param groups should be with/without names. "
                f"cannot add param group {given} to the optimizer"
            )
    known = {id(p) for g in groups for p in g["params"]}
    if any(id(p) in known for p in group["params"]):
        raise ValueError("some parameters appear in more than one parameter group")
    return group


def check_lr(group: dict[str, Any]) -> None:
    """A rate that is a Tensor, or an array, has one element."""
    lr: Any = group.get("lr")
    if hasattr(lr, "shape") and math.prod(lr.shape) != 1:
        raise ValueError("Tensor lr must be 1-element")


def check_not_negative(**options: Any) -> None:
    """Raises ValueError, in PyTorch's words, for the first option that is below 0 or NaN; a rate may be a Tensor of one element."""
    check_lr(options)
    words = {"lr": "learning rate", "eps": "epsilon value"}
    for name, value in options.items():
        if not value >= 0:
            raise ValueError(f"Invalid {words.get(name, f'{name} value')}: {value}")


def check_betas(betas: tuple) -> None:
    """Raises ValueError, in PyTorch's words, for the first decay that is outside of [0, 1)."""
    for i, beta in enumerate(betas):
        if not 0 <= beta < 1:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")


def check_options(*, betas: tuple = (), **options: Any) -> None:
    """Both of the above."""
    check_not_negative(**options)
    check_betas(betas)


def refuse(name: str, **options: Any) -> None:
    """Options that only make sense for PyTorch's own graphs are refused, not ignored."""
    for option, value in options.items():
        if value:
            raise OptionError(explain(f"{name} does not take {option}=True", do="leave it out"))
