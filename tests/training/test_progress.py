import io
import re
import sys

import IPython
import pytest

from cnnlib.training import fit, progress
from cnnlib.training import step as step_module

SMALL = ("alexnet-cifar", {"width": 0.125})


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Handle:
    """Records what a notebook's output shows, one entry an update."""

    def __init__(self):
        self.shown = []

    def display(self, content, *, raw, display_id):
        assert raw
        assert display_id
        self.shown.append(content)
        return self

    def update(self, content, *, raw):
        assert raw
        self.shown.append(content)


@pytest.fixture
def notebook(monkeypatch):
    handle = Handle()
    shell = type("Shell", (), {"config": {"IPKernelApp": {}}})()
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr("IPython.display.display", handle.display)
    return handle


def test_a_terminal_shows_loss_accuracy_speed_and_time_left(data, recipe, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(progress, "MIN_INTERVAL", 0)
    fit(SMALL, data, recipe, seed=3)
    text = terminal.getvalue()
    assert text.splitlines()[0].startswith("alexnet-cifar (width=0.125) on CIFAR-10, ")
    assert "(1 thread, fp32, eager), recipe test, 4 epochs, batch 16, seed 3" in text
    (line,) = (line for line in text.split("\r") if "step 20/24" in line)
    assert re.search(
        r" 83% \|.+\| step 20/24, \d\d:\d\d left, loss \d\.\d{3}, accuracy \d+\.\d %, [\d,]+ images/s", line
    )
    assert len(line) <= 80, "the width of many terminals"
    assert text.split("\r")[-1].strip() == "", "the bar is wiped at the end"


def test_it_says_where_it_continues(data, recipe, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    step = step_module.Step.__call__

    def dying(self, *arguments):
        if steps.pop() == 0:
            raise KeyError
        return step(self, *arguments)

    steps = [*range(8)]
    monkeypatch.setattr(step_module.Step, "__call__", dying)
    with pytest.raises(KeyError):
        fit(SMALL, data, recipe, checkpoint=tmp_path / "x", checkpoint_every=0)
    steps = [1] * 24
    fit(SMALL, data, recipe, checkpoint=tmp_path / "x")
    first, second = (line for line in terminal.getvalue().splitlines() if line.startswith("alexnet"))
    assert second == f"{first}, continuing at step 7"


def test_quiet_without_a_terminal_or_on_demand(data, recipe, monkeypatch, capsys):
    fit(SMALL, data, recipe.limited(steps=2))
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    fit(SMALL, data, recipe.limited(steps=2), progress=False)
    assert terminal.getvalue() == ""
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_notebook_shows_one_output_that_ends_empty(data, recipe, notebook, monkeypatch, capsys):
    monkeypatch.setattr(progress, "MIN_INTERVAL", 0)
    fit(SMALL, data, recipe)
    first, last = notebook.shown[0], notebook.shown[-1]
    assert first == last == {"text/plain": "", "text/html": ""}, "so that a comparison of outputs sees no difference"
    middle = notebook.shown[-2]["text/plain"]
    assert "alexnet-cifar" in middle
    assert "step 2" in middle
    assert "images/s" in middle
    assert "\r" not in middle
    assert "widget" not in str(notebook.shown)
    captured = capsys.readouterr()
    assert captured.out == captured.err == "", "streams would stay in the stored notebook"


def test_a_notebook_is_left_empty_after_an_error_too(data, recipe, notebook):
    with pytest.raises(RuntimeError):
        fit(SMALL, data, recipe.replace(lr=1e9))
    assert notebook.shown[-1] == {"text/plain": "", "text/html": ""}


def test_no_notebook_here():
    assert not progress.in_notebook()
