"""The memory that a pass through a network really takes, as PyTorch's allocator counts it."""

from __future__ import annotations

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from cnnlib.measure.dry_run import (
    example,
    gradients_on,
    own_random_numbers,
    private_copy,
    require_fit,
    require_values,
    with_gradient,
)


@gradients_on()
def allocated_peak(
    model: nn.Module, input_size: tuple[int, int, int], batch_size: int = 1, *, backward: bool = False
) -> int:
    """Run a copy of the network on real data and return the most bytes alive at once, besides parameters and images.

    Gradients of parameters are among them. Unlike :func:`cnnlib.measure.training_memory` this really computes, on the
    network's device, and counts the work space that the kernels take from PyTorch's allocator.

    Args:
        model: the network.
        input_size: shape of one image, (channels, height, width).
        batch_size: number of images.
        backward: in training mode, forward and backward; else forward in evaluation mode, with nothing kept.

    Raises:
        BadArgument: if ``batch_size`` is no number of images, ``input_size`` is no shape of one image, or the network
            has lazy modules that have not seen an input yet or is on the ``meta`` device.
        DoesNotFit: if the network does not take such an input; names the smallest square one that it takes. With
            ``backward`` also if batch normalisation would get a single value for a map: then a larger batch is needed.
    """
    require_fit(model, input_size, batch_size, training=backward)
    require_values(model)
    net = private_copy(model).train(backward)
    images = example(net).new_zeros(batch_size, *input_size)

    def run() -> None:
        with torch.set_grad_enabled(backward):
            answer = net(images)
            if backward:
                torch.autograd.backward([output.sum() for output in with_gradient(answer)])

    with own_random_numbers(images.device):
        if not images.is_cuda:
            return _on_processor(run)
        before = torch.cuda.memory_allocated(images.device)
        torch.cuda.reset_peak_memory_stats(images.device)
        run()
        return torch.cuda.max_memory_allocated(images.device) - before


def _on_processor(run) -> int:
    """Add up what the profiler sees allocated and freed, in the order of time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak
