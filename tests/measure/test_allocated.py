"""Memory that was really allocated, against sums by hand and against the computed peak."""

import pytest
import torch
from torch import nn

from cnnlib.measure import BadArgument, DoesNotFit, allocated_peak, training_memory


def test_a_forward_pass_holds_two_maps_at_a_time():
    net = nn.Sequential(*(nn.AvgPool2d(1) for _ in range(6)))  # maps of the size of the image, and no work space
    size = 4 * 64 * 64
    assert allocated_peak(net, (1, 64, 64)) == pytest.approx(2 * size, rel=0.1)


def test_a_forward_pass_is_in_evaluation_mode():
    assert allocated_peak(nn.Sequential(nn.Dropout(0.5)), (1, 64, 64)) < 4 * 64 * 64


def test_a_backward_pass_needs_what_was_kept():
    net = nn.Sequential(nn.Linear(64, 64, bias=False), *(nn.Sigmoid() for _ in range(8)))
    without, with_backward = (allocated_peak(net, (1, 128, 64), backward=backward) for backward in (False, True))
    size = 4 * 128 * 64
    assert without == pytest.approx(2 * size, rel=0.1)
    assert 8 * size < with_backward < 12 * size


def test_a_backward_pass_starts_from_all_answers():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.other = (nn.Sequential(nn.Linear(64, 64), nn.Sigmoid(), nn.Sigmoid()) for _ in range(2))

        def forward(self, x):
            return self.main(x), (self.other(x), None)

    size = 4 * 128 * 64
    net = Two()
    together = allocated_peak(net, (1, 128, 64), backward=True)
    assert together > 4 * size
    assert together > allocated_peak(net.main, (1, 128, 64), backward=True) + size


def test_a_frozen_network_needs_no_more_for_its_backward_pass():
    net = nn.Sequential(nn.Linear(64, 64), *(nn.Sigmoid() for _ in range(8))).requires_grad_(False)
    assert allocated_peak(net, (1, 128, 64), backward=True) == allocated_peak(net, (1, 128, 64))


def test_agrees_with_what_is_computed_without_data():
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 256, 10)
    )
    computed = training_memory(net, (3, 32, 32), batch_size=8, optimizer="sgd")
    besides = computed.peak - computed.parameters - computed.batch
    assert allocated_peak(net, (3, 32, 32), 8, backward=True) == pytest.approx(besides, rel=0.35)


def test_the_network_and_the_random_numbers_stay_as_they_are():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).eval()
    before = [tensor.clone() for tensor in net.state_dict().values()]
    state = torch.get_rng_state()
    allocated_peak(net, (3, 8, 8), 2, backward=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, before, net.state_dict().values()))
    assert net[0].weight.grad is None
    assert not net.training


def test_an_empty_batch_is_refused():
    with pytest.raises(BadArgument, match="at least 1"):
        allocated_peak(nn.ReLU(), (1, 2, 2), 0)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(DoesNotFit, match=r"3x2x2.*the smallest square input that it takes is 3x3"):
        allocated_peak(nn.Conv2d(3, 8, 3), (3, 2, 2), backward=True)
    with pytest.raises(BadArgument, match="shape of one image"):
        allocated_peak(nn.Conv2d(3, 8, 3), (3, 0, 8))


def test_an_image_that_cannot_be_normalised_is_refused_in_training_only():
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))
    assert allocated_peak(net, (3, 4, 4)) > 0
    assert allocated_peak(net, (3, 4, 4), 2, backward=True) > 0
    with pytest.raises(DoesNotFit, match=r"Sequential does not take an input of 3x4x4: Expected more than 1 value"):
        allocated_peak(net, (3, 4, 4), backward=True)


def test_a_network_without_values_is_refused():
    with pytest.raises(BadArgument, match="Conv2d is on the device 'meta', without values"):
        allocated_peak(nn.Conv2d(3, 8, 3, device="meta"), (3, 8, 8))
