"""What the gates of squeeze and excitation do: the weight that each channel gets, by class and by depth.

After Hu et al. 2020, the later version of arXiv 1709.01507, section 7.2 and Figure 6, who average the weights over the
images of one class, block by block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnlib.errors import require_whole
from cnnlib.measure.dry_run import example, private_copy, require_batch, require_int64
from cnnlib.measure.errors import BadArgument
from cnnlib.models.senet import SqueezeExcitation

NOTHING = 1e-12
"""A variance of the weights that is none: they are the same to the last digits of single precision."""


@dataclass(frozen=True)
class ChannelWeights:
    """The weights, between 0 and 1, by which one squeeze-and-excitation module scales its channels.

    Attributes:
        module: its name in the network.
        by_class: (classes, channels), the mean over the images of each class.
        within: (channels,), the standard deviation over the images of one class, as a root mean square over classes.
    """

    module: str
    by_class: Tensor
    within: Tensor

    @property
    def mean(self) -> float:
        """The mean weight over classes and channels."""
        return self.by_class.mean().item()

    @property
    def across_channels(self) -> float:
        """The standard deviation over channels of their mean weight, which says how much the channels differ."""
        return self.by_class.mean(0).std(correction=0).item()

    @property
    def between_classes(self) -> float:
        """The standard deviation over classes, as a root mean square over channels."""
        return self.by_class.var(0, correction=0).mean().sqrt().item()

    @property
    def within_classes(self) -> float:
        """The standard deviation over images of one class, as a root mean square over classes and channels."""
        return self.within.square().mean().sqrt().item()

    @property
    def class_share(self) -> float:
        """The share, 0 to 1, of the weights' variance over images that the class explains; 0 if nothing varies.

        Each class counts equally, however many images it has. Classes differ by chance, too: with n images of each, the
        share is about 1/n where the class means nothing. Compare with that of shuffled labels.
        """
        between, within = self.between_classes**2, self.within_classes**2
        return between / (between + within) if between + within > NOTHING else 0.0


def channel_weights(
    model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 250
) -> tuple[ChannelWeights, ...]:
    """Return the channel weights of every squeeze-and-excitation module, in the order of the network.

    The network runs in evaluation mode and is left as it was.

    Args:
        model: the network.
        images: float (N, C, H, W), normalised.
        labels: int64 (N,), of at least two classes; only classes that occur are rows of the result, in order.
        batch_size: images at a time.

    Raises:
        BadArgument: if the network has no such module, the images are of fewer than two classes, there is no batch of
            images with labels, or ``batch_size`` is no number of images.
        DoesNotFit: if the network does not take such images.
    """
    net = private_copy(model)
    require_whole(BadArgument, 1, batch_size=batch_size)
    require_int64(labels)
    require_batch(net, images, labels)
    modules = {name: module for name, module in net.named_modules() if isinstance(module, SqueezeExcitation)}
    classes = labels.unique()
    if not modules or len(classes) < 2:
        what = "no squeeze-and-excitation module" if not modules else "images of one class only"
        raise BadArgument(f"channel_weights compares classes in SE modules, and {type(model).__name__} has {what}")
    of_weights = example(net)
    seen: dict[str, list[Tensor]] = {name: [] for name in modules}
    for name, module in modules.items():
        module.excite.register_forward_hook(
            lambda _module, _inputs, weights, kept=seen[name]: kept.append(weights.flatten(1).float().cpu())
        )
    with torch.no_grad():
        for batch in images.split(batch_size):
            net(batch.to(of_weights, copy=True))
    return tuple(_summarised(name, torch.cat(weights), labels.cpu(), classes.cpu()) for name, weights in seen.items())


def _summarised(name: str, weights: Tensor, labels: Tensor, classes: Tensor) -> ChannelWeights:
    groups = [weights[labels == label] for label in classes]
    within = torch.stack([group.var(0, correction=0) for group in groups]).mean(0).sqrt()
    return ChannelWeights(name, torch.stack([group.mean(0) for group in groups]), within)
