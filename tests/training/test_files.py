"""Training on images in files: the same order, shares and numbers however they are read, and through the commands."""

import dataclasses
import multiprocessing
import shutil
import signal
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from cnnlib.__main__ import main
from cnnlib.data import DataError, image_folders, normalise
from cnnlib.training import Recipe, Run, evaluate, fit
from cnnlib.training import step as step_module
from cnnlib.training.batches import FileBatches
from cnnlib.training.distributed import Processes


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two classes of eight training and three test images, told by their colour."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name, colour in {"red": (200, 60, 60), "blue": (60, 60, 200)}.items():
        for part, count in {"train": 8, "val": 3}.items():
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(random.integers(-50, 51, (20, 24, 3)) + colour, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
    return root


@pytest.fixture
def data(root):
    return image_folders(root, size=16, workers=0)


@pytest.fixture
def recipe():
    return Recipe(name="test", epochs=3, batch_size=4, lr=0.05)


def test_workers_change_no_number_of_a_training(data, recipe):
    runs = [
        fit(("alexnet-cifar", {"width": 0.125}), dataclasses.replace(data, workers=workers), recipe, progress=False)
        for workers in (0, 2)
    ]
    first, second = ([dataclasses.replace(point, seconds=0) for point in run.history] for run in runs)
    assert first == second
    assert (runs[0].train, runs[0].test) == (runs[1].train, runs[1].test)
    assert (runs[0].train.n, runs[0].test.n) == (16, 6)
    assert runs[0].data == "pictures0"
    assert [*runs[0].module.modules()][-1].out_features == 2, "as many classes as there are folders"


def test_no_process_outlives_the_training(data, recipe):
    before = multiprocessing.active_children()
    fit(("alexnet-cifar", {"width": 0.125}), dataclasses.replace(data, workers=2), recipe, progress=False)
    assert multiprocessing.active_children() == before


def test_a_network_learns_from_files(tiny, data, recipe):
    assert fit(tiny, data, recipe.replace(epochs=20, lr=0.2), progress=False).test_error == 0


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own(data, recipe):
    batches = FileBatches(data, recipe.replace(augment=False), seed=3)
    epochs = [torch.cat([batches[4 * epoch + step][0] for step in range(4)]).flatten(1) for epoch in (0, 1)]
    everything = torch.cat([images for images, _ in data.batches("train", torch.arange(16), 16)]).flatten(1)
    assert not torch.equal(*epochs)
    for epoch in epochs:
        assert torch.equal(epoch.unique(dim=0), everything.unique(dim=0))


def test_any_step_can_be_the_first(data, recipe):
    whole = FileBatches(data, recipe, seed=3)
    steps = [whole[step] for step in range(12)]
    for first in (3, 4, 9):
        for a, b in zip(FileBatches(data, recipe, seed=3)[first], steps[first], strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(FileBatches(data, recipe, seed=4)[0][0], steps[0][0])
    assert steps[0][0].is_contiguous(memory_format=torch.channels_last)


def test_an_image_is_cut_anew_in_every_epoch(data, recipe):
    one = FileBatches(data, recipe.replace(batch_size=16), seed=3)
    cuts = {image.numpy().tobytes() for step in range(3) for image in one[step][0]}
    assert len(cuts) == 48


def test_processes_share_the_batches_of_one(data, recipe):
    whole = FileBatches(data, recipe, seed=3)
    shares = [FileBatches(data, recipe, 3, Processes(rank=rank, count=2)) for rank in (0, 1)]
    for step in (0, 1, 5):
        for parts in zip(whole[step], shares[0][step], shares[1][step], strict=True):
            assert torch.equal(parts[0], torch.cat(parts[1:]))


def test_evaluation_of_files(tiny, data):
    ((images, labels),) = data.batches("test", torch.arange(6), 6)
    found = evaluate(tiny, dataclasses.replace(data, workers=1))
    tiny.eval()
    with torch.no_grad():
        logits = tiny(normalise(images, data.mean, data.std))
    assert found.error == pytest.approx(100 * (logits.argmax(1) != labels).double().mean().item())
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)


def test_a_damaged_image_ends_a_training_with_its_name(data, recipe, root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    (tmp_path / "copy" / "train" / "red" / "3.png").write_bytes(b"")
    data = image_folders(tmp_path / "copy", size=16, workers=2)
    with pytest.raises(DataError, match=r"red/3\.png cannot be read"):
        fit(("alexnet-cifar", {"width": 0.125}), data, recipe, progress=False)


@pytest.fixture
def train(root, tmp_path, monkeypatch, capsys):
    """Run the command on the folder, in an empty one."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, root=root):
        status = main(["train", "--data", "imagenet", "--root", str(root), "--workers", "0", "--quiet", *arguments])
        return status, *capsys.readouterr()

    return run


SMALL = ("mobilenet-v1-0.25", "--batch-size", "4", "--steps", "3")


def test_the_same_commands_train_on_a_folder(train, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        step = step_module.Step.__call__

        def interrupted(self, *arguments):
            signal.raise_signal(signal.SIGINT)
            return step(self, *arguments)

        patch.setattr(step_module.Step, "__call__", interrupted)
        status, _, err = train(*SMALL)
    assert status == 130
    assert "stopped at step 1 of 3" in err
    status, out, err = train(*SMALL)
    assert (status, train(*SMALL, "--out", "whole")[0]) == (0, 0)
    resumed, whole = (Run.load(next((tmp_path / name).glob("*.json"))) for name in ("runs", "whole"))
    assert resumed.history[-1].train_loss == whole.history[-1].train_loss
    assert (resumed.train, resumed.test) == (whole.train, whole.test)
    assert (whole.data, whole.train_images, whole.test.n, whole.steps) == ("pictures0", 16, 6, 3)
    (record,) = (tmp_path / "whole").glob("*.json")
    assert record.name.startswith("mobilenet-v1-0.25-pictures0-3steps-seed0-"), "a dot in the name is no ending"
    assert whole.recipe.name == "resnet-imagenet, batch_size=4"
    assert "on pictures0" in out
    assert "pictures0: 16 training and 6 test images in files, cut to 224x224 RGB, 2 classes" in err


@pytest.mark.parametrize(
    ("model", "size", "recipe"), [("alexnet", 227, "resnet-imagenet"), ("resnet20", 224, "resnet-cifar")]
)
def test_the_model_decides_about_size_and_recipe(train, monkeypatch, capsys, model, size, recipe):
    asked = []
    monkeypatch.setattr("cnnlib.training.fit", lambda *arguments, **_: asked.append(arguments) or sys.exit())
    with pytest.raises(SystemExit):
        train(model)
    ((_, data, chosen),) = asked
    assert (data.size, chosen.name) == (size, recipe)
    assert f"in files, cut to {size}x{size} RGB" in capsys.readouterr().err


def test_a_name_with_a_dash_takes_the_same_recipe(train, monkeypatch):
    asked = []
    monkeypatch.setattr("cnnlib.training.fit", lambda *arguments, **_: asked.append(arguments) or sys.exit())
    with pytest.raises(SystemExit):
        train("alexnet", "--data", "Image-Net")
    assert asked[0][2].name == "resnet-imagenet"


def test_a_folder_that_is_not_there_is_one_clear_error(train, tmp_path):
    status, _, err = train(*SMALL, root=tmp_path)
    assert status == 2
    assert err.startswith(f"error: there is no folder {tmp_path / 'train'}; images lie in ROOT/train/CLASS/")


def test_an_image_is_cut_otherwise_for_every_seed(data, recipe):
    first, second = (
        {image.numpy().tobytes() for image in FileBatches(data, recipe.replace(batch_size=16), seed)[0][0]}
        for seed in (3, 4)
    )
    assert not first & second, "not the same cuts in another order"
