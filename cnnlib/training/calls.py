"""What a network calls in a pass, and in which order, from ``torch.fx``."""

from __future__ import annotations

import torch
from torch import nn

from cnnlib.training import hardware


def calls(module: nn.Module) -> list[torch.fx.Node]:
    """Return what a network calls.

    Nothing of a network that ``torch.fx`` cannot trace, nor of one that draws random numbers for it: its next pass may
    take another way.
    """
    with hardware.SHARED, torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        try:
            graph = torch.fx.Tracer().trace(module)
        except Exception:  # tracing runs the network's own code, which may do anything
            return []
        return list(graph.nodes) if torch.equal(before, torch.get_rng_state()) else []


def relus_after_batch_norm(module: nn.Module) -> dict[nn.BatchNorm2d, nn.ReLU]:
    """Return the batch norms whose output a ReLU reads and nothing else, each with its ReLU. Both are called once."""
    parts = dict(module.named_modules())
    layers = {node: parts[node.target] for node in calls(module) if node.op == "call_module"}
    called = list(layers.values())
    pairs = {}
    for node, norm in layers.items():
        if isinstance(norm, nn.BatchNorm2d) and len(node.users) == 1:
            relu = layers.get(*node.users)
            if isinstance(relu, nn.ReLU) and called.count(relu) == called.count(norm) == 1:
                pairs[norm] = relu
    return pairs
