"""Lesions: the error of a trained net when one of its blocks is taken out.

After Veit, Wilber and Belongie 2016, "Residual Networks Behave Like Ensembles of Relatively Shallow Networks" (arXiv
1605.06431), section 4.1 and Figure 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cnnlib.errors import require_whole
from cnnlib.measure.dry_run import example, private_copy, require_batch, require_int64
from cnnlib.measure.errors import BadArgument
from cnnlib.measure.gradients import require_classes
from cnnlib.models.resnet import ResNet
from cnnlib.models.surgery import block_names, without_block


@dataclass(frozen=True)
class Lesion:
    """What is left of a net.

    Attributes:
        block: the block that was taken out, ``""`` for the whole net.
        error: share of wrongly classified images, in percent.
    """

    block: str
    error: float


def lesions(model: ResNet, images: Tensor, labels: Tensor, *, batch_size: int = 500) -> tuple[Lesion, ...]:
    """Return the error of the whole net, then of the net without each of its blocks, one at a time.

    Batch normalisation uses its running statistics, and nothing is trained again. The net stays as it is.

    Args:
        model: the net, plain or residual.
        images: float (N, C, H, W), normalised.
        labels: int64 (N,).
        batch_size: images at a time.

    Raises:
        BadArgument: if the net is no ResNet of this package or is on the ``meta`` device, there is no batch of images
            with labels, a label is none of its classes, or ``batch_size`` is no number of images.
        DoesNotFit: if the net does not take such images.
        cnnlib.models.BadOption: if the net has blocks that are neither plain nor residual.
    """
    net = private_copy(model)
    if not isinstance(net, ResNet):
        raise BadArgument(f"only a ResNet of this package has blocks to take out, and this is a {type(net).__name__}")
    require_whole(BadArgument, 1, batch_size=batch_size)
    require_int64(labels)
    require_batch(net, images, labels)
    require_classes(net, labels, net.fc.out_features)
    tried = [("", net), *((name, without_block(net, name)) for name in block_names(net))]
    return tuple(Lesion(name, _error(one, images, labels, batch_size)) for name, one in tried)


def _error(net: ResNet, images: Tensor, labels: Tensor, batch_size: int) -> float:
    of_weights = example(net)
    with torch.no_grad():
        wrong = sum(
            (net(part.to(of_weights, copy=True)).argmax(1) != truth.to(of_weights.device)).sum().item()
            for part, truth in zip(images.split(batch_size), labels.split(batch_size), strict=True)
        )
    return 100 * wrong / len(images)
