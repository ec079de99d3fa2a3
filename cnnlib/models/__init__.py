"""The networks, one file a paper, and the registry of their names."""

from cnnlib.models import (
    alexnet,
    alexnet_cifar,
    densenet,
    efficientnet,
    googlenet,
    inception_resnet_v2,
    inception_v4,
    lenet,
    mobilenet_v1,
    mobilenet_v2,
    one_weird_trick,
    resnet,
    shufflenet,
    vgg,
    zfnet,
)
from cnnlib.models.layers import InputTooSmall
from cnnlib.models.registry import (
    BadOption,
    ModelCard,
    Paper,
    Published,
    UnknownModel,
    available,
    card,
    create,
    register,
)

__all__ = [
    "BadOption",
    "InputTooSmall",
    "ModelCard",
    "Paper",
    "Published",
    "UnknownModel",
    "available",
    "card",
    "create",
    "register",
]
