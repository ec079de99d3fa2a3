import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnlib.data import DataError, normalise
from cnnlib.measure import BadArgument, DoesNotFit
from cnnlib.training import ArgumentError, Evaluation, evaluate, evaluation, predict


@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000])
def test_exact_over_all_images(tiny, data, batch_size):
    tiny.train()
    tiny(torch.randn(8, 3, 16, 16))  # running statistics other than 0 and 1
    tiny.eval()
    with torch.no_grad():
        logits = tiny(normalise(data.test_images, data.mean, data.std))
    result = evaluate(tiny, data, batch_size=batch_size)
    assert result.loss == pytest.approx(F.cross_entropy(logits.double(), data.test_labels).item(), rel=1e-6)
    assert result.error == pytest.approx(100 * (logits.argmax(1) != data.test_labels).double().mean().item())
    assert result.n == 40
    torch.testing.assert_close(predict(tiny, data.test_images, data, batch_size=batch_size), logits)


def test_large_images_come_in_smaller_batches(tiny, data, monkeypatch):
    sizes = []
    batches = type(data).batches
    monkeypatch.setattr(type(data), "batches", lambda self, *a: sizes.append(a[2]) or batches(self, *a))
    evaluate(tiny, data)
    monkeypatch.setattr(type(data), "image_size", (3, 224, 224))
    evaluate(tiny, data)
    assert sizes == [250, 5]


def test_the_mode_of_every_part_is_restored(tiny, data):
    tiny.train()
    tiny.norm.eval()
    statistics = tiny.norm.running_mean.clone()
    evaluate(tiny, data)
    predict(tiny, data.test_images, data)
    assert (tiny.training, tiny.norm.training, tiny.drop.training) == (True, False, True)
    assert torch.equal(tiny.norm.running_mean, statistics)
    assert tiny.head.weight.grad is None


def test_no_random_numbers_are_drawn(tiny, data):
    before = torch.get_rng_state()
    assert evaluate(tiny, data) == evaluate(tiny, data)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_splits(tiny, data):
    assert evaluate(tiny, data, "train").n == 96
    with pytest.raises(DataError, match="'validation'"):
        evaluate(tiny, data, "validation")


def test_a_network_without_values_is_refused(tiny, data):
    for use in (lambda net: evaluate(net, data), lambda net: predict(net, data.test_images, data)):
        with pytest.raises(BadArgument, match="on the device 'meta', without values"):
            use(tiny.to("meta"))


@pytest.mark.parametrize(("batch_size", "said"), [(0, "at least 1, not 0"), (-1, "not -1"), (1.5, "a whole number")])
def test_a_batch_without_images_is_refused(tiny, data, batch_size, said):
    with pytest.raises(ArgumentError, match=f"batch_size must be .*{said}"):
        evaluate(tiny, data, batch_size=batch_size)
    with pytest.raises(ArgumentError, match=f"batch_size must be .*{said}"):
        predict(tiny, data.test_images, data, batch_size=batch_size)


def test_images_to_predict_are_not_normalised_yet(tiny, data):
    """Normalised twice they would be answered without a word, and wrongly."""
    for wrong, said in (
        (normalise(data.test_images, data.mean, data.std), r"not torch.float32 \(40, 3, 16, 16\); what is normalised"),
        (data.test_images[0], r"not torch.uint8 \(3, 16, 16\)"),
        (data.test_images.numpy(), "not a ndarray"),
    ):
        with pytest.raises(ArgumentError, match=r"a uint8 tensor \(N, C, H, W\), " + said):
            predict(tiny, wrong, data)


@pytest.mark.parametrize("call", [evaluate, lambda net, data: predict(net, data.test_images, data)])
def test_what_is_no_network_or_no_set_is_refused(call, tiny, data):
    with pytest.raises(ArgumentError, match=r"a network is evaluated, cnnlib.create\('resnet20'\) .*, not 'resnet20'"):
        call("resnet20", data)
    with pytest.raises(ArgumentError, match="data must be a set of images"):
        call(tiny, SimpleNamespace(test_images=data.test_images))


@pytest.mark.parametrize("call", [evaluate, lambda net, data: predict(net, data.test_images, data)])
def test_why_a_network_cannot_compute_is_said(call, tiny, data):
    """In the words of PyTorch it is about matrices."""
    with pytest.raises(DoesNotFit, match=r"Sequential does not take an input of 3x16x16.*smallest square .* is 30x30"):
        call(nn.Sequential(nn.Conv2d(3, 4, 30), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)), data)
    with pytest.raises(DoesNotFit, match="Sequential does not take an input of 3x16x16"):
        call(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)), data)
    with pytest.raises(ArgumentError, match=r"Tiny has weights in float64, and .* float32; convert it, module.fl"):
        call(tiny.double(), data)


def test_an_error_for_which_there_is_no_other_reason_stays(tiny, data, monkeypatch):
    """Memory that runs out, say, on images that the network does take."""
    calls = []

    def forward(images):
        calls.append(len(images))
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return images.new_zeros(len(images), 4)

    monkeypatch.setattr(tiny, "forward", forward)
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        evaluate(tiny, data)


def test_images_of_other_channels_are_refused(tiny, data):
    """A grey image less three means would pass for one of three channels."""
    with pytest.raises(ArgumentError, match=r"have 3 channels like CIFAR-10, not torch.uint8 \(40, 1, 16, 16\)"):
        predict(tiny, data.test_images[:, :1], data)


def test_a_network_without_weights_computes_on_the_processor(data):
    means = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ZeroPad1d((0, 1)))
    assert predict(means, data.test_images, data).shape == (40, 4)
    assert evaluate(means, data).n == 40


def test_more_classes_than_outputs_are_refused(tiny, data):
    with pytest.raises(ArgumentError, match="CIFAR-10 has 5 classes, and the network 4 outputs"):
        evaluate(tiny, dataclasses.replace(data, classes=(*data.classes, "black")))


def test_the_training_sample_is_fixed_and_mixed(tiny, data, monkeypatch):
    assert evaluation.evaluate_training_sample(tiny, data) == evaluate(tiny, data, "train")
    monkeypatch.setattr(evaluation, "TRAINING_SAMPLE", 40)
    chosen = []
    monkeypatch.setattr(evaluation, "_evaluate", lambda module, data, split, index, processes: chosen.append(index))
    torch.manual_seed(1)
    evaluation.evaluate_training_sample(tiny, data)
    torch.manual_seed(2)
    evaluation.evaluate_training_sample(tiny, data)
    assert torch.equal(*chosen)
    assert len(chosen[0]) == 40
    assert len(data.train_labels[chosen[0]].unique()) == 4, (
        "labels that take turns would be picked one-sidedly by a stride"
    )


def test_without_a_mistake_the_error_is_zero(tiny, data):
    with torch.no_grad():
        tiny.head.weight.zero_()
        tiny.head.bias.copy_(torch.tensor([0.0, 50.0, 0.0, 0.0]))
    ones = dataclasses.replace(data, test_labels=torch.ones_like(data.test_labels))
    assert evaluate(tiny, ones) == Evaluation(loss=pytest.approx(0), error=0.0, n=40)


def test_the_training_sample_is_the_same_on_every_machine(tiny, data, monkeypatch):
    monkeypatch.setattr(evaluation, "TRAINING_SAMPLE", 8)
    chosen = []
    monkeypatch.setattr(evaluation, "_evaluate", lambda module, data, split, index, processes: chosen.append(index))
    evaluation.evaluate_training_sample(tiny, data)
    assert chosen[0].tolist() == [5, 13, 35, 43, 44, 48, 63, 74]
