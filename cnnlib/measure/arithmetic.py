"""The arithmetic of windows: how many outputs a convolution or a pooling has, and which inputs it never sees.

Along one axis, with input W, padding P on both sides, kernel F, stride S and dilation D, the output has

    floor((W + 2P - Fe) / S) + 1    units, where    Fe = D (F - 1) + 1

is the effective kernel (Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", relationship 15).
PyTorch computes the same; the tests compare with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from cnnlib.errors import DoesNotFit, require_whole
from cnnlib.measure.errors import BadArgument

Size = int | tuple[int, ...]
"""One number for all axes, or one number an axis: ``(height, width)``."""


@dataclass(frozen=True)
class ConvArithmetic:
    """The output size of one convolution along one axis, with every intermediate number. All lengths in pixels."""

    size: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    def __post_init__(self) -> None:
        _check(self.size, self.kernel, self.stride, self.padding, self.dilation)
        if self.numerator < 0:
            smallest = max(1, self.effective_kernel - 2 * self.padding)
            raise DoesNotFit(
                f"{_window(self.kernel, self.dilation)} does not fit into an input of {self.size}: "
                f"floor(({self._difference}) / {self.stride}) + 1 = {self.numerator // self.stride + 1}; "
                f"the smallest input that fits is {smallest}"
            )

    @property
    def padded(self) -> int:
        """Input with its padding, W + 2P."""
        return self.size + 2 * self.padding

    @property
    def effective_kernel(self) -> int:
        """Extent of the dilated kernel, D (F - 1) + 1."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def numerator(self) -> int:
        """How far the window can travel, W + 2P - Fe."""
        return self.padded - self.effective_kernel

    @property
    def quotient(self) -> Fraction:
        """Number of steps before rounding, (W + 2P - Fe) / S."""
        return Fraction(self.numerator, self.stride)

    @property
    def output(self) -> int:
        """Number of output units."""
        return self.numerator // self.stride + 1

    @property
    def remainder(self) -> int:
        """Columns of the padded input beyond the last window, 0 where the stride divides."""
        return self.numerator % self.stride

    @property
    def unused(self) -> int:
        """Columns of the input itself, at its far end, that no window reaches. Padding is lost first."""
        return max(0, self.remainder - self.padding)

    @property
    def _difference(self) -> str:
        return f"{self.size} + 2·{self.padding} - {self.effective_kernel}"

    def __str__(self) -> str:
        quotient = f"{float(self.quotient):g}"
        return f"floor(({self._difference}) / {self.stride}) + 1 = floor({quotient}) + 1 = {self.output}"


def conv_arithmetic(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> ConvArithmetic:
    """Work out one convolution along one axis.

    Raises:
        DoesNotFit: if the effective kernel is larger than the padded input.
        BadArgument: if a size, kernel, stride or dilation is below 1 or the padding below 0.

    >>> print(conv_arithmetic(224, kernel=11, stride=4))
    floor((224 + 2·0 - 11) / 4) + 1 = floor(53.25) + 1 = 54
    """
    return ConvArithmetic(size, kernel, stride, padding, dilation)


def conv_output_size(size: Size, kernel: Size, stride: Size = 1, padding: Size = 0, dilation: Size = 1) -> Size:
    """Return the output size of a convolution (``nn.Conv2d``): an int if all arguments are ints, else a tuple.

    Raises:
        DoesNotFit: if the effective kernel is larger than the padded input; names the smallest input that fits.
        BadArgument: if a size, kernel, stride or dilation is below 1 or the padding below 0.

    >>> conv_output_size(227, kernel=11, stride=4)
    55
    """

    def along_one_axis(*geometry: int) -> int:
        return ConvArithmetic(*geometry).output

    return _each_axis(along_one_axis, size, kernel, stride, padding, dilation)


def pool_output_size(
    size: Size,
    kernel: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Size:
    """Return the output size of a pooling (``nn.MaxPool2d``, ``nn.AvgPool2d``): an int, or a tuple if one is given.

    ``stride`` is the kernel size unless given. With ``ceil_mode`` the quotient is rounded up, and PyTorch drops a last
    window that would start in the padding on the far side.

    Raises:
        DoesNotFit: if there is no output; names the smallest input that fits.
        BadArgument: as :func:`conv_output_size`, and if the padding is more than half of the kernel, which PyTorch
            rejects (a window could lie in the padding alone).
    """

    def along_one_axis(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
        _check(size, kernel, stride, padding, dilation)
        effective = dilation * (kernel - 1) + 1
        if padding > kernel // 2:
            raise BadArgument(f"a padding of {padding} is more than half of a pooling kernel of {kernel}; use less")

        def units(size: int) -> int:
            travel = size + 2 * padding - effective
            if not ceil_mode:
                return travel // stride + 1
            count = -(-travel // stride) + 1
            return count - 1 if (count - 1) * stride >= size + padding else count

        if units(size) < 1:
            smallest = next(fitting for fitting in range(size + 1, effective + 1) if units(fitting) >= 1)
            rounding = "ceil" if ceil_mode else "floor"
            raise DoesNotFit(
                f"{_window(kernel, dilation)} does not fit into an input of {size}: "
                f"{rounding}(({size} + 2·{padding} - {effective}) / {stride}) + 1 = {units(size)}; "
                f"the smallest input that fits is {smallest}"
            )
        return units(size)

    return _each_axis(along_one_axis, size, kernel, kernel if stride is None else stride, padding, dilation)


def _window(kernel: int, dilation: int) -> str:
    if dilation == 1:
        return f"a kernel of {kernel}"
    return f"a kernel of {kernel} with dilation {dilation} (extent {dilation * (kernel - 1) + 1})"


def _check(size: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    require_whole(BadArgument, 1, size=size, kernel=kernel, stride=stride, dilation=dilation)
    require_whole(BadArgument, 0, padding=padding)


def _each_axis(along_one_axis: Callable[..., int], *arguments: Size) -> Size:
    """Apply a function of one axis to every axis; single numbers count for all of them."""
    lengths = {len(argument) for argument in arguments if isinstance(argument, tuple)}
    if not lengths:
        return along_one_axis(*arguments)
    if len(lengths) > 1:
        raise BadArgument(f"size, kernel, stride, padding and dilation name different numbers of axes: {arguments}")
    axes = lengths.pop()
    columns = [argument if isinstance(argument, tuple) else (argument,) * axes for argument in arguments]
    return tuple(along_one_axis(*column) for column in zip(*columns, strict=True))
