"""The pages made from the package: all its public names, all its networks."""

import dataclasses
import importlib
import inspect

import pytest
from bs4 import BeautifulSoup
from cnnbook import api

import cnnlib
from cnnlib import models

PACKAGES = ("models", "measure", "data", "training", "studies", "explore")


def soup(html, page):
    return BeautifulSoup((html / "book" / f"{page}.html").read_text(encoding="utf-8"), "html.parser")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_an_entry(html, package):
    module = importlib.import_module(f"cnnlib.{package}")
    page = soup(html, f"api/{package}")
    entries = {entry["id"]: entry for entry in page.select("dt.sig[id]")}
    assert [name for name in api.public(module) if f"{module.__name__}.{name}" not in entries] == []
    for name, value in api.public(module).items():
        entry = entries[f"{module.__name__}.{name}"]
        assert entry.find_next_sibling("dd").text.strip(), f"{name} is not explained"
        if inspect.isclass(value) and dataclasses.is_dataclass(value):
            shown = [part.text for part in entry.select(".sig-param > .n:first-child")]
            assert shown == [field.name for field in dataclasses.fields(value) if field.init]


def test_every_name_of_the_package_itself_leads_to_its_entry(html):
    links = {link.text: link["href"] for link in soup(html, "api/cnnlib").select("article table a[href]")}
    assert links.keys() == {f"cnnlib.{name}" for name in cnnlib.__all__ if name != "__version__"}
    assert all("#cnnlib." in address for address in links.values())


def test_every_file_of_networks_has_a_section_on_one_page(html):
    pages = [soup(html, f"api/{page}") for page in ("networks-to-2016", "networks-since-2017")]
    sections = [heading.find(string=True) for page in pages for heading in page.select("article h2")]
    assert sections == [inspect.getdoc(module).partition(".")[0] for module in api.networks()]
    assert {models.resnet, models.vgg} <= {*api.networks()}
    entry = pages[0].find(id="cnnlib.models.resnet.cifar_resnet")
    assert entry.text.startswith(
        "\ncifar_resnet(depth, num_classes=10, shortcut='A', width=1.0, last_gain=1.0)[source]"
    ), "without types"


@pytest.mark.parametrize(
    ("target", "module", "within", "value"),
    [
        ("create", "cnnlib.models", None, models.create),
        ("headline", "cnnlib.models", "ModelCard", models.ModelCard.headline),
        ("int", "cnnlib.models", None, int),
        ("cnnlib.load_data", "cnnlib.training", None, cnnlib.load_data),
        ("collections.abc.Callable", "cnnlib.training", None, importlib.import_module("collections.abc").Callable),
        ("VGG", "cnnlib", None, models.vgg.VGG),
        ("no_such_name", "cnnlib.models", None, None),
        ("cnnlib.no_such_name", "cnnlib.models", "ModelCard", None),
    ],
)
def test_a_reference_is_to_something_that_exists(target, module, within, value):
    assert api.find(target, module, within) is value


@pytest.mark.parametrize(
    ("value", "signature"),
    [
        (models.densenet.DenseBlock, "(*args)"),
        (models.stochastic_depth.RescaledBlock, "(in_channels, out_channels, stride=1, "),
        (models.lenet.ScaledTanh, "()"),
    ],
)
def test_a_class_without_a_constructor_of_its_own_has_that_of_its_base(value, signature):
    shown, returns = api.shorten(None, "class", f"{value.__module__}.{value.__name__}", value, None, "(x: int)", "None")
    assert shown.startswith(signature)
    assert returns == ""


def test_first_sentence_is_markdown():
    assert api.first_sentence("Like :func:`~a.b`, with ``c``. And more.\n") == "Like `a.b`, with `c`."
    assert api.first_sentence("A single line.") == "A single line."
