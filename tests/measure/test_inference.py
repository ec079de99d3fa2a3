"""Time and memory of an answer."""

import time

import pytest
import torch
from torch import nn

from cnnlib.measure import BadArgument, DoesNotFit, inference


def test_the_first_pass_is_not_counted(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    class Slow(nn.Module):
        """Takes 9 seconds in its first pass, then 1, 2 and 5, and refuses to be trained."""

        def __init__(self):
            super().__init__()
            self.durations = [9, 1, 2, 5]

        def forward(self, x):
            nonlocal now
            assert not self.training
            assert not torch.is_grad_enabled()
            now += self.durations.pop(0)
            return x

    answer = inference(Slow(), (3, 16, 16), repeats=3)
    assert answer.seconds == (1, 2, 5)
    assert (answer.median, answer.spread) == (2, 4)


def test_every_pass_is_over_a_batch_of_the_size_that_was_asked_for():
    shapes = []

    class Watched(nn.Module):
        def forward(self, x):
            shapes.append(tuple(x.shape))
            return x

    assert inference(Watched(), (3, 5, 6), batch_size=4, repeats=2).batch_size == 4
    assert set(shapes) == {(4, 3, 5, 6)}


def test_the_network_is_tried_once_before_it_is_timed(monkeypatch):
    tried = []
    monkeypatch.setattr("cnnlib.measure.allocated.require_fit", lambda *arguments, **_: tried.append(arguments))
    net = nn.Conv2d(3, 8, 3)
    inference(net, (3, 8, 8), batch_size=2, repeats=1)
    assert tried == [(net, (3, 8, 8), 2)]


def test_memory_grows_with_the_batch():
    one, four = (inference(nn.Conv2d(3, 8, 3, padding=1), (3, 64, 64), batch_size=n, repeats=1) for n in (1, 4))
    assert one.peak >= 8 * 64 * 64 * 4
    assert four.peak >= 4 * 8 * 64 * 64 * 4


def test_the_network_stays_as_it_is():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    inference(net, (3, 8, 8), repeats=1)
    assert net.training
    assert net[1].num_batches_tracked == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"repeats": 0}, "repeats must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"repeats": 2.5}, "repeats must be a whole number, not 2.5"),
        ({"batch_size": "2"}, "batch_size must be a whole number, not '2'"),
    ],
)
def test_nothing_to_measure_is_refused(wrong, said):
    with pytest.raises(BadArgument, match=said):
        inference(nn.Conv2d(3, 8, 3), (3, 8, 8), **wrong)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(DoesNotFit, match=r"3x2x2.*the smallest square input that it takes is 3x3"):
        inference(nn.Conv2d(3, 8, 3), (3, 2, 2))
    with pytest.raises(BadArgument, match="shape of one image"):
        inference(nn.Conv2d(3, 8, 3), (3, 0, 8))


def test_a_network_without_values_is_refused():
    with pytest.raises(BadArgument, match="Conv2d is on the device 'meta', without values"):
        inference(nn.Conv2d(3, 8, 3, device="meta"), (3, 8, 8))
