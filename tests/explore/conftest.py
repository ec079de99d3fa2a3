import pytest
from matplotlib.figure import Figure

import cnnlib  # noqa: F401 - before a test imports torchvision, which may need it beside this build of PyTorch


def page(body: str, theme: str = "light") -> str:
    """A page as the book makes it, with nothing but ``body`` in it."""
    return (
        f'<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8"><title>test</title>'
        '<meta name="viewport" content="width=device-width"></head>'
        f"<body><main><h1>Test</h1>{body}</main></body></html>"
    )


@pytest.fixture
def open_page(browser):
    """Open HTML as a page of its own; the test fails on an error of a script and on any request."""
    pages, errors = [], []

    def open_(body: str, *, theme: str = "light", width: int = 800, **options):
        tab = browser.new_page(viewport={"width": width, "height": 900}, **options)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        tab.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
        tab.set_content(page(body, theme))
        pages.append(tab)
        return tab

    yield open_
    for tab in pages:
        tab.close()
    assert not errors


@pytest.fixture
def line_figure():
    """A function of one number that draws it."""

    def draw(k: float) -> Figure:
        figure = Figure(figsize=(3, 2))
        figure.subplots().plot([0, 1, 2], [0, k, k * k], marker="o")
        return figure

    return draw
