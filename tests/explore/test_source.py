"""``source``: the right lines of the right file, as text and as a figure."""

import __future__

import re
import sys
from functools import partial, wraps
from html import unescape
from types import ModuleType

import pytest
import torch
from torch import nn

import cnnlib
from cnnlib import explore, models
from cnnlib.errors import CnnlibError
from cnnlib.models import card, registry, resnet
from cnnlib.models.resnet import ResidualBlock, conv3x3


def caption(shown) -> str:
    return unescape(re.search(r"<figcaption>(.*)</figcaption>", shown.html)[1])


def lines_of_resnet(first: int, last: int) -> str:
    with open(resnet.__file__, encoding="utf-8") as file:
        return "".join(file.readlines()[first - 1 : last])


@pytest.mark.parametrize(
    "obj",
    [ResidualBlock, ResidualBlock(4, 4), conv3x3, partial(conv3x3, 3)],
    ids=["class", "instance", "function", "partial"],
)
def test_classes_functions_and_instances(obj):
    shown = cnnlib.source(obj)
    first, last = re.fullmatch(r"cnnlib/models/resnet\.py, lines (\d+)-(\d+)", caption(shown)).groups()
    assert str(shown) == lines_of_resnet(int(first), int(last))
    assert str(shown).startswith(("class ResidualBlock(nn.Module):", "def conv3x3("))


def test_methods_are_moved_to_the_margin():
    assert str(explore.source(ResidualBlock.forward)).startswith("def forward(self, x: Tensor) -> Tensor:\n    return ")


def test_a_decorated_function_is_the_one_below_the_decorator():
    @wraps(conv3x3)
    def decorated(*arguments):
        return conv3x3(*arguments)

    assert cnnlib.source(decorated) == cnnlib.source(conv3x3)


def test_modules_and_packages():
    shown = cnnlib.source(resnet)
    count = str(shown).count("\n")
    assert str(shown) == lines_of_resnet(1, count)
    assert caption(shown) == f"cnnlib/models/resnet.py, lines 1-{count}"
    assert caption(cnnlib.source(models)).startswith("cnnlib/models/__init__.py, lines 1-")
    assert caption(cnnlib.source(nn.Conv2d)).startswith("torch/nn/modules/conv.py, lines ")


def test_a_model_is_what_its_file_says_of_it():
    shown = cnnlib.source("ResNet20")
    defined = set(re.findall(r"^(?:def|class) (\w+)", str(shown), re.MULTILINE))
    assert {"cifar_resnet", "ResNet", "ResidualBlock", "PadShortcut", "cifar_stem"} <= defined
    assert not {"PlainBlock", "bottleneck", "imagenet_stem", "_paper"} & defined
    assert "\nSHORTCUTS = {" in str(shown)
    assert "\nfrom collections.abc import Callable, Sequence\nfrom functools import partial\n" in str(shown)
    assert "CIFAR_COUNTS" not in str(shown)
    assert caption(shown).startswith("resnet20 is cifar_resnet(20): cnnlib/models/resnet.py, lines ")
    ranges = re.findall(r"(\d+)(?:-(\d+))?(?:, |$)", caption(shown).partition(" lines ")[2])
    parts = [lines_of_resnet(int(first), int(last or first)) for first, last in ranges]
    assert str(shown) == "\n\n".join(parts)
    assert not any(part.startswith("\n") for part in parts)


def test_arguments_have_the_names_that_the_file_gives_them():
    assert caption(cnnlib.source("vgg16")).startswith("vgg16 is VGG(D): ")
    assert "\nD = (" in str(cnnlib.source("vgg16"))
    assert "\nE = (" not in str(cnnlib.source("vgg16"))
    assert caption(cnnlib.source("alexnet")).startswith("alexnet is AlexNet(): ")


def test_a_table_of_another_file_is_shown():
    shown = cnnlib.source("nasnet-a-cifar-6-768")
    assert "(NASNET_A, " in caption(shown)
    assert re.search(r"cnnlib/models/cells\.py, lines .*; cnnlib/models/nasnet\.py, lines ", caption(shown))
    assert "\nNASNET_A = Genotype(" in str(shown)


def test_parts_of_a_model_may_be_in_several_files(monkeypatch):
    monkeypatch.setattr(registry, "_CARDS", dict(registry._CARDS))
    build = partial(models.vgg.VGG, models.vgg.A, partial(conv3x3, 3), nn.ReLU, dropout=0.1)
    models.register("mixed", build, paper=resnet.PAPER, input_size=(3, 8, 8), parameters=1)
    said = caption(cnnlib.source("mixed"))
    assert said.startswith("mixed is VGG(A, partial(conv3x3, 3), ReLU, dropout=0.1): cnnlib/models/vgg.py, lines ")
    assert "; cnnlib/models/resnet.py, lines " in said
    assert "\ndef conv3x3(" in str(cnnlib.source("mixed"))


def one_name_for_each_file() -> list[str]:
    names = {}
    for name in cnnlib.available():
        build = card(name).build
        names.setdefault((build.func if isinstance(build, partial) else build).__module__, name)
    return [*names.values()]


@pytest.mark.parametrize("name", one_name_for_each_file())
def test_what_is_shown_builds_the_model(name, monkeypatch):
    """Executed alone it gives a network of the same size."""
    model = card(name)
    build = model.build if isinstance(model.build, partial) else partial(model.build)
    shown = ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", shown)
    flags = __future__.annotations.compiler_flag
    exec(compile(str(cnnlib.source(name)), name, "exec", flags), vars(shown))
    with torch.device("meta"):
        network = getattr(shown, build.func.__name__)(*build.args, **build.keywords)
    assert sum(parameter.numel() for parameter in network.parameters()) == model.parameters


def test_unknown_names_are_errors_of_the_registry():
    with pytest.raises(models.UnknownModel, match=r"did you mean .*resnet20"):
        cnnlib.source("resnet21")


def typed_in(code: str, name: str):
    namespace = {"__name__": "__main__"}
    exec(code, namespace)
    return namespace[name]


@pytest.mark.parametrize(
    ("obj", "name"),
    [
        (len, "len"),
        (int, "int"),
        (3, "int"),
        (typed_in("def f(): pass", "f"), "f"),
        (typed_in("class A: pass", "A"), "A"),
        (typed_in("class A: pass", "A")(), "A"),
        (__import__("sys"), "sys"),
    ],
)
def test_without_a_file_there_is_one_clear_error(obj, name):
    with pytest.raises(CnnlibError, match=rf"^the source of {name} is in no file: it is built in, or"):
        cnnlib.source(obj)


def smaller(a: int, b: int) -> bool:
    return a < b & 3


def test_the_figure_has_the_code_and_escapes_it():
    assert "a &lt; b &amp; " in cnnlib.source(smaller).html
    html = cnnlib.source(resnet).html
    pre = re.search(r"<pre>(.*)</pre>", html, re.DOTALL)[1]
    assert unescape(re.sub(r"</?span[^>]*>", "", pre)) == str(cnnlib.source(resnet))
    assert '<span class="d">ResidualBlock</span>' in pre
    assert '<span class="k">class</span>' in pre
    assert '<span class="m">1</span>' in pre
    assert not re.search('<span class="[npw]">', pre), "the book takes these away"
    assert re.search(r'<span class="s">&quot;&quot;&quot;A plain block', pre)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_in_a_browser(open_page, theme):
    """On a phone the code scrolls by keyboard, the page does not; it is legible in both themes."""
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(cnnlib.source("resnet20").html, theme=theme, width=390)
    frame = page.locator("figure .cnn-scroll")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    frame.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("box => box.scrollLeft > 0 && box.scrollTop > 0", arg=frame.element_handle())
    faults = [fault for fault in Axe().run(page).response["violations"] if fault["impact"] in ("serious", "critical")]
    assert faults == []
