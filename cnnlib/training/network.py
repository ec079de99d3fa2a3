"""From a name, or a module, to a network on its device."""

from __future__ import annotations

import hashlib
import json
import numbers
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cnnlib.data import Images, ImageSet
from cnnlib.measure import BadArgument, DoesNotFit
from cnnlib.measure.dry_run import on_copy, own_random_numbers, require_fit, require_values
from cnnlib.models import BadOption, InputTooSmall, card, create
from cnnlib.models.layers import WithAuxiliary
from cnnlib.training import hardware
from cnnlib.training.calls import has_hooks
from cnnlib.training.errors import ArgumentError

Model = str | tuple[str, Mapping[str, Any]] | nn.Module
"""A registered name, a name with overrides, or a module."""
ADDRESS = r" at 0x[0-9A-Fa-f]+"
"""Where in memory something lies. It is another one in every process."""


def build(model: Model, data: Images, seed: int, device: torch.device) -> tuple[str, dict[str, Any], nn.Module]:
    """Return name, overrides in the form of JSON, and the module on its device, channels_last.

    A registered model gets weights drawn from ``seed`` on the CPU, the same for every device, and as many outputs as
    the data has classes.

    Raises:
        ArgumentError: if it is no network, or has nothing to train, or does not take the images, or is not for classes.
        UnknownModel: if there is no such model.
        BadOption: if it has no such option, or the value is not possible, or has no name to record.
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
                module = create(name, **{"num_classes": len(data.classes), **overrides})
                if overrides:
                    _try(module, name, overrides, data)
        case _:
            raise ArgumentError(
                f"model must be a name, such as 'resnet20', a pair of name and overrides, such as "
                f"('alexnet-cifar', {{'width': 0.5}}), or a network, not {model!r}"
            )
    overrides = json.loads(json.dumps(dict(overrides), default=_plain))
    if isinstance(model, nn.Module):
        require_values(model)
        _check_parameters(model)
    module = module.to(device, memory_format=torch.channels_last)
    if isinstance(model, nn.Module):
        _try_own(module, data)
    return name, overrides, module


def layers_of(model: Model) -> dict[str, str]:
    """Return what tells a module that is passed from others of the same class; name and overrides tell registered ones.

    Layers as they are printed, without addresses in memory, and the names and shapes of what they keep.
    """
    if not isinstance(model, nn.Module):
        return {}
    kept = {name: getattr(value, "shape", None) for name, value in model.state_dict().items()}
    text = f"{re.sub(ADDRESS, '', repr(model))} {kept}"
    return {"digest": hashlib.sha256(text.encode()).hexdigest()[:16]}


def check_data(data: Any) -> None:
    """Check that something is a set of images.

    Raises:
        ArgumentError: if it is none.
    """
    if not isinstance(data, Images):
        raise ArgumentError(f"data must be a set of images, such as cnnlib.load_data('cifar10'), not {data!r}")


def check_in_memory(data: Any) -> None:
    """Check that something is a set of images in memory, on which speed is measured.

    Raises:
        ArgumentError: if it is none.
    """
    check_data(data)
    if not isinstance(data, ImageSet):
        raise ArgumentError(
            f"{data.name} lies in files, and speed is measured on images in memory, such as cnnlib.load_data('cifar10')"
        )


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


def check_logits(logits: Any) -> None:
    """Check that a network puts out one tensor (N, outputs).

    Raises:
        ArgumentError: if it puts out something else.
    """
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        given = f"a tensor {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ArgumentError(f"the network must put out one tensor (images, classes), and puts out {given}")


def check_outputs(logits: Any, data: Images) -> None:
    """Check that a network has an output for every class. PyTorch's own error on a GPU ends the process.

    Raises:
        ArgumentError: if it has too few, or puts out something else than logits.
    """
    check_logits(logits)
    outputs, classes = logits.shape[1], len(data.classes)
    if outputs < classes:
        raise ArgumentError(
            f"{data.name} has {classes} classes, and the network {outputs} outputs: give it num_classes={classes} "
            f"(on the command line --set num_classes={classes})"
        )


def _check_parameters(module: nn.Module) -> None:
    """Check that there is something to train, in the format of numbers that weights are kept in."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        raise ArgumentError(f"{type(module).__name__} has nothing to train; let a parameter require its gradient")
    if any(map(is_lazy, trained)):
        raise ArgumentError(f"{type(module).__name__} has lazy layers without shapes; run it once on an image before")
    if not any(parameter.dtype == torch.float32 for parameter in trained):
        raise ArgumentError(
            f"{type(module).__name__} has weights in {str(trained[0].dtype).removeprefix('torch.')}, and they are "
            "trained in float32; convert it, module.float(), and give fit the precision to compute in"
        )


def _try_own(module: nn.Module, data: Images) -> None:
    """Try a module that was passed on two images without data, unless it needs its hooks or cannot be copied."""
    if any(isinstance(part, torch.jit.ScriptModule) or has_hooks(part) for part in module.modules()):
        return
    try:
        with torch.no_grad():
            output = on_copy(module, data.image_size, lambda net, images: net.train()(images), batch_size=2)
    except InputTooSmall:  # it says all of it, and everywhere alike
        raise
    except (BadArgument, DoesNotFit) as error:
        raise ArgumentError(f"{type(module).__name__} cannot be trained: {error}") from error
    except Exception:  # copying and running it is its own code, which may do anything
        return
    check_outputs(output.logits if isinstance(output, WithAuxiliary) else output, data)


def _try(module: nn.Module, name: str, overrides: Mapping[str, Any], data: Images) -> None:
    """Try a network on two images without data. Some values build a network that then takes no image."""
    try:
        require_fit(module, data.image_size, batch_size=2, training=True)
    except InputTooSmall:
        raise
    except DoesNotFit as error:
        given = ", ".join(f"{key}={value}" for key, value in overrides.items())
        raise BadOption(f"{name} cannot be trained with {given}: {error}") from error


def _plain(value: Any) -> bool | int | float | str:
    """Return what JSON knows for a value that it does not: ``"nn.Tanh"`` for the class, which :func:`create` takes.

    Raises:
        BadOption: if it has no name that stays.
    """
    for kind, plain in ((np.bool_, bool), (numbers.Integral, int), (numbers.Real, float)):
        if isinstance(value, kind):
            return plain(value)
    name = getattr(value, "__name__", None)
    if name and getattr(nn, name, None) is value:
        return f"nn.{name}"
    if re.search(ADDRESS, repr(value)):
        raise BadOption(
            f"{value!r} has no name by which a record or a checkpoint could know it; give a class such as nn.Tanh, or "
            "functools.partial(nn.LeakyReLU, 0.1)"
        )
    return repr(value)
