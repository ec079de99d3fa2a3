"""From a name, or a module, to a network on its device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cnnlib.data import Images
from cnnlib.measure import DoesNotFit
from cnnlib.measure.dry_run import own_random_numbers, require_fit
from cnnlib.models import BadOption, card, create
from cnnlib.training import hardware
from cnnlib.training.errors import ArgumentError

Model = str | tuple[str, Mapping[str, Any]] | nn.Module
"""A registered name, a name with overrides, or a module."""


def build(model: Model, data: Images, seed: int, device: torch.device) -> tuple[str, dict[str, Any], nn.Module]:
    """Return name, overrides in the form of JSON, and the module on its device, channels_last.

    A registered model gets weights drawn from ``seed`` on the CPU, the same for every device, and as many outputs as
    the data has classes.

    Raises:
        ArgumentError: if it is no network, or does not take the images, or is not for classes.
        UnknownModel: if there is no such model.
        BadOption: if it has no such option, or the value is not possible.
        InputTooSmall: if it has overrides and needs larger images.
    """
    match model:
        case nn.Module():
            name, overrides, module = type(model).__name__, {}, model
        case str(name) | (str(name), Mapping()):
            overrides = {} if isinstance(model, str) else model[1]
            name = card(name).name
            check_channels(name, data)
            if "num_classes" not in card(name).options:
                raise ArgumentError(f"{name} does not put out classes, and {data.name} has nothing else to learn")
            with hardware.SHARED, own_random_numbers(device):
                hardware.seed_generators(device, seed)
                module = registered(name, {"num_classes": len(data.classes), **overrides})
                if overrides:
                    _try(module, name, overrides, data)
        case _:
            raise ArgumentError(
                f"model must be a name, such as 'resnet20', a pair of name and overrides, such as "
                f"('alexnet-cifar', {{'width': 0.5}}), or a network, not {model!r}"
            )
    overrides = json.loads(json.dumps(dict(overrides), default=_class_name))
    return name, overrides, module.to(device, memory_format=torch.channels_last)


def registered(name: str, overrides: Mapping[str, Any]) -> nn.Module:
    """Return a registered model with overrides in the form of JSON.

    Raises:
        UnknownModel: if there is no such model.
        BadOption: if it has no such option, or the value is not possible.
    """
    return create(name, **{key: _torch_class(value) for key, value in overrides.items()})


def check_channels(name: str, data: Images) -> None:
    """Check that a registered network takes images of as many channels as the data has.

    Raises:
        ArgumentError: if it does not.
    """
    wanted, given = card(name).input_size[0], data.image_size[0]
    if wanted != given:
        raise ArgumentError(
            f"{name} takes images with {wanted} channel{'s' if wanted > 1 else ''}, and those of {data.name} have "
            f"{given}; take another network, as `python -m cnnlib models` lists them"
        )


def check_outputs(logits: Tensor, data: Images) -> None:
    """Check that a network has an output for every class: (N, outputs). PyTorch's own error on a GPU ends the process.

    Raises:
        ArgumentError: if it has too few.
    """
    outputs, classes = logits.shape[1], len(data.classes)
    if outputs < classes:
        raise ArgumentError(
            f"{data.name} has {classes} classes, and the network {outputs} outputs: give it num_classes={classes} "
            f"(on the command line --set num_classes={classes})"
        )


def _try(module: nn.Module, name: str, overrides: Mapping[str, Any], data: Images) -> None:
    """Try a network on two images without data. Some values build a network that then takes no image."""
    try:
        require_fit(module, data.image_size, batch_size=2, training=True)
    except DoesNotFit as error:
        given = ", ".join(f"{key}={value}" for key, value in overrides.items())
        raise BadOption(f"{name} cannot be trained with {given}: {error}") from error


def _torch_class(value: Any) -> Any:
    """Return the class for ``"nn.Tanh"``, and anything else as it is.

    Raises:
        BadOption: if torch.nn has no such class.
    """
    if not (isinstance(value, str) and value.startswith("nn.")):
        return value
    if not hasattr(nn, value[3:]):
        raise BadOption(f"torch.nn has no {value[3:]!r}")
    return getattr(nn, value[3:])


def _class_name(value: Any) -> str:
    """Return ``"nn.Tanh"`` for the class; the inverse of :func:`_torch_class`."""
    name = getattr(value, "__name__", None)
    return f"nn.{name}" if name and getattr(nn, name, None) is value else repr(value)
