"""Kernels in Triton for what a small network spends its training on: 3x3 convolutions and batch norm of few maps.

The nets for CIFAR have 16 to 64 maps. The kernels of cuDNN and PyTorch are made for hundreds of them, and take up to
four times as long as these, which compute the same sums: products are of numbers in half precision, sums in fp32, and
the order of all sums is fixed, so that equal seeds give equal numbers.

A convolution is an implicit matrix product (Chetlur et al. 2014, arXiv 1410.0759, section 3). Its rows are the places
in all images of the batch, its columns the maps: exactly how channels_last tensors lie in memory. Tiles have a power of
two of maps; what is too much is masked.

Import this module only where there is Triton, see :func:`cnnlib.training.hardware.has_triton`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cnnlib.training.calls import relus_after_batch_norm

MOST_MAPS = 64
"""More were not measured."""
MOST_NUMBERS = 2**22
"""Positions times maps, rounded up. More were not measured, and the sums of batch norm would have too many parts."""


@dataclass(frozen=True)
class Tiling:
    """How work is cut for the GPU: rows of a block, warps of a program, stages of its pipeline, blocks of a program."""

    rows: int
    warps: int = 4
    stages: int = 2
    blocks: int = 1


# By the number of maps, rounded up to a power of two. Chosen by time on an H200, at batch 128 and the image sizes that
# these numbers of maps have in networks for CIFAR: 32, 16 and 8.
CONVOLUTION = {16: Tiling(256), 32: Tiling(64), 64: Tiling(64)}
SUM_OF_PRODUCTS = {16: Tiling(128, blocks=8), 32: Tiling(64, blocks=4), 64: Tiling(32, blocks=4)}
NORMALISED = 8192
"""Numbers in a block of batch norm."""
LEAST_MAPS = min(CONVOLUTION)
"""The matrix units take no smaller tiles."""


# Convolution


@triton.jit
def _convolve(
    x,
    w,
    y,
    rows,
    y_height,
    y_width,
    x_height,
    x_width,
    X_MAPS: tl.constexpr,
    Y_MAPS: tl.constexpr,
    X_TILE: tl.constexpr,
    Y_TILE: tl.constexpr,
    W_X: tl.constexpr,
    W_Y: tl.constexpr,
    W_TAP: tl.constexpr,
    STRIDE: tl.constexpr,
    BACKWARD: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Compute ROWS rows of y from x: y is the convolution of x or, BACKWARD, the gradient by x where x is that by y."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = row % y_width
    line = (row // y_width) % y_height
    image = row // (y_width * y_height)
    x_map = tl.arange(0, X_TILE)
    y_map = tl.arange(0, Y_TILE)
    total = tl.zeros((ROWS, Y_TILE), tl.float32)
    for tap in tl.static_range(9):
        if BACKWARD:
            down = line + 1 - tap // 3
            right = column + 1 - tap % 3
            inside = (row < rows) & (down % STRIDE == 0) & (right % STRIDE == 0) & (down >= 0) & (right >= 0)
            down = down // STRIDE
            right = right // STRIDE
        else:
            down = line * STRIDE - 1 + tap // 3
            right = column * STRIDE - 1 + tap % 3
            inside = (row < rows) & (down >= 0) & (right >= 0)
        inside = inside & (down < x_height) & (right < x_width)
        source = (image * x_height + down) * x_width + right
        values = tl.load(
            x + source[:, None] * X_MAPS + x_map[None, :],
            mask=inside[:, None] & (x_map < X_MAPS)[None, :],
            other=0.0,
        )
        weights = tl.load(
            w + tap * W_TAP + x_map[:, None] * W_X + y_map[None, :] * W_Y,
            mask=(x_map < X_MAPS)[:, None] & (y_map < Y_MAPS)[None, :],
            other=0.0,
        )
        total = tl.dot(values, weights.to(values.dtype), total)
    there = (row < rows)[:, None] & (y_map < Y_MAPS)[None, :]
    tl.store(y + row[:, None] * Y_MAPS + y_map[None, :], total.to(y.dtype.element_ty), mask=there)


@triton.jit
def _sum_products(
    x,
    dy,
    parts,
    rows,
    y_height,
    y_width,
    x_height,
    x_width,
    X_MAPS: tl.constexpr,
    Y_MAPS: tl.constexpr,
    X_TILE: tl.constexpr,
    Y_TILE: tl.constexpr,
    STRIDE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Sum the products of dy and x over BLOCKS x ROWS positions for one line of the window, into parts[program]."""
    x_map = tl.arange(0, X_TILE)
    y_map = tl.arange(0, Y_TILE)
    x_there = (x_map < X_MAPS)[None, :]
    left = tl.zeros((Y_TILE, X_TILE), tl.float32)
    middle = tl.zeros((Y_TILE, X_TILE), tl.float32)
    right = tl.zeros((Y_TILE, X_TILE), tl.float32)
    for block in range(BLOCKS):
        row = (tl.program_id(0) * BLOCKS + block) * ROWS + tl.arange(0, ROWS)
        column = (row % y_width) * STRIDE
        line = ((row // y_width) % y_height) * STRIDE - 1 + tl.program_id(1)
        image = row // (y_width * y_height)
        here = (row < rows) & (line >= 0) & (line < x_height)
        gradients = tl.load(
            dy + row[None, :] * Y_MAPS + y_map[:, None], mask=here[None, :] & (y_map < Y_MAPS)[:, None], other=0.0
        )
        source = x + ((image * x_height + line) * x_width + column)[:, None] * X_MAPS + x_map[None, :]
        values = tl.load(source - X_MAPS, mask=(here & (column > 0))[:, None] & x_there, other=0.0)
        left = tl.dot(gradients, values, left)
        values = tl.load(source, mask=here[:, None] & x_there, other=0.0)
        middle = tl.dot(gradients, values, middle)
        values = tl.load(source + X_MAPS, mask=(here & (column < x_width - 1))[:, None] & x_there, other=0.0)
        right = tl.dot(gradients, values, right)
    place = parts + (tl.program_id(0) * Y_MAPS + y_map[:, None]) * 9 * X_MAPS + x_map[None, :]
    place = place + tl.program_id(1) * 3 * X_MAPS
    there = (y_map < Y_MAPS)[:, None] & x_there
    tl.store(place, left, mask=there)
    tl.store(place + X_MAPS, middle, mask=there)
    tl.store(place + 2 * X_MAPS, right, mask=there)


def _tile(maps: int) -> int:
    return max(LEAST_MAPS, triton.next_power_of_2(maps))


def _images(x: Tensor, maps: int, height: int, width: int) -> Tensor:
    """Return an empty channels_last tensor (N, maps, height, width) like x."""
    shape = len(x), maps, height, width
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _launch_convolution(x: Tensor, weight: Tensor, y: Tensor, stride: int, backward: bool) -> Tensor:
    tiles = [_tile(x.shape[1]), _tile(y.shape[1])]
    tiling = CONVOLUTION[max(tiles)]
    rows = len(y) * y.shape[2] * y.shape[3]
    by_out, by_in, _, by_tap = weight.stride()
    by_x, by_y = (by_out, by_in) if backward else (by_in, by_out)
    with torch.cuda.device_of(x):
        _convolve[(triton.cdiv(rows, tiling.rows),)](
            *(x, weight, y, rows, *y.shape[2:], *x.shape[2:], x.shape[1], y.shape[1], *tiles, by_x, by_y, by_tap),
            *(stride, backward, tiling.rows),
            num_warps=tiling.warps,
            num_stages=tiling.stages,
        )
    return y


class Convolution(torch.autograd.Function):
    """``Convolution.apply(x, weight, stride)``: 3x3, padding 1, of at most :data:`MOST_MAPS` maps.

    x is (N, C, H, W) in half precision and channels_last; the weights (K, C, 3, 3) are fp32 and channels_last.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:  # noqa: D102
        weight = weight.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        height, width = ((size - 1) // stride + 1 for size in x.shape[2:])
        return _launch_convolution(x, weight, _images(x, len(weight), height, width), stride, False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # noqa: D102
        x, weight = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = _launch_convolution(dy, weight, _images(x, *x.shape[1:]), ctx.stride, True)
        dw = _gradient_of_weights(x, dy, ctx.stride) if ctx.needs_input_grad[1] else None
        return dx, dw, None


def _gradient_of_weights(x: Tensor, dy: Tensor, stride: int) -> Tensor:
    tiles = [_tile(x.shape[1]), _tile(dy.shape[1])]
    tiling = SUM_OF_PRODUCTS[max(tiles)]
    rows = len(dy) * dy.shape[2] * dy.shape[3]
    programs = triton.cdiv(rows, tiling.rows * tiling.blocks)
    parts = torch.empty((programs, dy.shape[1], 3, 3, x.shape[1]), device=x.device, dtype=torch.float32)
    with torch.cuda.device_of(x):
        _sum_products[(programs, 3)](
            *(x, dy, parts, rows, *dy.shape[2:], *x.shape[2:], x.shape[1], dy.shape[1], *tiles, stride),
            *(tiling.rows, tiling.blocks),
            num_warps=tiling.warps,
            num_stages=tiling.stages,
        )
    return parts.sum(0).permute(0, 3, 1, 2)


# Batch norm, and the ReLU after it


@triton.jit
def _block(rows, MAPS: tl.constexpr, TILE: tl.constexpr, ROWS: tl.constexpr):
    """Return where the numbers of this program's rows lie, and which of them there are."""
    maps = tl.arange(0, TILE)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    return row[:, None] * MAPS + maps[None, :], (row < rows)[:, None] & (maps < MAPS)[None, :]


@triton.jit
def _by_map(place, MAPS: tl.constexpr, TILE: tl.constexpr):
    """Load a number for each map."""
    maps = tl.arange(0, TILE)
    return tl.load(place + maps, mask=maps < MAPS, other=0.0)


@triton.jit
def _moments(x, parts, rows, MAPS: tl.constexpr, TILE: tl.constexpr, ROWS: tl.constexpr):
    """Store the mean and the sum of squared deviations of ROWS rows of x in parts[program]."""
    maps = tl.arange(0, TILE)
    where, inside = _block(rows, MAPS, TILE, ROWS)
    values = tl.load(x + where, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(values, 0) / tl.minimum(rows - tl.program_id(0) * ROWS, ROWS)
    deviations = tl.where(inside, values - mean[None, :], 0.0)
    place = parts + tl.program_id(0) * 2 * MAPS + maps
    tl.store(place, mean, mask=maps < MAPS)
    tl.store(place + MAPS, tl.sum(deviations * deviations, 0), mask=maps < MAPS)


@triton.jit
def _normalise(
    x,
    parts,
    gain,
    shift,
    running_mean,
    running_var,
    batches,
    saved,
    y,
    rows,
    momentum,
    eps,
    PARTS: tl.constexpr,
    MAPS: tl.constexpr,
    TILE: tl.constexpr,
    ROWS: tl.constexpr,
    RELU: tl.constexpr,
):
    """Normalise ROWS rows of x. Every program joins the moments of all (Chan et al. 1979); the first one keeps them."""
    maps = tl.arange(0, TILE)
    there = maps < MAPS
    part = tl.arange(0, PARTS)
    count = tl.minimum(tl.maximum(rows - part * ROWS, 0), ROWS).to(tl.float32)[:, None]
    place = parts + part[:, None] * 2 * MAPS + maps[None, :]
    full = (count > 0) & there[None, :]
    means = tl.load(place, mask=full, other=0.0)
    mean = tl.sum(count * means, 0) / rows
    away = means - mean[None, :]
    squares = tl.sum(tl.load(place + MAPS, mask=full, other=0.0) + count * away * away, 0)
    scale = 1 / tl.sqrt(squares / rows + eps)
    where, inside = _block(rows, MAPS, TILE, ROWS)
    values = (tl.load(x + where, mask=inside, other=0.0).to(tl.float32) - mean[None, :]) * scale[None, :]
    values = values * _by_map(gain, MAPS, TILE)[None, :] + _by_map(shift, MAPS, TILE)[None, :]
    if RELU:
        values = tl.where(values <= 0, 0.0, values)  # not a maximum, which would make 0 of what is not a number
    tl.store(y + where, values.to(y.dtype.element_ty), mask=inside)
    if tl.program_id(0) == 0:
        tl.store(saved + maps, mean, mask=there)
        tl.store(saved + MAPS + maps, scale, mask=there)
        before = _by_map(running_mean, MAPS, TILE)
        tl.store(running_mean + maps, before + momentum * (mean - before), mask=there)
        before = _by_map(running_var, MAPS, TILE)
        tl.store(running_var + maps, before + momentum * (squares / (rows - 1) - before), mask=there)
        tl.store(batches, tl.load(batches) + 1)


@triton.jit
def _gradients(
    dy,
    x,
    saved,
    gain,
    shift,
    rows,
    MAPS: tl.constexpr,
    TILE: tl.constexpr,
    ROWS: tl.constexpr,
    RELU: tl.constexpr,
):
    """Return the normalised values of this program's rows, and the gradient that comes to batch norm, past the ReLU."""
    where, inside = _block(rows, MAPS, TILE, ROWS)
    gradient = tl.load(dy + where, mask=inside, other=0.0).to(tl.float32)
    mean, scale = _by_map(saved, MAPS, TILE), _by_map(saved + MAPS, MAPS, TILE)
    values = (tl.load(x + where, mask=inside, other=0.0).to(tl.float32) - mean[None, :]) * scale[None, :]
    if RELU:
        output = values * _by_map(gain, MAPS, TILE)[None, :] + _by_map(shift, MAPS, TILE)[None, :]
        gradient = tl.where(output <= 0, 0.0, gradient)
    return values, tl.where(inside, gradient, 0.0)


@triton.jit
def _sums(
    dy,
    x,
    saved,
    gain,
    shift,
    parts,
    rows,
    MAPS: tl.constexpr,
    TILE: tl.constexpr,
    ROWS: tl.constexpr,
    RELU: tl.constexpr,
):
    """Store the sums of gradients, and of their products with the normalised values, in parts[program]."""
    maps = tl.arange(0, TILE)
    values, gradient = _gradients(dy, x, saved, gain, shift, rows, MAPS, TILE, ROWS, RELU)
    place = parts + tl.program_id(0) * 2 * MAPS + maps
    tl.store(place, tl.sum(gradient, 0), mask=maps < MAPS)
    tl.store(place + MAPS, tl.sum(gradient * values, 0), mask=maps < MAPS)


@triton.jit
def _by_input(
    dy,
    x,
    saved,
    gain,
    shift,
    parts,
    dx,
    dgain,
    dshift,
    rows,
    programs,
    PARTS: tl.constexpr,
    MAPS: tl.constexpr,
    TILE: tl.constexpr,
    ROWS: tl.constexpr,
    RELU: tl.constexpr,
):
    """Compute ROWS rows of the gradient by the input; the first program stores those by the parameters as well."""
    maps = tl.arange(0, TILE)
    there = maps < MAPS
    part = tl.arange(0, PARTS)
    place = parts + part[:, None] * 2 * MAPS + maps[None, :]
    full = (part < programs)[:, None] & there[None, :]
    total = tl.sum(tl.load(place, mask=full, other=0.0), 0)
    along = tl.sum(tl.load(place + MAPS, mask=full, other=0.0), 0)
    values, gradient = _gradients(dy, x, saved, gain, shift, rows, MAPS, TILE, ROWS, RELU)
    gradient = gradient - (total / rows)[None, :] - values * (along / rows)[None, :]
    scale = _by_map(saved + MAPS, MAPS, TILE) * _by_map(gain, MAPS, TILE)
    where, inside = _block(rows, MAPS, TILE, ROWS)
    tl.store(dx + where, (gradient * scale[None, :]).to(dx.dtype.element_ty), mask=inside)
    if tl.program_id(0) == 0:
        tl.store(dgain + maps, along, mask=there)
        tl.store(dshift + maps, total, mask=there)


class BatchNorm(torch.autograd.Function):
    """``BatchNorm.apply(x, gain, shift, running_mean, running_var, batches, momentum, eps, relu)``, in training mode.

    x is (N, C, H, W) in half precision and channels_last, all else as of ``nn.BatchNorm2d``, fp32. The running averages
    and the number of batches are updated. With ``relu`` a ReLU follows.
    """

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        x: Tensor,
        gain: Tensor,
        shift: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        batches: Tensor,
        momentum: float,
        eps: float,
        relu: bool,
    ) -> Tensor:
        rows, programs, block = _blocks(x)
        parts = torch.empty((programs, 2, x.shape[1]), device=x.device, dtype=torch.float32)
        saved = torch.empty((2, x.shape[1]), device=x.device, dtype=torch.float32)
        y = torch.empty_like(x)
        with torch.cuda.device_of(x):
            _moments[(programs,)](x, parts, rows, *block)
            _normalise[(programs,)](
                *(x, parts, gain, shift, running_mean, running_var, batches, saved, y, rows, momentum, eps),
                *(triton.next_power_of_2(programs), *block, relu),
            )
        ctx.save_for_backward(x, gain, shift, saved)
        ctx.relu = relu
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        x, gain, shift, saved = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        rows, programs, block = _blocks(x)
        parts = torch.empty((programs, 2, x.shape[1]), device=x.device, dtype=torch.float32)
        dx, dgain, dshift = torch.empty_like(x), torch.empty_like(gain), torch.empty_like(shift)
        with torch.cuda.device_of(x):
            _sums[(programs,)](dy, x, saved, gain, shift, parts, rows, *block, ctx.relu)
            _by_input[(programs,)](
                *(dy, x, saved, gain, shift, parts, dx, dgain, dshift, rows, programs),
                *(triton.next_power_of_2(programs), *block, ctx.relu),
            )
        return dx, dgain, dshift, None, None, None, None, None, None


def _blocks(x: Tensor) -> tuple[int, int, tuple[int, int, int]]:
    """Return the rows of x, the programs that share them, and for each of these: maps, their tile, and rows."""
    n, maps, height, width = x.shape
    tile = _tile(maps)
    block = NORMALISED // tile
    return n * height * width, triton.cdiv(n * height * width, block), (maps, tile, block)


# In a network


def _half(part: nn.Module, x: Tensor, ins: int, outs: int) -> Tensor | None:
    """Return x as these kernels take it, or None if it is for PyTorch's.

    These evaluate, in fp32, take the larger tensors, and say what is wrong with one that does not fit the layer.
    """
    if not (part.training and torch.is_autocast_enabled(x.device.type)):
        return None
    positions = x.numel() // ins
    if x.dim() != 4 or x.shape[1] != ins or not 1 < positions <= MOST_NUMBERS // _tile(max(ins, outs)):
        return None
    return x.to(torch.get_autocast_dtype(x.device.type)).contiguous(memory_format=torch.channels_last)


def _convolution_forward(self: nn.Conv2d, x: Tensor) -> Tensor:
    half = _half(self, x, self.in_channels, self.out_channels)
    if half is None:
        return F.conv2d(x, self.weight, None, self.stride, 1)
    return Convolution.apply(half, self.weight, self.stride[0])


def _batch_norm_forward(self: nn.BatchNorm2d, x: Tensor, joined: set[nn.Module] | None = None) -> Tensor:
    """Normalise x. With ``joined``, a ReLU follows: note there whether this was done here, too."""
    half = None
    if x.dtype in (torch.float16, torch.bfloat16):  # fp32 stays what it is, as under autocast
        half = _half(self, x, self.num_features, self.num_features)
    if joined is not None:
        (joined.discard if half is None else joined.add)(self)
    if half is None:
        return nn.BatchNorm2d.forward(self, x)
    return BatchNorm.apply(
        *(half, self.weight, self.bias, self.running_mean, self.running_var, self.num_batches_tracked),
        *(self.momentum, self.eps, joined is not None),
    )


def _relu_forward(self: nn.ReLU, norm: nn.BatchNorm2d, joined: set[nn.Module], x: Tensor) -> Tensor:
    return x if norm in joined else nn.ReLU.forward(self, x)


def _fits(part: nn.Module) -> bool:
    """Tell whether these kernels can compute a layer."""
    if "forward" in vars(part):  # somebody else's
        return False
    if type(part) is nn.Conv2d:
        return (
            (part.kernel_size, part.padding, part.dilation, part.groups) == ((3, 3), (1, 1), (1, 1), 1)
            and part.stride in ((1, 1), (2, 2))
            and part.bias is None
            and part.padding_mode == "zeros"
            and max(part.in_channels, part.out_channels) <= MOST_MAPS
        )
    return (
        type(part) is nn.BatchNorm2d
        and part.affine
        and part.track_running_stats
        and part.momentum is not None
        and part.num_features <= MOST_MAPS
    )


def _can_be_joined(norm: nn.BatchNorm2d, relu: nn.ReLU) -> bool:
    """Tell whether nobody would notice that a batch norm computes its ReLU as well."""
    return _fits(norm) and "forward" not in vars(relu)


@contextlib.contextmanager
def few_maps(module: nn.Module) -> Iterator[None]:
    """Within this context the training steps of a network in half precision use these kernels wherever they fit.

    Layers get another ``forward`` for as long. A copy made within the context keeps it.
    """
    joined: set[nn.Module] = set()
    pairs = {norm: relu for norm, relu in relus_after_batch_norm(module).items() if _can_be_joined(norm, relu)}
    parts = [part for part in module.modules() if _fits(part)]
    for part in parts:
        if isinstance(part, nn.Conv2d):
            part.forward = functools.partial(_convolution_forward, part)
        else:
            part.forward = functools.partial(_batch_norm_forward, part, joined=joined if part in pairs else None)
    for norm, relu in pairs.items():
        relu.forward = functools.partial(_relu_forward, relu, norm, joined)
    try:
        yield
    finally:
        for part in (*parts, *pairs.values()):
            del part.forward


def trouble(module: nn.Module, dtype: torch.dtype) -> str | None:
    """Return why these kernels cannot compute a network's layers in half precision where it is, or None if they can.

    Triton needs a C compiler, for example, and a device may have too little memory for a tile. Parts of one size are
    tried once in a process.
    """
    parts = [part for part in module.modules() if _fits(part)]
    try:
        for part in parts:
            if isinstance(part, nn.Conv2d):
                _try_convolution(part.in_channels, part.out_channels, part.stride[0], dtype, part.weight.device)
            else:
                _try_batch_norm(part.num_features, dtype, part.weight.device)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of Triton, of a compiler, of the device
        return f"{type(error).__name__}: {error}"
    return None


@functools.cache
def _try_convolution(ins: int, outs: int, stride: int, dtype: torch.dtype, device: torch.device) -> None:
    x = torch.zeros((2, ins, 4, 4), dtype=dtype, device=device).to(memory_format=torch.channels_last)
    weight = torch.zeros((outs, ins, 3, 3), device=device)
    with torch.enable_grad():
        Convolution.apply(x.requires_grad_(), weight.requires_grad_(), stride).sum().backward()
    weight.grad.sum().item()  # waits for the device


@functools.cache
def _try_batch_norm(maps: int, dtype: torch.dtype, device: torch.device) -> None:
    x = torch.zeros((2, maps, 4, 4), dtype=dtype, device=device).to(memory_format=torch.channels_last)
    gain, shift, mean, var = torch.ones((4, maps), device=device)
    batches = torch.zeros((), dtype=torch.int64, device=device)
    with torch.enable_grad():
        for relu in (False, True):
            BatchNorm.apply(x.requires_grad_(), gain, shift, mean, var, batches, 0.1, 1e-5, relu).sum().backward()
    batches.item()  # waits for the device
