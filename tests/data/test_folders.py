"""Images in files: a folder for each class, read by worker processes."""

import shutil
import signal
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlib.data import DataError, folders, image_folders, load
from cnnlib.data.folders import IMAGENET

CLASSES = ("ant", "bee", "cat")


def write_image(path, size, seed):
    """A photograph of noise, wider than high, in the format that the ending names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size + 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    """Three classes of four training images and two test images, JPEG and PNG, one of them grey."""
    for number, name in enumerate(CLASSES):
        for index in range(4):
            write_image(tmp_path / "train" / name / f"{index}.{('jpg', 'png')[index % 2]}", 30, 10 * number + index)
        for index in range(2):
            write_image(tmp_path / "val" / name / f"{index}.JPEG", 30, 100 + 10 * number + index)
    Image.new("L", (30, 30), 77).save(tmp_path / "train" / "bee" / "1.png")
    return tmp_path


def read(data, keys, split="train"):
    images, labels = zip(*data.read(split, keys), strict=True)
    return torch.cat(images), torch.cat(labels)


def test_sizes_classes_and_labels(root):
    data = image_folders(root, size=16)
    assert data.classes == CLASSES
    assert data.train_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.test_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.image_size == (3, 16, 16)
    assert str(data) == f"{root.name}: 12 training and 6 test images in files, cut to 16x16 RGB, 3 classes"
    assert data.to("meta") is data


def test_load_knows_it(root):
    assert load("ImageNet", root).fingerprint == image_folders(root).fingerprint
    with pytest.raises(DataError, match="say which folder holds ImageNet"):
        load("imagenet")


def test_only_a_folder_with_imagenets_counts_is_called_imagenet(root, monkeypatch):
    assert image_folders(root).name == root.name
    monkeypatch.setattr("cnnlib.data.folders.IMAGENET", (3, 12, 6))
    assert image_folders(root).name == "ImageNet"
    assert IMAGENET == (1000, 1281167, 50000)


def test_the_central_part_is_that_of_torchvision(root):
    from torchvision import transforms

    data = image_folders(root, size=14, workers=0)
    usual = transforms.Compose([transforms.Resize(16), transforms.CenterCrop(14), transforms.PILToTensor()])
    ((images, labels),) = data.batches("test", torch.tensor([4, 1]), 5)
    assert labels.tolist() == [2, 0]
    for image, name in zip(images, ("cat/0", "ant/1"), strict=True):
        assert torch.equal(image, usual(Image.open(root / "val" / f"{name}.JPEG")))


def test_224_pixels_are_cut_from_256(root):
    assert image_folders(root).size == 224
    transform = next(iter(image_folders(root, workers=0).batches("test", torch.tensor([0]), 1)))[0]
    expected = Image.open(root / "val" / "ant" / "0.JPEG").resize((round(36 / 30 * 256), 256), Image.BILINEAR)
    left = round((expected.width - 224) / 2)
    difference = transform[0].permute(1, 2, 0).int().numpy() - np.array(expected)[16:240, left : left + 224].astype(int)
    assert abs(difference).max() <= 2


def test_batches_go_through_the_index(root):
    data = image_folders(root, size=8, workers=0)
    labels = [part.tolist() for _, part in data.batches("train", torch.arange(12), 5)]
    assert labels == [[0, 0, 0, 0, 1], [1, 1, 1, 2, 2], [2, 2]]
    assert list(data.batches("train", torch.arange(0), 5)) == []


@pytest.mark.parametrize("split", ["train", "test"])
def test_workers_change_no_number(root, split):
    keys = [[(0, 5), (3, 6), (5, None)], [(1, 7)], [(2, 5), (0, 5)]]
    alone, helped = (read(image_folders(root, size=16, workers=workers), keys, split) for workers in (0, 2))
    for a, b in zip(alone, helped, strict=True):
        assert torch.equal(a, b)
    images = alone[0]
    assert images.dtype == torch.uint8
    assert images.shape == (6, 3, 16, 16)
    assert torch.equal(images[0], images[5]), "the same image with the same seed"


def test_the_random_part_depends_on_its_seed_alone(root):
    data = image_folders(root, size=16, workers=0)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, _ = read(data, [[(0, 5), (0, 6), (0, None)]])
    assert torch.equal(torch.get_rng_state(), before)
    assert len({image.numpy().tobytes() for image in first}) == 3
    torch.manual_seed(2)
    assert torch.equal(read(data, [[(0, 6)]])[0][0], first[1])


def test_the_random_part_has_the_area_and_shape_and_mirrors_that_are_promised(tmp_path):
    side, size, count = 256, 32, 1000
    coordinates = np.zeros((side, side, 3), np.uint8)
    coordinates[..., 0], coordinates[..., 1] = np.arange(side)[:, None], np.arange(side)
    for part in ("train", "val"):
        (tmp_path / part / "ant").mkdir(parents=True)
        Image.fromarray(coordinates).save(tmp_path / part / "ant" / "0.png")
    parts, _ = read(image_folders(tmp_path, size=size, workers=0), [[(0, seed) for seed in range(count)]])
    # Coordinates grow evenly over a part, but for its margins, where scaling mixes in fewer pixels.
    place, inner = np.arange(size)[2:-2], parts.numpy()[:, :, 2:-2, 2:-2]
    height = size * np.polyfit(place, inner[:, 0].mean(2).T, 1)[0]
    width = size * np.polyfit(place, inner[:, 1].mean(1).T, 1)[0]  # negative if mirrored
    area, shape = height * abs(width) / side**2, abs(width) / height
    assert 0.075 < area.min() < 0.1
    assert 0.95 < area.max() < 1.005
    assert 0.74 < shape.min() < 0.78
    assert 1.3 < shape.max() < 1.35
    assert (width < 0).mean() == pytest.approx(0.5, abs=0.05)  # three standard deviations


def test_grey_images_become_rgb(root):
    (image,), _ = read(image_folders(root, size=16, workers=0), [[(5, None)]])
    assert (image == 77).all()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named(root, workers):
    path = root / "train" / "bee" / "2.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        DataError, match=r"^the image .*train/bee/2\.jpg cannot be read \(.*truncated.*\); replace"
    ) as error:
        read(image_folders(root, size=16, workers=workers), [[(number, None)] for number in range(12)])
    assert "Traceback" not in str(error.value)
    path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2\.jpg cannot be read \(cannot identify image file it\)"):
        read(image_folders(root, size=16, workers=workers), [[(6, 1)]])


def test_a_palette_with_transparent_colours_is_read_without_a_warning(root):
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(root / "train" / "bee" / "2.jpg", format="png", transparency=bytes([0, 128]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images, _ = read(image_folders(root, size=16, workers=0), [[(6, None)]])
    assert images[0].flatten(1).unique(dim=1).flatten().tolist() == [200, 100, 50]


@pytest.mark.parametrize(("mode", "suffix"), [("I;16", "png"), ("I", "tiff"), ("F", "tiff")])
def test_an_image_of_more_than_8_bits_is_named(root, mode, suffix):
    """Pillow makes white of all that is above 255."""
    path = root / "train" / "bee" / "2.jpg"
    Image.new(mode, (20, 20), 1000).save(path, format=suffix)
    with pytest.raises(DataError, match=r"^the image .*train/bee/2\.jpg has more than 8 bits a channel; convert it"):
        read(image_folders(root, size=16, workers=0), [[(6, None)]])


def test_an_image_that_has_vanished_is_named(root):
    data = image_folders(root, size=16, workers=0)
    (root / "val" / "cat" / "1.JPEG").unlink()
    with pytest.raises(DataError, match=r"val/cat/1\.JPEG cannot be read"):
        read(data, [[(5, None)]], "test")


@pytest.mark.parametrize("part", ["train", "val"])
def test_what_is_missing_is_named(root, part):
    shutil.rmtree(root / part / "bee")
    other = {"train": "val", "val": "train"}[part]
    with pytest.raises(DataError, match=f"{other} has a class 'bee' that .*{part} has not"):
        image_folders(root)
    (root / part / "bee").mkdir()
    with pytest.raises(DataError, match=f"{part} cannot be used: .*classes bee"):
        image_folders(root)
    shutil.rmtree(root / part)
    with pytest.raises(DataError, match=f"there is no folder .*{part}; images lie in ROOT/train/CLASS"):
        image_folders(root)
    (root / part).mkdir()
    with pytest.raises(DataError, match=f"{part} cannot be used: .*class folder"):
        image_folders(root)


def test_other_files_have_another_fingerprint(root):
    before = image_folders(root).fingerprint
    assert image_folders(root).fingerprint == before
    assert image_folders(root, size=8).fingerprint != before
    (root / "train" / "ant" / "0.jpg").rename(root / "train" / "ant" / "9.jpg")
    assert image_folders(root).fingerprint != before


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ({"workers": -1}, "workers must be at least 0, not -1"),
        ({"workers": "2"}, "workers must be a whole number, not '2'"),
        ({"size": 0}, "size must be at least 1, not 0"),
        ({"size": 2.5}, "size must be a whole number, not 2.5"),
        ({"size": True}, "size must be a whole number, not True"),
    ],
)
def test_numbers_that_make_no_sense(root, number, message):
    with pytest.raises(DataError, match=message):
        image_folders(root, **number)


def test_workers_leave_interrupts_to_the_process_that_trains():
    folders._ignore_interrupts(0)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_cores_are_shared_by_the_processes_of_a_host(monkeypatch):
    monkeypatch.setattr(folders.os, "sched_getaffinity", lambda _: range(8), raising=False)
    assert folders._cores() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert folders._cores() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert folders._cores() == 1


def test_batches_that_there_are_not(root):
    data = image_folders(root, size=16, workers=0)
    for misspelt in ("val", "Train"):
        with pytest.raises(DataError, match=f"there is no split '{misspelt}'; choose train or test"):
            next(data.batches(misspelt, torch.arange(4), 2))
        with pytest.raises(DataError, match="there is no split"):
            next(data.read(misspelt, [[(0, None)]]))
    with pytest.raises(DataError, match="size must be at least 1, not 0"):
        next(data.batches("test", torch.arange(4), 0))


def test_test_images_in_other_files_have_another_fingerprint(root):
    before = image_folders(root).fingerprint
    (root / "val" / "ant" / "0.JPEG").rename(root / "val" / "ant" / "9.JPEG")
    assert image_folders(root).fingerprint != before


def test_images_are_normalised_by_imagenets_statistics(root):
    data = image_folders(root)
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_as_many_classes_of_other_names_are_not_the_same(root):
    (root / "val" / "bee").rename(root / "val" / "dog")
    with pytest.raises(DataError, match=r"train has a class 'bee' that .*val has not"):
        image_folders(root)


def test_a_root_that_is_no_path_is_explained():
    for read_folder in (image_folders, lambda root: load("cifar10", root)):
        with pytest.raises(DataError, match=r"root is the path of a folder, a str or a pathlib\.Path, not 3"):
            read_folder(3)
