import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnlib.data import ImageError, crop_and_flip, normalise, pad


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coordinates(count: int, height: int, width: int | None = None) -> torch.Tensor:
    """Images (count, 3, height, width), square if no width is given, whose pixels know their row, column and image."""
    width = width or height
    images = torch.empty(count, 3, height, width, dtype=torch.uint8)
    images[:, 0] = torch.arange(height)[:, None]
    images[:, 1] = torch.arange(width)
    images[:, 2] = torch.arange(count).remainder(256)[:, None, None]
    return images


def read_off(crops: torch.Tensor) -> list[tuple[int, int, bool]]:
    """Top, left and flip of every crop of `coordinates`."""
    return [(int(c[0, 0, 0]), int(c[1, 0].min()), bool(c[1, 0, 0] > c[1, 0, -1])) for c in crops]


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 12),
    sides=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    padding=st.integers(0, 6),
    seed=st.integers(0, 2**32),
)
def test_equal_to_cropping_and_flipping_image_by_image(count, sides, padding, seed):
    images = torch.randint(0, 256, (count, 3, *sides), dtype=torch.uint8, generator=seeded(seed))
    padded, size = pad(images, padding, value=(0.1, 0.5, 0.9)), min(sides)
    choices = read_off(crop_and_flip(coordinates(count, *padded.shape[-2:]), seeded(seed), size))
    expected = []
    for image, (top, left, flip) in zip(padded, choices, strict=True):
        crop = image[:, top : top + size, left : left + size]
        expected.append(crop.flip(-1) if flip else crop)
    assert torch.equal(crop_and_flip(padded, seeded(seed), size), torch.stack(expected))


def test_every_crop_is_a_whole_window_of_its_own_image():
    crops = crop_and_flip(coordinates(200, 40), seeded(0))
    step = torch.arange(32)
    for k, (crop, (top, left, flip)) in enumerate(zip(crops, read_off(crops), strict=True)):
        assert torch.equal(crop[0], (top + step)[:, None].expand(32, 32).byte())
        assert torch.equal(crop[1], (left + (step.flip(0) if flip else step)).expand(32, 32).byte())
        assert crop[2].unique().tolist() == [k]


def test_all_81_offsets_and_both_flips_come_equally_often():
    draws = 162 * 100
    crops = torch.cat([crop_and_flip(coordinates(1620, 40), seeded(k)) for k in range(draws // 1620)])
    counts = {}
    for choice in read_off(crops):
        counts[choice] = counts.get(choice, 0) + 1
    assert len(counts) == 9 * 9 * 2
    chi_squared = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert 105 < chi_squared < 230  # 161 degrees of freedom: outside once in ten thousand seeds


def test_the_result_is_channels_last_and_seeded():
    padded = coordinates(8, 40)
    first = crop_and_flip(padded, seeded(3))
    assert first.dtype == torch.uint8
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, crop_and_flip(padded, seeded(3)))
    assert not torch.equal(first, crop_and_flip(padded, seeded(4)))


def test_padding_is_zero_after_normalisation():
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=seeded(0))
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    padded = pad(images, value=mean)
    assert padded.shape == (4, 3, 40, 40)
    assert padded.dtype == torch.uint8
    assert torch.equal(padded[:, :, 4:-4, 4:-4], images)
    border = torch.ones(40, 40, dtype=torch.bool)
    border[4:-4, 4:-4] = False
    assert normalise(padded, mean, std)[:, :, border].abs().max() <= 0.5 / 255 / min(std)


def test_normalised_training_images_have_mean_0_and_deviation_1():
    images = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=seeded(0))
    scaled = images.double() / 255
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3), correction=0)
    normalised = normalise(images, mean, std)
    assert normalised.dtype == torch.float32
    assert torch.allclose(normalised, ((scaled - mean[:, None, None]) / std[:, None, None]).float(), atol=1e-6)
    assert torch.equal(normalised, normalise(images, tuple(mean.tolist()), tuple(std.tolist())))


def test_normalise_keeps_the_memory_format_and_its_input():
    images = coordinates(4, 32).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    assert normalise(images, (0.5,) * 3, (0.25,) * 3).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)
    floats = before.float()
    assert torch.equal(normalise(floats, (0.5,) * 3, (0.25,) * 3), normalise(images, (0.5,) * 3, (0.25,) * 3))
    assert torch.equal(floats, before.float())


def test_bad_input_is_answered_clearly():
    images = coordinates(2, 32)
    with pytest.raises(ValueError, match=r"given in \[0, 1\], not \(125, 123, 114\)"):
        pad(images, value=(125, 123, 114))
    with pytest.raises(ValueError, match="one number for each of the 3 channels"):
        pad(images, value=(0.5,))
    with pytest.raises(ValueError, match="one number for each of the 3 channels"):
        normalise(images, (0.5,), (0.5,))
    with pytest.raises(ValueError, match="no 32x32 window fits into images of 28x28"):
        crop_and_flip(coordinates(2, 28))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(2, 3, 8, 8), r"not float32 \(2, 3, 8, 8\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"not uint8 \(3, 8, 8\)"),
    ],
)
def test_only_images_of_8_bits_are_padded(images, said):
    with pytest.raises(ValueError, match=r"images must be uint8 \(N, C, H, W\), " + said):
        pad(images, value=(0.5,) * 3)


def test_padding_and_windows_are_whole_numbers_of_pixels():
    images = coordinates(2, 32)
    for padding in (-1, 1.5):
        with pytest.raises(ValueError, match="padding must be"):
            pad(images, padding, value=(0.5,) * 3)
    for size in (0, 1.5):
        with pytest.raises(ValueError, match="size must be"):
            crop_and_flip(images, size=size)


def test_each_image_of_a_batch_has_a_crop_and_a_flip_of_its_own():
    drawn = zip(*read_off(crop_and_flip(coordinates(200, 40), seeded(0))), strict=True)
    assert [len(set(values)) for values in drawn] == [9, 9, 2]


@pytest.mark.parametrize("value", [None, 0.5, "red", (1, 0, "x")])
def test_a_colour_is_a_number_for_each_channel(value):
    for use in (lambda images: pad(images, value=value), lambda images: normalise(images, (0.5,) * 3, value)):
        with pytest.raises(ImageError, match="one number for each of the 3 channels, not"):
            use(coordinates(2, 32))


def test_what_is_no_batch_of_images_is_described():
    images = coordinates(2, 32)
    for use in (crop_and_flip, lambda images: normalise(images, (0.5,) * 3, (0.5,) * 3)):
        with pytest.raises(ImageError, match=r"must be a tensor \(N, C, H, W\), not uint8 \(3, 32, 32\)"):
            use(images[0])
        with pytest.raises(ImageError, match="not a ndarray"):
            use(images.numpy())
    with pytest.raises(ImageError, match=r"must be uint8 \(N, C, H, W\), not a list"):
        pad([[0]], value=(0.5,) * 3)
    with pytest.raises(ImageError, match=r"given in \[0, 1\], not \(nan"):
        pad(images, value=(float("nan"), 0.5, 0.5))
