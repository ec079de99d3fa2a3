"""What a network calls in a pass, and in which order, from ``torch.fx``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from cnnlib.training import hardware

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def calls(module: nn.Module) -> list[torch.fx.Node]:
    """Return what a network calls.

    Nothing of a network that ``torch.fx`` cannot trace, nor of one that draws random numbers for it: its next pass may
    take another way.

    What somebody sees besides the network, in a hook or later in an attribute, has one reader more than the network.
    """
    before = [(part, dict(vars(part))) for part in module.modules()]
    with hardware.SHARED, torch.random.fork_rng(devices=[]):
        state = torch.get_rng_state()
        try:
            graph = _Tracer().trace(module)
            seen = [*_kept(module), *_hooked(module, graph)]
        except Exception:  # tracing runs the network's own code, which may do anything
            return []
        finally:
            for part, attributes in before:  # what the pass has kept in them were no tensors
                vars(part).clear()
                vars(part).update(attributes)
        if not torch.equal(state, torch.get_rng_state()):
            return []
    if seen:
        graph.call_function(tuple, (seen,))
    return list(graph.nodes)


class _Tracer(torch.fx.Tracer):
    """Calls no hooks: they expect tensors."""

    def call_module(self, m: nn.Module, forward: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        return super().call_module(m, m.forward, args, kwargs)


def _kept(module: nn.Module) -> Iterator[torch.fx.Node]:
    """Go through what the last pass has kept in attributes."""
    for part in module.modules():
        yield from (value.node for value in tree_leaves(vars(part)) if isinstance(value, torch.fx.Proxy))


def has_hooks(part: nn.Module) -> bool:
    """Tell whether somebody else sees what goes into a part of a network, or comes out of it."""
    return any(getattr(part, kind) for kind in HOOKS)


def _hooked(module: nn.Module, graph: torch.fx.Graph) -> list[torch.fx.Node]:
    """Return what goes into a part that has hooks, or comes out of it, or lies within it."""
    hooked = {name for name, part in module.named_modules() if has_hooks(part)}

    def within(node: torch.fx.Node) -> bool:
        return any(name in hooked for name, _ in node.meta.get("nn_module_stack", {}).values())

    return [node for node in graph.nodes if within(node) or any(map(within, node.users))]


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
