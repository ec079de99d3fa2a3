"""How much of its input a 1x1 convolution keeps, when it makes few maps of many.

A 1x1 convolution from C maps to k < C projects the C values of every pixel onto k directions. The variance that the
best linear reconstruction from the k values recovers is compared with two yardsticks of the same rank: the first k
principal components, which by construction keep the most, and directions drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnlib.errors import kind_of, require_whole
from cnnlib.measure.dry_run import example, private_copy, require_batch
from cnnlib.measure.errors import BadArgument


@dataclass(frozen=True)
class Projection:
    """What a projection of the maps keeps of their variance, as shares of 1.

    Attributes:
        maps_in: number of maps that it reads.
        maps_out: number of maps that it makes.
        learned: what the given weights keep.
        best: what principal components of the same number keep; no weights keep more.
        random: what directions drawn at random keep, on average.
    """

    maps_in: int
    maps_out: int
    learned: float
    best: float
    random: float


def projection(features: Tensor, weight: Tensor, *, draws: int = 8) -> Projection:
    """Return how much of the variance of some maps can be recovered linearly from their projections.

    Args:
        features: the maps that are projected, (N, C, H, W); each pixel of each image is one sample.
        weight: of the 1x1 convolution, (k, C, 1, 1) or (k, C). Its bias, and an affine normalisation after it, change
            nothing.
        draws: number of random projections, drawn from a fixed seed, that are averaged.

    Raises:
        BadArgument: if the shapes do not fit, there are no pixels, values are not finite, all maps are constant, or
            nothing is drawn.
    """
    require_whole(BadArgument, 1, draws=draws)
    if not (isinstance(features, Tensor) and isinstance(weight, Tensor)):
        raise BadArgument(f"projection needs two tensors, not {kind_of(features)} and {kind_of(weight)}")
    one_by_one = weight.ndim in (2, 4) and weight.shape[2:].numel() == 1
    if features.ndim != 4 or not one_by_one or weight.shape[1] != features.shape[1] or not len(weight):
        raise BadArgument(
            f"projection needs maps (N, C, H, W) and the weight (k, C) or (k, C, 1, 1) of a 1x1 convolution, "
            f"not {tuple(features.shape)} and {tuple(weight.shape)}"
        )
    rows = weight.detach().double().cpu().flatten(1)
    samples = features.detach().double().cpu().movedim(1, -1).flatten(0, -2)
    if not len(samples) or not (samples.isfinite().all() and rows.isfinite().all()):
        raise BadArgument("projection needs maps of at least one pixel, and finite values in maps and weight")
    centred = samples - samples.mean(0)
    covariance = centred.T @ centred / len(centred)
    total = covariance.trace()
    if not total > 0:
        raise BadArgument("these maps are constant: there is no variance to keep")
    k, maps = rows.shape
    noise = torch.Generator().manual_seed(0)
    drawn = [_kept(covariance, torch.randn(k, maps, generator=noise, dtype=torch.float64)) for _ in range(draws)]
    return Projection(
        maps_in=maps,
        maps_out=k,
        learned=_kept(covariance, rows),
        best=(torch.linalg.eigvalsh(covariance)[-k:].sum() / total).clamp(max=1).item(),
        random=sum(drawn) / draws,
    )


def bottleneck_projections(model: nn.Module, images: Tensor) -> dict[str, Projection]:
    """Return :func:`projection` for every 1x1 convolution of a network that makes fewer maps than it reads.

    The network is run in evaluation mode on a private copy. Only the pixels count that the convolution reads at its
    stride. Where it reads one pixel of each image it is left out: it is a linear layer, such as those of squeeze and
    excitation.

    Args:
        model: the network.
        images: float (N, C, H, W), normalised.

    Returns:
        By the names of the convolutions, in the order of their calls.

    Raises:
        BadArgument: if there is no batch of images, or all maps that one of them reads are constant or not all finite.
        DoesNotFit: if the network does not take such images.
    """
    net = private_copy(model)
    require_batch(net, images)
    names = {layer: name for name, layer in net.named_modules()}
    found: dict[str, Projection] = {}

    def look(layer: nn.Conv2d, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        down, across = layer.stride
        read = inputs[0][..., ::down, ::across]
        if read.shape[-2:].numel() > 1:
            found[names[layer]] = projection(read, layer.weight)

    for layer in net.modules():
        one_by_one = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1
        if one_by_one and layer.out_channels < layer.in_channels:
            layer.register_forward_hook(look)
    with torch.no_grad():
        net(images.to(example(net), copy=True))
    return found


def _kept(covariance: Tensor, rows: Tensor) -> float:
    """Return the share of the variance that the best linear reconstruction from ``rows @ x`` recovers."""
    crossed = covariance @ rows.T
    recovered = (torch.linalg.pinv(rows @ crossed, hermitian=True) * (crossed.T @ crossed)).sum()
    return (recovered / covariance.trace()).clamp(0, 1).item()
