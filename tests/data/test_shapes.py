import hashlib
import socket

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnlib.data import DataError, load, normalise, shapes10
from cnnlib.data.shapes import SHAPES


@pytest.fixture(scope="module")
def data():
    return shapes10(train=12_000, test=2_000)


def test_format_and_balance(data):
    assert data.name == "Shapes-10"
    assert data.train_images.shape == (12_000, 3, 32, 32)
    assert data.train_images.dtype == torch.uint8
    assert data.train_labels.dtype == torch.int64
    assert data.train_labels.bincount().tolist() == [1_200] * 10
    assert data.test_labels.bincount().tolist() == [200] * 10
    assert data.classes == tuple(SHAPES)
    assert len(data.classes) == 10
    assert data.stands_in_for is None


def test_the_same_bytes_on_every_machine():
    """A change of these sums is a change of the data set: all recorded numbers on it are then out of date."""
    data = shapes10(train=100, test=100)
    assert hashlib.md5(data.train_images.numpy().tobytes()).hexdigest() == "eca5fa3d4db4cf5d8f1e1a0b4bc0c189"
    assert hashlib.md5(data.test_images.numpy().tobytes()).hexdigest() == "529cc8e0c21c556f648751e46b2921a1"


def test_fewer_images_are_the_first_of_more(data):
    few = shapes10(train=1_234, test=7)
    assert torch.equal(few.train_images, data.train_images[:1_234])
    assert torch.equal(few.train_labels, data.train_labels[:1_234])
    assert torch.equal(few.test_images, data.test_images[:7])


@pytest.mark.parametrize(("train", "test"), [(0, 10), (-5, 10), (10, -1)])
def test_there_must_be_an_image_to_train_on(train, test):
    with pytest.raises(DataError, match=f"at least one training image, not {train} and {test} test images"):
        shapes10(train, test)


def test_there_need_be_no_test_image():
    assert shapes10(10, 0).test_images.shape == (0, 3, 32, 32)


def test_no_image_comes_twice(data):
    images = torch.cat([data.train_images, data.test_images, shapes10(1_000, 1_000, seed=1).train_images])
    assert len({image.numpy().tobytes() for image in images}) == len(images)


def test_colour_position_and_brightness_do_not_tell_the_class(data):
    images = data.train_images.double() / 255
    overall = images.mean(0)
    for label in range(10):
        # 1,200 images of deviation 0.25: the mean of a pixel has a standard error of 0.007.
        assert (images[data.train_labels == label].mean(0) - overall).abs().max() < 6 * 0.0075


def test_no_network_is_needed(monkeypatch):
    def no_network(*_, **__):
        raise AssertionError("Shapes-10 asked for the network")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.setattr("cnnlib.data.cifar.shapes10", lambda: shapes10(10, 10))
    assert load("Shapes-10").name == "Shapes-10"


def accuracy(data, model: nn.Module) -> float:
    """Percent of the test images that are right after 400 steps of 64 images."""
    torch.manual_seed(0)
    for layer in model.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    optimiser = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.01, 400)
    images = normalise(data.train_images, data.mean, data.std)
    for _ in range(400):
        batch = torch.randint(len(images), (64,))
        loss = F.cross_entropy(model(images[batch]), data.train_labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        predicted = model(normalise(data.test_images, data.mean, data.std)).argmax(1)
    return 100 * (predicted == data.test_labels).double().mean().item()


def test_a_linear_model_does_not_learn_it(data):
    assert accuracy(data, nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))) < 20


def test_a_small_convolutional_network_learns_it(data):
    def halving(width_in: int, width: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(width_in, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())

    body = [halving(3, 32), halving(32, 64), halving(64, 128), halving(128, 256)]
    assert accuracy(data, nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))) > 45


@pytest.mark.parametrize("wrong", [{"train": 1.5}, {"train": 10, "test": "3"}, {"seed": 0.5}, {"seed": -1}])
def test_numbers_are_whole_and_seeds_not_negative(wrong):
    with pytest.raises(DataError, match="must be"):
        shapes10(**wrong)
