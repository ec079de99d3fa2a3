"""Distortions: equally far in pixels, each of its own kind."""

import pytest
import torch
from torch.nn import functional as F

from cnnlib.measure import (
    DESTROYS_STRUCTURE,
    KEEPS_STRUCTURE,
    BadArgument,
    blurred,
    equal_distortions,
    pixel_distance,
)


@pytest.fixture(scope="module")
def images():
    """Smooth pictures with some detail, a dark and a bright one."""
    coarse = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(coarse, 16, mode="bilinear")
    smooth[0] *= 0.4
    smooth[1] = 1 - 0.4 * smooth[1]
    return smooth


def test_all_are_equally_far(images):
    versions = equal_distortions(images)
    assert tuple(versions) == ("shift", "contrast", "brightness", "blur", "noise")
    assert set(versions) == {*KEEPS_STRUCTURE, *DESTROYS_STRUCTURE}
    wanted = pixel_distance(images, versions["shift"])
    assert (wanted > 0.01).all()
    for name, version in versions.items():
        assert version.min() >= 0, name
        assert version.max() <= 1, name
        torch.testing.assert_close(pixel_distance(images, version), wanted, rtol=1e-4, atol=0, msg=name)


def test_each_is_what_its_name_says(images):
    versions = equal_distortions(images)
    assert torch.equal(versions["shift"][..., 1:], images[..., :-1])
    middle = images.mean((1, 2, 3), keepdim=True)
    lost = (versions["contrast"] - middle) / (images - middle)
    assert (lost.flatten(1).amax(1) - lost.flatten(1).amin(1) < 0.02).all()
    assert (lost < 1).all()
    added = (versions["brightness"] - images).flatten(1)
    assert (added[0] > 0).all()
    assert (added[1] < 0).all()

    def roughness(pictures):
        return (pictures[..., 1:] - pictures[..., :-1]).square().flatten(1).mean(1)

    assert (roughness(versions["blur"]) < roughness(images)).all()
    assert (roughness(versions["noise"]) > roughness(images)).all()


def test_noise_follows_its_seed(images):
    first, again, other = (equal_distortions(images, seed)["noise"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_full_strength_is_the_most(images):
    stripes = torch.zeros(1, 1, 16, 16)
    stripes[..., ::2] = 1  # a shift turns black into white; no blur can
    versions = equal_distortions(stripes)
    assert pixel_distance(stripes, versions["blur"]) < 0.6 * pixel_distance(stripes, versions["shift"])
    torch.testing.assert_close(versions["blur"], blurred(stripes, torch.tensor([8.0])))


def test_blur_keeps_a_constant_and_spreads_a_point():
    flat = torch.full((2, 3, 9, 9), 0.3)
    torch.testing.assert_close(blurred(flat, torch.tensor([0.0, 4.0])), flat)
    point = torch.zeros(1, 1, 41, 41)
    point[0, 0, 20, 20] = 1
    narrow, wide = blurred(point.expand(2, 1, 41, 41), torch.tensor([1.0, 3.0]))[:, 0]
    at = torch.arange(41) - 20.0
    for picture, deviation in ((narrow, 1), (wide, 3)):
        assert picture.sum().item() == pytest.approx(1, abs=1e-5)
        assert (picture.sum(0) @ at**2).sqrt().item() == pytest.approx(deviation, rel=0.02)
        torch.testing.assert_close(picture, picture.T)


def test_blur_repeats_the_edges():
    step = torch.zeros(1, 1, 20, 20)
    step[..., 10:] = 1
    row = blurred(step, torch.tensor([2.0]))[0, 0, 0]
    assert row[0] < 0.01
    assert row[-1] > 0.99


@pytest.mark.parametrize(
    "wrong", [torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 8), torch.full((1, 3, 8, 8), 2.0)]
)
def test_what_is_no_image_is_refused(wrong):
    with pytest.raises(BadArgument, match="floats"):
        equal_distortions(wrong)


def test_half_precision_stays_half(images):
    assert {version.dtype for version in equal_distortions(images.half()).values()} == {torch.float16}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.full((1, 3, 8, 8), torch.nan), r"in \[0, 1\], but these go from nan"),
        (torch.zeros(0, 3, 8, 8), r"one or more, not torch\.float32 \(0, 3, 8, 8\)"),
        ([0.5], "one or more, not a list"),
    ],
)
def test_what_is_no_batch_of_pictures_is_refused(wrong, message):
    with pytest.raises(BadArgument, match=message):
        equal_distortions(wrong)
