import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnlib import fit
from cnnlib.data import shapes10
from cnnlib.data.augment import normalise
from cnnlib.measure import BadArgument, initial_losses
from cnnlib.models import create
from cnnlib.training import RECIPES


@pytest.fixture
def batch():
    source = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, 8, 8, generator=source), torch.randint(10, (6,), generator=source)


def test_one_loss_a_seed_and_each_of_its_own_weights(batch):
    images, labels = batch
    losses = initial_losses(lambda: create("resnet20"), images, labels, seeds=(3, 1, 3))
    assert losses[0] == losses[2] != losses[1]
    torch.manual_seed(1)
    net = create("resnet20").train()
    assert losses[1] == pytest.approx(F.cross_entropy(net(images), labels).item())


def test_a_net_that_guesses_has_the_logarithm_of_the_classes(batch):
    images, labels = batch

    def guessing():
        net = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
        nn.init.zeros_(net[1].weight)
        nn.init.zeros_(net[1].bias)
        return net

    assert initial_losses(guessing, images, labels) == pytest.approx([math.log(10)] * 3)


def test_batch_norm_takes_the_statistics_of_these_images(batch):
    images, labels = batch
    stretched = initial_losses(lambda: create("resnet20"), 5 * images, labels)
    assert stretched == pytest.approx(initial_losses(lambda: create("resnet20"), images, labels), rel=1e-2)


def test_without_images_there_is_no_loss(batch):
    images, labels = batch
    with pytest.raises(BadArgument, match="at least one image"):
        initial_losses(lambda: create("resnet20"), images[:0], labels[:0])


def test_the_random_numbers_stay_the_callers(batch):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    initial_losses(lambda: create("resnet20"), *batch, seeds=[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_first_loss_of_a_training_is_that_of_the_same_seed():
    data = shapes10(train=32, test=10)
    recipe = RECIPES["resnet-cifar"].replace(batch_size=32, augment=False).limited(steps=1)
    run = fit("resnet20", data, recipe, seed=2, precision="fp32", log_every=1)
    images = normalise(data.train_images, data.mean, data.std)
    (loss,) = initial_losses(lambda: create("resnet20"), images, data.train_labels, seeds=[2])
    assert run.history[0].train_loss == pytest.approx(loss, rel=1e-4)


def test_what_draws_no_network_is_refused(batch):
    for wrong in (create("resnet20"), "resnet20"):
        with pytest.raises(BadArgument, match="draw must be a function that returns a new network"):
            initial_losses(wrong, *batch)


@pytest.mark.parametrize("seeds", [(0, 1, 2), [0]])
def test_one_network_each_time_is_refused_and_left_alone(batch, seeds):
    net = create("resnet20").eval()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(BadArgument, match=r"draw must return a new network each time, such as lambda: cnnlib\.create"):
        initial_losses(lambda: net, *batch, seeds=seeds)
    assert not net.training
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        (3, r"seeds is a list, even of one: \[3\]"),
        ([0.5], "seed must be a whole number, not 0.5"),
        ([-1], "at least 0"),
    ],
)
def test_seeds_are_a_list_of_whole_numbers(seeds, message):
    with pytest.raises(BadArgument, match=message):
        initial_losses(lambda: create("resnet20"), torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64), seeds)
