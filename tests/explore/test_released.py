"""What the figure of released weights refuses."""

import pytest

from cnnlib.explore import NothingToDraw, released_errors
from cnnlib.studies.released import released


def test_names_come_in_a_list():
    with pytest.raises(NothingToDraw, match=r"named must be a list of names, such as \['resnet50'\], not 'resnet50'"):
        released_errors([], named="resnet50")


def test_two_trainings_are_shown_of_one_network():
    weights = [one for name in ("resnet50", "densenet121") for one in released(name)]
    assert released_errors(weights, two="resnet50")
    with pytest.raises(NothingToDraw, match="one training of densenet121, and shows two of it"):
        released_errors(weights, two="densenet121")
