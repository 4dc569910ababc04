"""The PyTorch backend: CPU, CUDA, MPS; every dtype that gradloom has.

Its array functions are in torch_xp.py, its kernels of ops, vjps and update rules in torch_kernels.py.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch

from ..dtypes import DType, bfloat16, dtype, to_numpy_dtype
from ..errors import BackendError, MissingExtraError, explain
from .base import Backend, register
from .torch_kernels import KERNELS
from .torch_xp import to_torch_dtype, xp


class TorchBackend(Backend):
    """PyTorch on any of its devices.

    Example:
        >>> import gradloom as gl
        >>> gl.TorchBackend(dtype="float64", device="cpu")  # doctest: +SKIP
        TorchBackend(dtype=float64, device='cpu')
    """

    name = "torch"
    xp = xp
    fast = KERNELS
    array_types = (torch.Tensor,)
    mutable = True

    def check_device(self, device: Any) -> str:
        if device is None:
            return str(torch.get_default_device()) if hasattr(torch, "get_default_device") else "cpu"
        try:
            torch.empty(0, device=device)
        # What PyTorch raises depends on the device and on how it was built.
        except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
            has = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
            if torch.backends.mps.is_available():
                has.append("mps")
            raise BackendError(
                explain(
                    f"torch has no device {str(device)!r} here",
                    expected=", ".join(map(repr, has)),
                    given=repr(str(device)),
                )
            ) from error
        return str(torch.device(device))

    def native_dtype(self, d: DType) -> torch.dtype:
        return to_torch_dtype(d)

    def from_numpy(self, array: np.ndarray, d: DType | None = None) -> torch.Tensor:
        array = np.asarray(array)
        own = dtype(array.dtype)
        # PyTorch cannot look at foreign byte orders and negative strides, and would write into read-only memory.
        if not array.dtype.isnative or not array.flags.writeable or min(array.strides, default=0) < 0:
            array = array.astype(array.dtype.newbyteorder("="), order="C")
        if own is bfloat16:
            made = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        else:
            made = torch.from_numpy(array)
        return made.to(device=self.device, dtype=to_torch_dtype(own if d is None else d))

    @classmethod
    def to_numpy(cls, array: torch.Tensor) -> np.ndarray:
        """Shares memory on the CPU. bfloat16 needs the package ml_dtypes; without it the result is float32."""
        array = array.detach().cpu()
        if array.dtype is not torch.bfloat16:
            return array.numpy()
        try:
            return array.view(torch.int16).numpy().view(to_numpy_dtype(bfloat16))
        except MissingExtraError:
            return array.to(torch.float32).numpy()

    def from_dlpack(self, array: Any) -> torch.Tensor:
        if isinstance(array, np.ndarray):
            return self.from_numpy(array)
        made = torch.from_dlpack(array)
        dtype(made.dtype)  # raises for one that gradloom does not have
        return made.to(self.device)

    @classmethod
    def copy(cls, array: torch.Tensor) -> torch.Tensor:
        return array.clone()

    @classmethod
    def synchronize(cls, *arrays: torch.Tensor) -> None:
        for kind in {a.device.type for a in arrays}:
            if kind != "cpu":
                getattr(torch, kind).synchronize()

    def context(self) -> contextlib.AbstractContextManager:
        # Where creation functions make arrays. Only entered where it differs: PyTorch runs slower inside.
        if torch.device(self.device) == torch.empty(0).device:
            return contextlib.nullcontext()
        return torch.device(self.device)


register(TorchBackend)
