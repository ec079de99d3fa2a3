"""What tests of several areas share: Ctrl-C, the command line, and the browser for explorers and built pages."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator

import pytest
import torch

from cnnlib.__main__ import main

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Give every test the same random numbers, whatever ran before it in its process; fixtures come after this."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _listens_to_ctrl_c() -> Iterator[None]:
    """A command that it has stopped ignores it from then on, as does all that a shell has put into the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def cnn(data, monkeypatch, tmp_path, capsys) -> Callable[..., tuple[int, str, str]]:
    """Run a command in an empty folder on the area's ``data``; return its exit status and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cnnlib.data.load", lambda name, root=None, *, progress=True: data)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """A headless system Chromium with an empty profile, named by the environment variable CHROMIUM or found on PATH."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if path is None:
        pytest.skip("no Chromium here: none of " + ", ".join(CHROMIUM_NAMES) + " is on PATH and CHROMIUM is not set")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield chromium
        chromium.close()
