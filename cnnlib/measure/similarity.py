"""What a network's features say about images: which are alike, and how far apart two versions of one image are.

The distance is equation 1 of Zhang, Isola, Efros, Shechtman and Wang 2018, "The Unreasonable Effectiveness of Deep
Features as a Perceptual Metric" (arXiv 1801.03924), with all weights 1 instead of learned ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib.errors import kind_of, require_whole
from cnnlib.measure.dry_run import example, named_layers, private_copy, require_batch, require_images
from cnnlib.measure.errors import BadArgument

BATCH = 250
"""Images that go through the network together."""
METRICS = ("euclidean", "cosine")
"""How :func:`nearest` compares vectors."""


def features(model: nn.Module, images: Tensor, layer: str) -> Tensor:
    """Return what a layer puts out for each image, flattened to one vector: float32 (N, values), on the CPU.

    The network is used in evaluation mode and is not changed.

    Args:
        model: the network.
        images: float (N, C, H, W), normalised as the network expects them.
        layer: name of a module; its last call counts.

    Raises:
        UnknownLayer: if the network has no module of this name.
        BadArgument: if there is no batch of images, or the layer is not called or does not put out one tensor with a
            row for each image.
        DoesNotFit: if the network does not take such images.
    """
    (outputs,) = _outputs(model, images, [layer])
    return outputs.unsqueeze(-1).flatten(1)  # one value an image is a vector too


def nearest(
    vectors: Tensor, queries: Tensor | Sequence[int] | int, count: int = 5, metric: str = "euclidean"
) -> Tensor:
    """Return the ``count`` nearest neighbours of some vectors among all others, nearest first: int64 (Q, count).

    Args:
        vectors: (N, ...), one for each image, finite; flattened.
        queries: the numbers (Q,) of the images whose neighbours are wanted, in a tensor or a list, or one number. No
            image is its own neighbour.
        count: how many.
        metric: one of :data:`METRICS`; ``"cosine"`` compares directions, whatever the lengths. A vector of zeros has a
            cosine of 0 with all others.

    Raises:
        BadArgument: if the metric is unknown, there are no such queries or not so many other vectors, or one of them
            is not finite.
    """
    if metric not in METRICS:
        raise BadArgument(f"unknown metric {metric!r}; known are {', '.join(METRICS)}")
    if not isinstance(vectors, Tensor) or vectors.ndim < 1 or vectors.is_complex():
        raise BadArgument(f"vectors must be a tensor (N, ...) of real numbers, not {kind_of(vectors)}")
    numbers = _numbers(queries, below=len(vectors))
    require_whole(BadArgument, 0, count=count)
    if not 1 <= count < len(vectors):
        raise BadArgument(f"{count} neighbours of {len(vectors)} vectors cannot be had")
    vectors = vectors.reshape(len(vectors), -1).float()
    finite = vectors.isfinite().all(1)
    if not finite.all():  # one NaN would spoil the mean, and so all distances
        raise BadArgument(f"vectors must be finite; vector {finite.tolist().index(False)} is not")
    if metric == "cosine":
        vectors = F.normalize(vectors)
        squares = vectors.new_zeros(len(vectors))  # all lengths are 1, but that of a vector of zeros: it must not win
    else:
        vectors = vectors - vectors.mean(0)  # a large mean costs digits
        squares = vectors.square().sum(1)
    found = []
    for part in numbers.split(BATCH):
        distances = squares - 2 * vectors[part] @ vectors.T  # squared, less what is the same for all
        distances[torch.arange(len(part)), part] = torch.inf
        found.append(distances.topk(count, largest=False).indices)
    return torch.cat(found)


def _numbers(queries: Tensor | Sequence[int] | int, below: int) -> Tensor:
    try:
        numbers = torch.as_tensor(queries).reshape(-1)
    except (TypeError, ValueError, RuntimeError):  # PyTorch makes no tensor of it
        numbers = torch.empty(0)
    whole = not (numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool)
    if not whole or not ((numbers >= 0) & (numbers < below)).all():
        raise BadArgument(f"queries must be whole numbers from 0 to {below - 1}, not {queries!r}")
    return numbers.long()  # PyTorch takes uint8 for a mask


def same_class(neighbours: Tensor, queries: Tensor | Sequence[int] | int, labels: Tensor) -> float:
    """Return the share of neighbours that have the label of their query, 0 to 1.

    Args:
        neighbours: int64 (Q, count), from :func:`nearest`.
        queries: whole numbers (Q,), those given there.
        labels: int64 (N,), of all images.

    Raises:
        BadArgument: if neighbours or labels have another shape or type, there is not one query for each row of
            neighbours, or a neighbour has no label.
    """
    for name, numbers, shape in (("neighbours", neighbours, ("Q", "count")), ("labels", labels, ("N",))):
        if not isinstance(numbers, Tensor) or numbers.dtype != torch.int64 or numbers.ndim != len(shape):
            raise BadArgument(f"{name} must be an int64 tensor of shape {', '.join(shape)}, not {kind_of(numbers)}")
    queries = _numbers(queries, below=len(labels))
    if not neighbours.numel() or len(queries) != len(neighbours):
        raise BadArgument(f"neighbours {tuple(neighbours.shape)} do not go with {len(queries)} queries")
    if neighbours.min() < 0 or neighbours.max() >= len(labels):
        raise BadArgument(f"neighbours are numbers of images that have labels, 0 to {len(labels) - 1}")
    return (labels[neighbours] == labels[queries][:, None]).double().mean().item()


def pixel_distance(images: Tensor, others: Tensor) -> Tensor:
    """Return the root mean square difference of pixels for each pair of images: (N,), in the unit of the images.

    Raises:
        BadArgument: if they are no float tensors of the same shape (N, ...).
    """
    if not all(isinstance(batch, Tensor) and batch.is_floating_point() for batch in (images, others)):
        raise BadArgument(f"pixel_distance compares float tensors, not {kind_of(images)} and {kind_of(others)}")
    if images.shape != others.shape or images.ndim < 2:
        raise BadArgument(f"pairs must have one shape (N, ...), not {tuple(images.shape)} and {tuple(others.shape)}")
    return (images - others).flatten(1).square().mean(1).sqrt()


def perceptual_distance(model: nn.Module, images: Tensor, others: Tensor, layers: Sequence[str]) -> Tensor:
    """Return how far apart a network sees each pair of images: (N,), without a unit, 0 for the same image.

    At each place of each layer the channels are scaled to a vector of length 1. The distance is the squared difference
    of these vectors, averaged over places and summed over layers.

    Args:
        model: the network; it is used in evaluation mode and is not changed.
        images: float (N, C, H, W), normalised as the network expects them.
        others: likewise, the second of each pair.
        layers: names of modules that put out maps.

    Raises:
        UnknownLayer: if the network has no module of one of these names.
        BadArgument: if there is no batch of images, ``layers`` is no list or empty, one puts out no maps, or the two
            batches differ in shape.
        DoesNotFit: if the network does not take such images.
    """
    for batch in (images, others):
        require_images(batch)
    if images.shape != others.shape:
        raise BadArgument(f"pairs must have one shape, not {tuple(images.shape)} and {tuple(others.shape)}")
    if not layers:
        raise BadArgument("perceptual_distance needs at least one layer")
    total = torch.zeros(len(images))
    for layer, ours, theirs in zip(
        layers, _outputs(model, images, layers), _outputs(model, others, layers), strict=True
    ):
        if ours.ndim != 4:
            raise BadArgument(f"{layer!r} puts out no maps")
        total += (F.normalize(ours) - F.normalize(theirs)).square().sum(1).mean((1, 2))
    return total


def _outputs(model: nn.Module, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """Return the outputs of layers for all images, float32 on the CPU."""
    net = private_copy(model)
    require_batch(net, images)
    of_weights = example(net)
    now: dict[str, Tensor] = {}
    for layer, module in named_layers(net, layers).items():
        # A copy, because the next layer may write into the output.
        module.register_forward_hook(
            lambda _, __, output, layer=layer: now.update({layer: output.clone()} if isinstance(output, Tensor) else {})
        )
    parts: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    with torch.no_grad():
        for batch in images.split(BATCH):
            now.clear()
            net(batch.to(of_weights, copy=True))
            for layer in parts:
                if layer not in now or now[layer].shape[:1] != batch.shape[:1]:
                    raise BadArgument(f"{layer!r} is not called, or puts out no tensor with a row for each image")
                parts[layer].append(now[layer].float().cpu())
    return [torch.cat(parts[layer]) for layer in layers]
