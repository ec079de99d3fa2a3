"""What a user needs to catch an error of the explorers, or to give one of them a start, is in the package."""

import importlib
import pkgutil

import pytest

from cnnlib import explore
from cnnlib.errors import CnnlibError

MODULES = [importlib.import_module(f"cnnlib.explore.{info.name}") for info in pkgutil.iter_modules(explore.__path__)]


def test_every_error_is_a_name_of_the_package():
    errors = {
        value
        for module in MODULES
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, CnnlibError) and value.__module__ == module.__name__
    }
    assert len(errors) > 5
    assert [error for error in errors if getattr(explore, error.__name__, None) is not error] == []


@pytest.mark.parametrize("name", explore.__all__)
def test_every_name_is_there(name):
    assert getattr(explore, name) is not None


def test_a_stack_can_be_had_by_name():
    start = explore.Stack(*explore.STACKS["One 7×7"])
    assert "Explorer" in explore.receptive_field(start=start).text
