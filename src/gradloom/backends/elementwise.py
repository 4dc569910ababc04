"""The methods of a backend that work element by element; each calls the op of its name."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..ops.op import SCALARS
from .making import Making


class Elementwise(Making):
    """The elementwise methods of a backend."""

    # --- elementwise

    def abs(self, x: Any) -> Any:
        """The absolute value."""
        return self._call(ops.abs, x)

    def negative(self, x: Any) -> Any:
        """The value with the other sign."""
        return self._call(ops.negative, x)

    def sign(self, x: Any) -> Any:
        """-1, 0 or 1."""
        return self._call(ops.sign, x)

    def reciprocal(self, x: Any) -> Any:
        """`1 / x`."""
        return self._call(ops.reciprocal, x)

    def square(self, x: Any) -> Any:
        """`x * x`."""
        return self._call(ops.square, x)

    def sqrt(self, x: Any) -> Any:
        """The square root; NaN of negative numbers."""
        return self._call(ops.sqrt, x)

    def rsqrt(self, x: Any) -> Any:
        """`1 / sqrt(x)`."""
        return self._call(ops.rsqrt, x)

    def exp(self, x: Any) -> Any:
        """e to the power of x."""
        return self._call(ops.exp, x)

    def expm1(self, x: Any) -> Any:
        """`exp(x) - 1`, exact for small x."""
        return self._call(ops.expm1, x)

    def log(self, x: Any) -> Any:
        """The natural logarithm."""
        return self._call(ops.log, x)

    def log1p(self, x: Any) -> Any:
        """`log(1 + x)`, exact for small x."""
        return self._call(ops.log1p, x)

    def log2(self, x: Any) -> Any:
        """The logarithm to the base 2."""
        return self._call(ops.log2, x)

    def sin(self, x: Any) -> Any:
        """The sine of x in radians."""
        return self._call(ops.sin, x)

    def cos(self, x: Any) -> Any:
        """The cosine of x in radians."""
        return self._call(ops.cos, x)

    def tan(self, x: Any) -> Any:
        """The tangent of x in radians."""
        return self._call(ops.tan, x)

    def tanh(self, x: Any) -> Any:
        """The hyperbolic tangent."""
        return self._call(ops.tanh, x)

    def sigmoid(self, x: Any) -> Any:
        """`1 / (1 + exp(-x))`, without overflow."""
        return self._call(ops.sigmoid, x)

    def erf(self, x: Any) -> Any:
        """The error function."""
        return self._call(ops.erf, x)

    def floor(self, x: Any) -> Any:
        """The largest integer that is not above x."""
        return self._call(ops.floor, x)

    def ceil(self, x: Any) -> Any:
        """The smallest integer that is not below x."""
        return self._call(ops.ceil, x)

    def round(self, x: Any) -> Any:
        """The nearest integer, of two the even one."""
        return self._call(ops.round, x)

    def trunc(self, x: Any) -> Any:
        """The integer towards 0."""
        return self._call(ops.trunc, x)

    def isnan(self, x: Any) -> Any:
        """Whether an element is NaN (bool)."""
        return self._call(ops.isnan, x)

    def isinf(self, x: Any) -> Any:
        """Whether an element is infinite (bool)."""
        return self._call(ops.isinf, x)

    def isfinite(self, x: Any) -> Any:
        """Whether an element is neither infinite nor NaN (bool)."""
        return self._call(ops.isfinite, x)

    def logical_not(self, x: Any) -> Any:
        """Whether an element is 0 (bool)."""
        return self._call(ops.logical_not, x)

    def relu(self, x: Any) -> Any:
        """`max(x, 0)`; the gradient at 0 is 0."""
        return self._call(ops.relu, x)

    def silu(self, x: Any) -> Any:
        """`x * sigmoid(x)`."""
        return self._call(ops.silu, x)

    def gelu(self, x: Any, approximate: str = "none") -> Any:
        """x times the normal distribution function of x; `approximate="tanh"` is the usual approximation of it."""
        return self._call(ops.gelu, x, approximate=approximate)

    def leaky_relu(self, x: Any, negative_slope: float = 0.01) -> Any:
        """x, or `negative_slope * x` where x is negative."""
        return self._call(ops.leaky_relu, x, negative_slope=negative_slope)

    def softplus(self, x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
        """`log(1 + exp(beta * x)) / beta`, and x where `beta * x > threshold`."""
        return self._call(ops.softplus, x, beta=beta, threshold=threshold)

    def clip(self, x: Any, min: float | None = None, max: float | None = None) -> Any:
        """x held between two numbers; None is no bound.

        Raises:
            TypeError: A bound is an array; use `maximum` and `minimum`.

        Example:
            >>> import gradloom as gl
            >>> backend = gl.get_backend("numpy")
            >>> backend.clip(backend.array([-2.0, 0.5, 3.0]), 0, 1)
            array([0. , 0.5, 1. ], dtype=float32)
        """
        for bound in (min, max):
            if bound is not None and type(bound) not in SCALARS:
                raise TypeError(f"clip(): a bound is a number, not {type(bound).__name__}; use maximum and minimum")
        return self._call(ops.clip, x, min=min, max=max)

    # --- of two arrays, or of an array and a number, with broadcasting

    def add(self, x: Any, y: Any) -> Any:
        """`x + y`."""
        return self._call(ops.add, x, y)

    def subtract(self, x: Any, y: Any) -> Any:
        """`x - y`."""
        return self._call(ops.subtract, x, y)

    def multiply(self, x: Any, y: Any) -> Any:
        """`x * y`."""
        return self._call(ops.multiply, x, y)

    def divide(self, x: Any, y: Any) -> Any:
        """`x / y`, of integers too a float."""
        return self._call(ops.divide, x, y)

    def floor_divide(self, x: Any, y: Any) -> Any:
        """`x // y`."""
        return self._call(ops.floor_divide, x, y)

    def remainder(self, x: Any, y: Any) -> Any:
        """`x % y`, with the sign of y."""
        return self._call(ops.remainder, x, y)

    def pow(self, x: Any, y: Any) -> Any:
        """`x ** y`."""
        return self._call(ops.pow, x, y)

    def maximum(self, x: Any, y: Any) -> Any:
        """The larger of two elements, or NaN."""
        return self._call(ops.maximum, x, y)

    def minimum(self, x: Any, y: Any) -> Any:
        """The smaller of two elements, or NaN."""
        return self._call(ops.minimum, x, y)

    def equal(self, x: Any, y: Any) -> Any:
        """`x == y` (bool)."""
        return self._call(ops.equal, x, y)

    def not_equal(self, x: Any, y: Any) -> Any:
        """`x != y` (bool)."""
        return self._call(ops.not_equal, x, y)

    def less(self, x: Any, y: Any) -> Any:
        """`x < y` (bool)."""
        return self._call(ops.less, x, y)

    def less_equal(self, x: Any, y: Any) -> Any:
        """`x <= y` (bool)."""
        return self._call(ops.less_equal, x, y)

    def greater(self, x: Any, y: Any) -> Any:
        """`x > y` (bool)."""
        return self._call(ops.greater, x, y)

    def greater_equal(self, x: Any, y: Any) -> Any:
        """`x >= y` (bool)."""
        return self._call(ops.greater_equal, x, y)

    def logical_and(self, x: Any, y: Any) -> Any:
        """Whether both are non-zero (bool)."""
        return self._call(ops.logical_and, x, y)

    def logical_or(self, x: Any, y: Any) -> Any:
        """Whether one of the two is non-zero (bool)."""
        return self._call(ops.logical_or, x, y)

    def logical_xor(self, x: Any, y: Any) -> Any:
        """Whether just one of the two is non-zero (bool)."""
        return self._call(ops.logical_xor, x, y)

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """x where the condition (bool) holds, y elsewhere; neither's gradient sees the other's NaN.

        Example:
            >>> import gradloom as gl
            >>> backend = gl.get_backend("numpy")
            >>> x = backend.array([-1.0, 2.0])
            >>> backend.where(backend.greater(x, 0), x, 0)
            array([0., 2.], dtype=float32)
        """
        return self._call(ops.where, condition, x, y)
