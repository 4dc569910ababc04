"""`gradloom.autograd`: gradients as PyTorch's `torch.autograd` gives them."""

from .tensor.autograd import backward, grad
from .tensor.function import Function
from .tensor.grad_mode import enable_grad, inference_mode, no_grad, set_grad_enabled
from .tensor.gradcheck import gradcheck, gradgradcheck

__all__ = [
    "Function", "backward", "enable_grad", "grad", "gradcheck", "gradgradcheck", "inference_mode", "no_grad", "set_grad_enabled",
]  # fmt: skip
