"""What takes images says in one line what is wrong with them, their labels or the network."""

import copy
import re

import pytest
import torch
from torch import nn

from cnnlib.measure import (
    BadArgument,
    DoesNotFit,
    UnknownLayer,
    block_flow,
    block_responses,
    bottleneck_projections,
    channel_weights,
    effective_receptive_field,
    features,
    gradient_correlation,
    gradient_flow,
    head_gradients,
    initial_losses,
    lesions,
    perceptual_distance,
)
from cnnlib.models import create
from cnnlib.models.layers import WithAuxiliary

WITH_IMAGES = {
    "block_flow": block_flow,
    "block_responses": lambda net, images, labels: block_responses(net, images),
    "bottleneck_projections": lambda net, images, labels: bottleneck_projections(net, images),
    "channel_weights": channel_weights,
    "effective_receptive_field": lambda net, images, labels: effective_receptive_field(net, images, "stem"),
    "features": lambda net, images, labels: features(net, images, "stem"),
    "gradient_correlation": lambda net, images, labels: gradient_correlation(net, images, ["stem"]),
    "gradient_flow": gradient_flow,
    "head_gradients": head_gradients,
    "initial_losses": lambda net, images, labels: initial_losses(lambda: copy.deepcopy(net), images, labels),
    "lesions": lesions,
    "perceptual_distance": lambda net, images, labels: perceptual_distance(net, images, images, ["stem"]),
}
WITH_LABELS = ["block_flow", "channel_weights", "gradient_flow", "head_gradients", "initial_losses", "lesions"]
WITH_CLASSES = ["block_flow", "gradient_flow", "head_gradients", "initial_losses", "lesions"]
IN_BATCHES = {"channel_weights": channel_weights, "lesions": lesions}
every = pytest.mark.parametrize("name", WITH_IMAGES)


class Headed(nn.Module):
    auxiliary_weight = 0.3

    def __init__(self):
        super().__init__()
        self.main, self.head = nn.Linear(192, 10), nn.Linear(192, 10)

    def forward(self, x):
        x = x.flatten(1)
        return WithAuxiliary(self.main(x), (self.head(x),)) if self.training else self.main(x)


def network(name):
    return Headed() if name == "head_gradients" else create("se-resnet20")


def batch():
    return torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8)


@every
def test_images_must_be_a_batch_of_floats(name):
    images, labels = batch()
    pixels = "not torch.uint8 (8, 3, 8, 8); cnnlib.data.normalise makes them of uint8"
    for wrong, said in (
        (images.byte(), pixels),
        (images[0], "not torch.float32 (3, 8, 8)"),
        (images[:0], "not torch.float32 (0, 3, 8, 8)"),
        (images.numpy(), "not a ndarray"),
    ):
        if name == "effective_receptive_field" and not isinstance(wrong, torch.Tensor):
            continue  # what is no tensor, it reads as the shape of images of noise
        words = f"images must be a float tensor (N, C, H, W) of at least one image, {said}"
        with pytest.raises(BadArgument, match=f"^{re.escape(words)}$"):
            WITH_IMAGES[name](network(name), wrong, labels[: len(wrong)])


@every
def test_images_must_fit(name):
    images, labels = batch()
    with pytest.raises(DoesNotFit):
        WITH_IMAGES[name](network(name), images[:, :1], labels)


@every
def test_images_are_brought_to_the_weights(name):
    """Those that come from NumPy have double precision."""
    images, labels = batch()
    net = network(name)
    results = [WITH_IMAGES[name](net, given, labels) for given in (images, images.double())]
    if name == "bottleneck_projections":
        assert results == [{}, {}]
    elif isinstance(results[0], torch.Tensor):
        assert torch.equal(*results)
    else:
        assert repr(results[0]) == repr(results[1])


@pytest.mark.parametrize("name", IN_BATCHES)
def test_images_at_a_time_are_a_number(name):
    images, labels = batch()
    for wrong, said in ((0, "at least 1, not 0"), (1.5, "a whole number, not 1.5")):
        with pytest.raises(BadArgument, match=f"batch_size must be {said}"):
            IN_BATCHES[name](network(name), images, labels, batch_size=wrong)


@every
def test_weights_must_have_values(name):
    with pytest.raises(BadArgument, match="is on the device 'meta', without values; make it on another one"):
        WITH_IMAGES[name](network(name).to("meta"), *batch())


@pytest.mark.parametrize("name", WITH_LABELS)
def test_labels_must_be_whole_numbers_one_for_each_image(name):
    images, labels = batch()
    for wrong in (labels.float(), labels.tolist(), None):
        with pytest.raises(
            BadArgument, match=r"labels must be an int64 tensor, .* not (torch.float32 \(8,\)|a list|a NoneType)"
        ):
            WITH_IMAGES[name](network(name), images, wrong)
    for wrong in (labels[:4], labels[:, None]):
        with pytest.raises(BadArgument, match=r"labels must be of shape \(8,\)|labels of (4|8x1) do not go with"):
            WITH_IMAGES[name](network(name), images, wrong)


@pytest.mark.parametrize("name", WITH_CLASSES)
def test_labels_must_be_classes_of_the_network(name):
    images, labels = batch()
    for wrong, said in ((labels + 3, "3 to 10"), (labels - 100, "-100 to -93")):
        with pytest.raises(BadArgument, match=f"are 0 to 9, as it has 10 classes, and these are {said}"):
            WITH_IMAGES[name](network(name), images, wrong)


def test_the_second_images_of_pairs_are_checked_too():
    images, _ = batch()
    with pytest.raises(BadArgument, match=r"not torch\.uint8"):
        perceptual_distance(create("resnet20"), images, images.byte(), ["stem"])


def test_a_single_name_is_no_list_of_layers():
    images, _ = batch()
    words = re.escape("layers is a list, even of one: ['stages.0']")
    for given in ("stages.0", 3):
        with pytest.raises(BadArgument, match=re.escape(f"layers is a list, even of one: [{given!r}]")):
            gradient_correlation(create("resnet20"), images, given)
    with pytest.raises(UnknownLayer, match="no layer \\['stem'\\]"):
        features(create("resnet20"), images, ["stem"])
    with pytest.raises(BadArgument, match=words):
        perceptual_distance(create("resnet20"), images, images, "stages.0")
