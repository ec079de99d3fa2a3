"""Which earlier maps the layers of a trained DenseNet read: Figure 5 of Huang et al. 2017 (arXiv 1608.06993)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise

from torch import Tensor, nn

from cnnlib.measure.dry_run import require_values
from cnnlib.measure.errors import BadArgument
from cnnlib.models.densenet import BNReLUConv, DenseNet, Transition


@dataclass(frozen=True)
class SourceWeights:
    """How strongly each reader in and behind a dense block is connected with each source.

    Source 0 is what enters the block, source s the maps of its layer s. Reader 1 is the first layer, and so on; the
    last one is what reads the whole block, the transition or the classifier. Reader r has the sources 0 to r - 1, and
    ``weights[r - 1]`` holds one value for each.

    Attributes:
        block: number of the block, from 1.
        weights: means of the absolute weights, over all filters and over the maps of the source, as in the paper.
        with_gain: the same after each weight is multiplied by the gain of the batch normalisation before it, through
            which the reader gets the map.
    """

    block: int
    weights: tuple[tuple[float, ...], ...]
    with_gain: tuple[tuple[float, ...], ...]


def source_weights(model: nn.Module) -> tuple[SourceWeights, ...]:
    """Return the weights of a DenseNet by where what they multiply comes from, block by block.

    Raises:
        BadArgument: if the network is no DenseNet of this package, or is on the ``meta`` device.
    """
    if not isinstance(model, DenseNet):
        raise BadArgument(f"only a DenseNet has dense blocks to look into, and this is a {type(model).__name__}")
    require_values(model)
    parts = [*model.blocks, None]
    found = []
    for block, after in pairwise(parts):
        if isinstance(block, Transition):
            continue
        readers = [layer.conv1 for layer in block] + ([] if after is None else [after.conv])
        enters = readers[0].norm.num_features
        sizes = [enters, *(layer[-1].conv.out_channels for layer in map(_convolutions, block))]
        pairs = [(reader.norm, reader.conv.weight) for reader in readers]
        if after is None:
            pairs.append((model.norm, model.fc.weight))
        found.append(
            SourceWeights(
                len(found) + 1,
                weights=tuple(_means(weight, None, sizes) for _, weight in pairs),
                with_gain=tuple(_means(weight, norm.weight, sizes) for norm, weight in pairs),
            )
        )
    return tuple(found)


def _convolutions(layer: nn.Module) -> list[BNReLUConv]:
    return [part for part in layer.children() if isinstance(part, BNReLUConv)]


def _means(weight: Tensor, gain: Tensor | None, sizes: list[int]) -> tuple[float, ...]:
    """Average the absolute weights by source; the reader sees as many of the sources as it has input maps."""
    size = weight.detach().double().abs().flatten(2).mean(2) if weight.dim() > 2 else weight.detach().double().abs()
    by_map = size.mean(0) if gain is None else size.mean(0) * gain.detach().double().abs()
    ends = [end for end in accumulate(sizes) if end <= len(by_map)]
    return tuple(by_map[start:end].mean().item() for start, end in pairwise([0, *ends]))
