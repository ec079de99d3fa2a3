import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from cnnlib.data import DataError, shapes10
from cnnlib.data.images import channel_statistics


@pytest.fixture(scope="module")
def data():
    return shapes10(train=300, test=20)


def test_the_statistics_are_numpys(data):
    images = data.train_images.numpy().astype(np.float64) / 255
    assert data.mean == pytest.approx(images.mean((0, 2, 3)), rel=1e-13)
    assert data.std == pytest.approx(images.std((0, 2, 3)), rel=1e-13)


def test_the_statistics_of_one_grey_level_are_exact():
    assert channel_statistics(torch.full((7, 2, 3, 3), 51, dtype=torch.uint8)) == ((0.2, 0.2), (0.0, 0.0))


def test_one_line_names_the_set_and_its_sizes(data):
    line = "Shapes-10: 300 training and 20 test images, 32x32 RGB, 10 classes"
    assert str(data) == repr(data) == line


@pytest.mark.parametrize(("channels", "said"), [(1, "32x32 grey, 10"), (2, "32x32 of 2 channels, 10")])
def test_other_images_are_not_called_coloured(data, channels, said):
    part = {name: getattr(data, name)[:, :channels] for name in ("train_images", "test_images")}
    assert said in str(replace(data, **part, mean=data.mean[:channels], std=data.std[:channels]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: {"train_images": d.train_images.float()},
            "train_images must be square ones of 8 bits, uint8 (N, C, ",
        ),
        (lambda d: {"train_images": d.train_images[0]}, "train_images must be square ones of 8 bits"),
        (lambda d: {"test_images": d.test_images[..., :24]}, "not uint8 (20, 3, 32, 24)"),
        (lambda d: {"test_images": d.test_images[..., :24, :24]}, "one size, not (3, 32, 32) and (3, 24, 24)"),
        (
            lambda d: {"train_labels": d.train_labels[:299]},
            "train_labels must be int64 (300,), one for each image, not ",
        ),
        (lambda d: {"test_labels": d.test_labels.int()}, "test_labels must be int64 (20,)"),
        (lambda d: {"train_labels": d.train_labels + 1}, "indices into 10 classes, 0 to 9, not 1 to 10"),
        (lambda d: {"test_labels": d.test_labels - 1}, "indices into 10 classes, 0 to 9, not -1 to 8"),
        (
            lambda d: {"train_images": d.train_images.numpy()},
            "must be a tensor, not a ndarray; torch.as_tensor makes one",
        ),
        (lambda d: {"test_labels": d.test_labels.tolist()}, "test_labels must be a tensor, not a list"),
        (lambda d: {"mean": (0.5,)}, "mean must be one number for each of 3 channels, not (0.5,)"),
        (lambda d: {"mean": (125, 123, 114)}, "mean must lie in [0, 1], as pixels divided by 255 do, not (125, 123, "),
        (lambda d: {"mean": (0.5, math.nan, 0.5)}, "mean must lie in [0, 1]"),
        (lambda d: {"std": (0.2, 0.0, 0.2)}, "std must be positive and finite, not (0.2, 0.0, 0.2)"),
        (lambda d: {"std": (0.2, math.inf, 0.2)}, "std must be positive and finite, not (0.2, inf, 0.2)"),
    ],
)
def test_images_and_labels_that_no_training_could_use(data, change, message):
    with pytest.raises(DataError, match=re.escape(message)):
        replace(data, **change(data))


@pytest.mark.parametrize("n", [10, 50, 53, 300])
def test_a_subset_is_balanced_without_repetition(data, n):
    subset = data.subset(n)
    counts = subset.train_labels.bincount(minlength=10)
    assert counts.sum() == n
    assert counts.max() - counts.min() <= 1
    assert len(subset.train_images.flatten(1).unique(dim=0)) == n
    assert subset.test_images is data.test_images
    assert (subset.mean, subset.std) == (data.mean, data.std)


@pytest.mark.parametrize(("test", "kept"), [(7, 7), (10**6, 20)])
def test_a_subset_may_have_fewer_test_images(data, test, kept):
    subset = data.subset(50, test=test)
    assert torch.equal(subset.test_images, data.test_images[:kept])
    assert torch.equal(subset.test_labels, data.test_labels[:kept])
    assert torch.equal(subset.train_images, data.subset(50).train_images)
    with pytest.raises(DataError, match="at least one test image, not 0"):
        data.subset(50, test=0)


def test_a_subset_keeps_images_and_labels_together(data):
    label = {image.numpy().tobytes(): int(k) for image, k in zip(data.train_images, data.train_labels, strict=True)}
    subset = data.subset(50)
    assert [label[image.numpy().tobytes()] for image in subset.train_images] == subset.train_labels.tolist()


def test_a_subset_depends_on_its_seed_alone(data):
    torch.manual_seed(1)
    first = data.subset(50)
    torch.manual_seed(2)
    assert torch.equal(first.train_images, data.subset(50).train_images)
    assert not torch.equal(first.train_images, data.subset(50, seed=1).train_images)


def test_a_subset_larger_than_the_set_is_an_error(data):
    with pytest.raises(DataError, match="needs 31 of class 'circle', but Shapes-10 has 30; ask for at most 300"):
        data.subset(301)


@pytest.mark.parametrize("n", [0, -1])
def test_an_empty_subset_is_an_error(data, n):
    with pytest.raises(DataError, match=f"at least one training image, not {n}"):
        data.subset(n)


def test_to_moves_all_four_tensors(data):
    moved = data.to("meta")
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert getattr(moved, name).device.type == "meta"
        assert getattr(data, name).device.type == "cpu"


def test_a_subset_keeps_the_order_of_the_set(data):
    place = {image.numpy().tobytes(): number for number, image in enumerate(data.train_images)}
    places = [place[image.numpy().tobytes()] for image in data.subset(50).train_images]
    assert places == sorted(places)


@pytest.mark.parametrize("numbers", [{"n": 10.5}, {"n": "10"}, {"n": 10, "test": 1.5}, {"n": 10, "seed": 0.5}])
def test_a_subset_is_asked_for_in_whole_numbers(data, numbers):
    with pytest.raises(DataError, match="must be a whole number"):
        data.subset(**numbers)


def test_batches_that_there_are_not(data):
    with pytest.raises(DataError, match="there is no split 'val'; choose train or test"):
        next(data.batches("val", torch.arange(4), 2))
    with pytest.raises(DataError, match="size must be at least 1, not 0"):
        next(data.batches("test", torch.arange(4), 0))


@pytest.mark.parametrize("part", ["train_images", "train_labels", "test_images", "test_labels"])
def test_a_set_of_which_a_part_is_another_has_another_fingerprint(data, part):
    values = getattr(data, part)
    other = 255 - values if "images" in part else values.roll(1)
    assert replace(data, **{part: other}).fingerprint != data.fingerprint


def test_a_subset_is_the_same_on_every_machine(data):
    """A change of these places is a change of what all studies of a subset train on."""
    place = {image.numpy().tobytes(): number for number, image in enumerate(data.train_images)}
    places = [place[image.numpy().tobytes()] for image in data.subset(50).train_images]
    assert places[:8] == [1, 9, 18, 21, 31, 34, 45, 52]


def test_a_seed_may_be_numpys_and_has_64_bits(data):
    assert torch.equal(data.subset(20, np.int64(3)).train_labels, data.subset(20, 3).train_labels)
    for seed in (2**64, -(2**63) - 1):
        with pytest.raises(DataError, match=f"seed must fit into 64 bits, and {seed} does not"):
            data.subset(20, seed)
