"""What the figure of released weights refuses."""

import pytest

from cnnlib.explore import NothingToDraw, released_errors


def test_names_come_in_a_list():
    with pytest.raises(NothingToDraw, match=r"named must be a list of names, such as \['resnet50'\], not 'resnet50'"):
        released_errors([], named="resnet50")
