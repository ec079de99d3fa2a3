"""``python -m cnnlib data show`` where something is missing."""

import warnings

import pytest
import torch

from cnnlib.__main__ import main
from cnnlib.data import ImageSet, StandInWarning, cli


@pytest.fixture
def small(monkeypatch):
    """Two images of each of two classes, which stand in for others."""
    images, labels = torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1, 0, 1])
    data = ImageSet("Shapes-10", images, labels, images, labels, ("a", "b"), (0.0,) * 3, (1.0,) * 3, "drawn for a test")

    def load(name):
        warnings.warn("SHAPES-10 STANDS IN FOR CIFAR-10", StandInWarning, 2)
        return data

    monkeypatch.setattr(cli, "load", load)


def test_a_stand_in_is_a_line_without_a_place_in_the_code(small, capsys):
    assert main(["data", "show"]) == 0
    assert capsys.readouterr().err == "*** SHAPES-10 STANDS IN FOR CIFAR-10 ***\n"


def test_a_set_may_be_called_by_its_full_name(small, capsys):
    assert main(["data", "show", "CIFAR-10"]) == 0
    assert "Shapes-10" in capsys.readouterr().out


def test_samples_go_where_a_tilde_says(small, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["data", "show", "--out=~/a.png"]) == 0
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("none/a.png", "cannot be written: No such file or directory; name a file in a folder that there is"),
        ("a.xyz", "cannot be written: unknown file extension: .xyz; give it the ending .png"),
    ],
)
def test_samples_that_cannot_be_written_say_what_to_do(small, tmp_path, capsys, file, message):
    assert main(["data", "show", "--out", str(tmp_path / file)]) == 2
    assert f"error: {tmp_path / file} {message}\n" in capsys.readouterr().err
