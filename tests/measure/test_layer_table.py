"""The layer table against hand counts, torchinfo and published totals."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
import torch
import torchinfo
import torchvision
from torch import nn
from torch.nn import functional as F

import cnnlib
from cnnlib.measure import (
    BadArgument,
    DoesNotFit,
    UnknownLayer,
    activation_bytes,
    count_parameters,
    layer_table,
    multiply_adds,
    receptive_field,
)
from cnnlib.models.layers import InputTooSmall

IMAGENET = (3, 224, 224)


def on_meta(name: str, **options) -> nn.Module:
    with torch.device("meta"):
        return getattr(torchvision.models, name)(**options)


@pytest.mark.parametrize(
    ("net", "parameters", "madds"),
    [
        (on_meta("alexnet"), 61_100_840, 714_188_480),
        (on_meta("vgg16"), 138_357_544, 15_470_264_320),
        (on_meta("resnet50"), 25_557_032, 4_089_184_256),
        (on_meta("mobilenet_v2"), 3_504_872, 300_774_272),
        (on_meta("densenet121"), 7_978_856, 2_834_161_664),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_published_totals(net, parameters, madds):
    """Counts of torchvision's own model pages, in the papers' convention."""
    table = layer_table(net, IMAGENET)
    assert (table.total.parameters, table.total.multiply_adds) == (parameters, madds)
    assert (count_parameters(net), multiply_adds(net, IMAGENET)) == (parameters, madds)
    assert activation_bytes(net, IMAGENET) == table.total.activation_bytes
    assert table.output_shape == (1000,)


def test_alexnet_of_2012_row_by_row():
    table = layer_table(cnnlib.create("alexnet"), (3, 227, 227))
    (conv2,) = (row for row in table if row.name.endswith("conv2"))
    assert conv2.output_shape == (256, 27, 27)
    assert conv2.parameters == 5 * 5 * (96 // 2) * 256 + 256
    assert conv2.multiply_adds == 27 * 27 * 256 * 5 * 5 * (96 // 2)
    assert conv2.activation_bytes == 27 * 27 * 256 * 4
    assert (conv2.receptive_field, conv2.stride) == (51, 8)
    assert table.total.parameters == 60_965_224
    assert table.total.multiply_adds == 724_406_816


def test_every_row_agrees_with_torchinfo():
    net = on_meta("googlenet", init_weights=False, aux_logits=False)
    layers = [
        info
        for info in torchinfo.summary(net, input_data=torch.empty(1, *IMAGENET, device="meta"), verbose=0).summary_list
        if info.is_leaf_layer
    ]
    rows = [row for row in layer_table(net, IMAGENET) if row.kind != "Inception"]  # they concatenate
    assert [(row.kind, row.output_shape, row.parameters) for row in rows] == [
        (info.class_name, tuple(info.output_size[1:]), info.num_params) for info in layers
    ]


def test_multiply_adds_are_those_of_convolutions_and_products_without_biases():
    net = nn.Sequential(
        nn.Conv2d(4, 6, (3, 5), padding=1, groups=2),
        nn.BatchNorm2d(6),
        nn.LocalResponseNorm(3),
        nn.ConvTranspose2d(6, 5, 3, stride=2),
        nn.Flatten(),
        nn.Linear(5 * 21 * 17, 7),
    )
    conv, norm, lrn, transposed, flatten, linear = layer_table(net, (4, 10, 10))
    assert conv.output_shape == (6, 10, 8)
    assert conv.multiply_adds == 10 * 8 * 6 * 3 * 5 * 2
    assert conv.parameters == 6 * 3 * 5 * 2 + 6
    assert (norm.parameters, norm.multiply_adds) == (12, 0)
    assert (lrn.parameters, lrn.multiply_adds) == (0, 0)
    assert transposed.multiply_adds == 10 * 8 * 6 * 3 * 3 * 5
    assert flatten.activation_bytes == 0
    assert (linear.output_shape, linear.multiply_adds, linear.parameters) == (
        (7,),
        5 * 21 * 17 * 7,
        5 * 21 * 17 * 7 + 7,
    )


def test_memory_counts_new_values_only():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.ReLU(inplace=True), nn.Dropout(), nn.Identity(), nn.Flatten())
    values = 2 * 6 * 6
    assert [row.activation_bytes for row in layer_table(net, (1, 8, 8))] == [4 * values, 4 * values, 0, 0, 0, 0]
    assert layer_table(net.double(), (1, 8, 8))["0"].activation_bytes == 4 * values


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        (lambda y: y.chunk(2, 1), 4),
        (lambda y: (y, y), 4),
        (lambda y: {"all": y, "part": y[:, :1]}, 4),
        (lambda y: (y[:, :1], y + 1), 1 + 4),
    ],
)
def test_views_of_one_new_block_count_together_and_no_value_twice(answer, values):
    class Views(nn.Module):
        def forward(self, x):
            return answer(x * 2)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.views = Views()

        def forward(self, x):
            self.views(x)
            return x

    assert layer_table(Net(), (4, 8, 8))["views"].activation_bytes == 4 * 64 * values
    assert activation_bytes(Net(), (4, 8, 8)) == 4 * 64 * values


def test_a_module_that_is_called_three_times_has_three_rows():
    table = layer_table(on_meta("resnet50"), IMAGENET)
    calls = [row for row in table if row.name == "layer2.0.relu"]
    assert [(row.output_shape, row.receptive_field, row.stride) for row in calls] == [
        ((128, 56, 56), 35, 4),
        ((128, 28, 28), 43, 8),
        ((512, 28, 28), 43, 8),
    ]
    assert table["layer2.0.relu"] is calls[-1]


def test_a_call_on_a_constant_has_no_field_and_the_other_calls_keep_theirs():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Conv2d(3, 3, 3, padding=1)
            self.other = nn.Conv2d(3, 3, 5, padding=2)
            self.shift = Shift()
            self.constant = nn.Parameter(torch.randn(1, 3, 16, 16))

        def forward(self, x):
            return self.shared(self.constant) + self.shift(1) + self.shared(self.other(self.shift(x)))

    class Shift(nn.Module):
        def forward(self, x):
            return x + 1 if isinstance(x, torch.Tensor | torch.fx.Proxy) else torch.ones(())

    rows = [(row.name, row.receptive_field) for row in layer_table(Shared(), (3, 16, 16))]
    assert rows[:-1] == [("shared", None), ("shift", None), ("shift", 1), ("other", 5), ("shared", 7)]
    field = receptive_field(Shared(), (3, 16, 16))
    assert [row and row.size for row in field.calls["shared"]] == [None, 7]
    assert field["shared"].size == 7


def test_layers_that_see_the_whole_image_say_so():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    table = layer_table(net, (3, 16, 16))
    assert [row.sees_all for row in table] == [False, True, True, True]
    lines = str(table).splitlines()
    assert [line.split()[-2:] for line in lines if line[:1] in "0123"] == [["3", "1"], *[["all", "-"]] * 3]


class Functional(nn.Module):
    """Uses a parameter and a convolution of its own, besides a layer that shares its weight with another."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 3, 3, 3))
        self.first = nn.Conv2d(4, 4, 1, bias=False)
        self.second = nn.Conv2d(4, 4, 1)
        self.second.weight = self.first.weight
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(4, 1, 1))])
        self.auxiliary = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))

    def forward(self, x):
        x = F.conv2d(x, self.weight, padding=1)
        return self.second(self.first(x)) * self.scales[0]


def test_nothing_is_lost_and_nothing_counted_twice():
    net = Functional()
    table = layer_table(net, (3, 8, 8))
    assert [(row.name, row.parameters, row.multiply_adds, row.called) for row in table] == [
        ("first", 16, 8 * 8 * 16, True),
        ("second", 4, 8 * 8 * 16, True),
        ("forward", 4 * 3 * 9, 8 * 8 * 4 * 3 * 9, True),
        ("scales", 4, 0, False),
        ("auxiliary", 60, 0, False),
    ]
    assert table.total.parameters == count_parameters(net) == sum(p.numel() for p in net.parameters())
    assert table["forward"].activation_bytes == 4 * 4 * 8 * 8  # the product
    assert "not called" in str(table)


def test_auxiliary_classifiers_are_counted_but_not_called():
    table = layer_table(on_meta("googlenet", init_weights=False), IMAGENET)
    assert table.total.parameters == 13_004_888
    assert [(row.name, row.parameters) for row in table if not row.called] == [("aux1", 3_188_968), ("aux2", 3_191_016)]


def test_depth_folds_layers_into_the_modules_that_call_them():
    net = on_meta("resnet50")
    full, stages, blocks = (layer_table(net, IMAGENET, depth=depth) for depth in (None, 1, 2))
    assert [row.name for row in stages] == [
        *("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc")
    ]
    assert stages["layer4"].output_shape == (2048, 7, 7)
    assert (stages["layer4"].receptive_field, stages["layer4"].stride) == (427, 32)
    assert stages["layer1"].parameters == sum(p.numel() for p in net.layer1.parameters())
    assert len(blocks) == 6 + 3 + 4 + 6 + 3
    assert full.total == stages.total == blocks.total
    with pytest.raises(BadArgument, match="depth"):
        layer_table(net, IMAGENET, depth=0)


def test_modules_in_a_list_are_not_lost_by_depth():
    towers = layer_table(cnnlib.create("alexnet-two-towers"), (3, 227, 227), depth=1)
    assert towers.total.parameters == 60_965_224
    assert towers["conv12.1"].output_shape == (128, 13, 13)


def test_networks_that_fx_cannot_trace_have_a_table_without_fields():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            if x.shape[-1] % 2:
                raise ValueError("odd")
            return self.conv(x)

    table = layer_table(Branching(), (3, 8, 8))
    assert (table["conv"].receptive_field, table["conv"].stride) == (None, None)
    assert "No receptive fields: torch.fx cannot trace Branching" in str(table)
    with pytest.raises(DoesNotFit, match="3x9x9: odd; the smallest square input that it takes is 4x4"):
        layer_table(Branching(), (3, 9, 9))


def test_vectors_are_inputs_too():
    table = layer_table(nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3)), (10,))
    assert [row.multiply_adds for row in table] == [200, 0, 60]
    assert [row.receptive_field for row in table] == [None] * 3


class Attention(nn.Module):
    """Attention of all places of an image to all others; it runs without data unless it ``reads_values``."""

    def __init__(self, reads_values):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.reads_values = reads_values

    def forward(self, x):
        if self.reads_values:
            float(x.sum())
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


@pytest.mark.parametrize("reads_values", [False, True])
def test_the_products_of_attention_count(reads_values):
    fast = torch.backends.mha.get_fastpath_enabled()
    places = 4 * 4
    expected = 4 * places * 8 * 8 + 2 * places * places * 8  # four projections, then queries by keys and by values
    assert multiply_adds(Attention(reads_values), (8, 4, 4)) == expected
    assert layer_table(Attention(reads_values), (8, 4, 4)).total.multiply_adds == expected
    assert torch.backends.mha.get_fastpath_enabled() == fast


def operands(tokens, *shapes):
    return [tokens.new_ones(shape) for shape in shapes]


@pytest.mark.parametrize(
    ("product", "expected"),
    [
        (lambda tokens, query: tokens[0] @ query, 16 * 8),
        (lambda tokens, query: torch.addmv(query.new_zeros(16), tokens[0], query), 16 * 8),
        (lambda tokens, query: tokens[0, 0] @ query, 8),
        (lambda tokens, query: torch.vdot(tokens[0, 0], query), 8),
        (lambda tokens, query: torch.addbmm(query.new_zeros(5, 4), *operands(tokens, (2, 5, 8), (2, 8, 4))), 2 * 160),
        (lambda tokens, query: F.bilinear(tokens, tokens, query.new_ones(5, 8, 8)), 16 * 5 * 8 * 8),
    ],
    ids=["mv", "addmv", "dot", "vdot", "addbmm", "bilinear"],
)
def test_products_that_pytorchs_counter_does_not_know_count(product, expected):
    class Query(nn.Module):
        def __init__(self):
            super().__init__()
            self.query = nn.Parameter(torch.ones(8))

        def forward(self, x):
            return product(x.flatten(2).transpose(1, 2), self.query)

    assert multiply_adds(Query(), (8, 4, 4)) == expected


@pytest.mark.filterwarnings("error")
def test_the_products_of_a_recurrent_layer_count_with_data_too():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 8, batch_first=True)

        def forward(self, x):
            float(x.sum())  # needs data
            return self.lstm(x)[0]

    enabled = torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
    assert multiply_adds(Recurrent(), (10, 3)) == 10 * 4 * 8 * (3 + 8)
    assert (torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled) == enabled


def test_a_single_layer():
    (row,) = layer_table(nn.Conv2d(3, 8, 3), (3, 8, 8))
    assert (row.name, row.kind, row.receptive_field) == ("forward", "Conv2d", 3)


def test_sizes_that_do_not_fit():
    with pytest.raises(DoesNotFit, match=r"AlexNet does not take an input of 3x32x32.*it takes is 63x63"):
        layer_table(on_meta("alexnet"), (3, 32, 32))
    with pytest.raises(InputTooSmall, match="at least 67x67"):
        layer_table(cnnlib.create("alexnet"), (3, 32, 32))
    with pytest.raises(DoesNotFit, match="without the batch"):
        multiply_adds(on_meta("alexnet"), (1, *IMAGENET))
    with pytest.raises(
        DoesNotFit, match=r"expected input\[1, 1, 9, 9\] to have 3 channels, but got 1 channels instead$"
    ):
        layer_table(nn.Conv2d(3, 4, 3), (1, 9, 9))
    with pytest.raises(BadArgument, match="shape of one image"):
        layer_table(on_meta("alexnet"), (3, 0, 32))


def test_an_unknown_layer_is_answered_with_near_names():
    with pytest.raises(UnknownLayer, match=r"no layer 'feature\.0'; the nearest names are 'features\.0'"):
        layer_table(on_meta("alexnet"), IMAGENET)["feature.0"]


def test_text_fits_a_terminal():
    """GoogLeNet has long names: they lose their beginning, kinds of layers their end, numbers nothing."""
    lines = str(layer_table(on_meta("googlenet", init_weights=False), IMAGENET)).splitlines()
    assert max(map(len, lines)) == 100
    assert next(line for line in lines if "AdaptiveAvg… " in line).startswith("avgpool  ")
    assert next(line for line in lines if "tion5b.branch4.1.conv" in line).startswith("…")
    assert next(line for line in lines if line.startswith("total")).split() == [
        *("total", "GoogLeNet", "1000", "13,004,888", "1,498,376,192", "36,429.6", "-", "-")
    ]


def test_headings_stand_above_their_columns():
    lines = str(layer_table(nn.Sequential(nn.Conv2d(3, 8, 3)), (3, 8, 8))).splitlines()
    assert lines[1:6] == [
        "layer  kind        output  parameters  mult-adds  memory  field  stride",
        "                                                    (kB)   (px)    (px)",
        "-----------------------------------------------------------------------",
        "0      Conv2d       8x6x6         224      7,776     1.2      3       1",
        "-----------------------------------------------------------------------",
    ]


class Cells(HTMLParser):
    """Collects the tags of a table with their attributes, and the texts of its cells."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def test_html_is_a_table_that_can_be_read_aloud():
    table = layer_table(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), (3, 8, 8))
    page = Cells(table._repr_html_())
    heads = [attributes for tag, attributes in page.tags if tag == "th"]
    assert [head["scope"] for head in heads] == ["col"] * 8 + ["row"] * 3
    assert ("table", {"class": "cnn-table"}) in page.tags
    assert [tag for tag, _ in page.tags if tag in ("caption", "thead", "tbody", "tfoot")] == [
        *("caption", "thead", "tbody", "tfoot")
    ]
    assert {"memory (kB)", "field (px)", "stride (px)", "7,776"} <= set(page.texts)
    numbers = [attributes for tag, attributes in page.tags if tag == "td" and attributes.get("class") == "cnn-number"]
    assert len(numbers) == 3 * 6
    assert not re.search(r"#[0-9a-f]{3}|rgb|color", table._repr_html_())


def test_html_escapes_names():
    class Odd(nn.Module):
        def forward(self, x):
            return x * 2

    Odd.__name__ = "<b>"
    assert "<b>" not in layer_table(nn.Sequential(Odd()), (1, 4, 4))._repr_html_()


def test_a_number_is_no_name_of_a_layer_and_no_name_is_proposed_twice():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    for rows in (cnnlib.measure.layer_table(net, (3, 8, 8)), cnnlib.measure.receptive_field(net, (3, 8, 8))):
        with pytest.raises(UnknownLayer, match="no layer 10; the nearest names are") as error:
            rows[10]
        proposed = re.findall(r"'(.*?)'", str(error.value))
        assert proposed
        assert len(set(proposed)) == len(proposed)
