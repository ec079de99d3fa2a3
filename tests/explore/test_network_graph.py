"""The cards of a drawing are the network: every module appears, branches are branches, shapes are right."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import densenet121, googlenet, resnet18
from torchvision.models.googlenet import Inception

from cnnlib.explore.drawing import in_words, weak_edges
from cnnlib.explore.graph import Card, NotDrawable, network_graph
from cnnlib.measure import BadArgument, DoesNotFit
from cnnlib.models import create


class Residual(nn.Module):
    def __init__(self, channels: int = 8, out: int = 8, stride: int | tuple[int, int] = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.shortcut = nn.Conv2d(channels, out, 1, stride=stride) if stride != 1 else nn.Identity()

    def forward(self, x):
        return self.relu2(self.shortcut(x) + self.conv2(self.relu1(self.bn1(self.conv1(x)))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.stages = nn.Sequential(Residual(), Residual(), Residual(), Residual(8, 16, 2))
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(self.stages(self.stem(x)).mean((2, 3)))


def leaves(net: nn.Module) -> set[str]:
    return {
        name
        for name, module in net.named_modules()
        if not any(module.children()) and not isinstance(module, nn.Identity)
    }


def edges_of(cards: list[Card]) -> list[tuple[int, int]]:
    return [(source, target) for target, card in enumerate(cards) for source in card.sources]


@pytest.mark.parametrize(
    ("net", "size"),
    [
        (Residual(), (8, 16, 16)),
        (Residual(8, 16, 2), (8, 16, 16)),
        (Inception(16, 8, 8, 8, 8, 8, 8), (16, 8, 8)),
        (densenet121().features.denseblock1, (64, 8, 8)),
        (resnet18(), (3, 64, 64)),
        (create("lenet5"), (1, 32, 32)),
        (create("alexnet-cifar"), (3, 32, 32)),
        (create("resnet20"), (3, 32, 32)),
    ],
)
def test_every_module_appears_once_and_shapes_are_right(net, size):
    cards = network_graph(net, size)
    drawn = [name for card in cards for name in card.modules]
    assert set(drawn) == leaves(net)
    shapes = {}
    for name, module in net.named_modules():
        module.register_forward_hook(lambda _, __, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    with torch.no_grad():
        out = net.eval()(torch.zeros(1, *size))
    for card in cards:
        if card.modules and "flatten" not in card.details:
            assert card.shape == shapes[card.modules[-1]], card
    assert cards[0].kind == "input"
    assert cards[0].shape == size
    assert cards[-1].kind == "output"
    assert cards[-1].shape == tuple(out.shape[1:])
    for index, card in enumerate(cards):
        assert all(source < index for source in card.sources)


def test_what_follows_a_layer_is_written_on_its_card():
    cards = network_graph(Residual(), (8, 16, 16))
    assert [(card.kind, card.title, card.details) for card in cards] == [
        ("input", "input", []),
        ("conv", "3×3 conv, 8", ["BN", "ReLU"]),
        ("conv", "3×3 conv, 8", []),
        ("add", "+", []),
        ("step", "ReLU", []),
        ("output", "output", []),
    ]
    assert sorted(cards[3].sources) == [0, 2]


def test_what_two_readers_share_stays_apart():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            y = self.conv(x)
            return torch.cat([y, F.relu(y)], 1)

    cards = network_graph(Shared(), (3, 8, 8))
    assert [card.title for card in cards] == ["input", "3×3 conv, 4", "ReLU", "concat", "output"]


def test_geometry_of_layers_is_named():
    net = nn.Sequential(
        nn.Conv2d(8, 8, (1, 7), groups=8),
        nn.Conv2d(8, 16, 3, stride=2, groups=2, padding=2, dilation=2),
        nn.ConvTranspose2d(16, 4, 2, stride=2),
        nn.Conv2d(4, 4, 3, stride=(1, 2), padding=(2, 1), dilation=(2, 1)),
        nn.MaxPool2d(3, 2),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
        nn.Dropout(0.25),
    )
    titles = [card.title for card in network_graph(net, (8, 40, 40))][1:-1]
    assert titles == [
        "1×7 conv, 8, depthwise",
        "3×3 conv, 16, /2, 2 groups, dilation 2",
        "2×2 transposed conv, 4, /2",
        "3×3 conv, 4, /1×2, dilation 2×1",
        "3×3 max pool, /2",
        "2×2 average pool, /2",
        "global average pool",
        "fully connected, 5",
    ]


def test_functions_are_named_like_modules():
    class Functional(nn.Module):
        def forward(self, x):
            x = F.relu(F.max_pool2d(x, 3, stride=2))
            x = F.avg_pool2d(x, kernel_size=2) * 2 + 1
            x = F.pad(x, (0, 0, 0, 0, 0, 5))
            a, b = x.chunk(2, 1)
            x = F.adaptive_avg_pool2d(torch.sigmoid(a) * b - b, 1)
            return torch.flatten(F.dropout(x, 0.5), 1)

    cards = network_graph(Functional(), (3, 16, 16))
    assert [(card.title, *card.details) for card in cards] == [
        ("input",),
        ("3×3 max pool, /2", "ReLU"),
        ("2×2 average pool, /2", "× 2", "shift"),
        ("zero maps up to 8",),
        ("split",),
        ("Sigmoid",),
        ("×",),
        ("−",),
        ("global average pool", "dropout", "flatten"),
        ("output",),
    ]


def test_factors_are_written_as_they_are_known():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, x):
            return x + 1 / 6 * x.relu() + 0.17 * x.sigmoid() + x.tanh() * self.gain

    details = [card.details[-1] for card in network_graph(Scaled(), (3, 4, 4)) if card.details]
    assert details == ["× 1/6", "× 0.17", "scale"]


def test_depth_draws_blocks_as_cards_and_repeats_once():
    cards = network_graph(Net(), (3, 32, 32), depth=1)
    assert [(card.kind, card.title, card.repeat) for card in cards] == [
        ("input", "input", 1),
        ("conv", "3×3 conv, 8", 1),
        ("block", "Residual, 8", 3),
        ("block", "Residual, 16, /2", 1),
        ("pool", "global average pool", 1),
        ("linear", "fully connected, 10", 1),
        ("output", "output", 1),
    ]
    assert cards[2].modules == ["stages.0", "stages.1", "stages.2"]
    assert len(network_graph(Net(), (3, 32, 32), depth=2)) == len(network_graph(Net(), (3, 32, 32)))


@pytest.mark.parametrize(
    ("side", "stride", "words"),
    [
        *((side, 2, ", /2") for side in (299, 75, 9, 5, 3, 2)),
        *((side, 1, "") for side in (299, 8, 1)),
        *((side, 4, ", /4") for side in (223, 33, 32)),
        (15, (2, 1), ", /2×1"),
        (16, (1, 2), ", /1×2"),
    ],
)
def test_the_stride_of_a_block_is_named_on_maps_of_any_size(side, stride, words):
    _, block, _ = network_graph(nn.Sequential(Residual(8, 8, stride)), (8, side, side), depth=1)
    assert block.title == f"Residual, 8{words}"


@pytest.mark.parametrize(("resize", "after"), [(nn.ZeroPad2d(-2), 6), (nn.Upsample(scale_factor=2), 20)])
def test_a_block_that_trims_or_enlarges_its_maps_has_no_stride(resize, after):
    class Block(nn.Sequential):
        pass

    block = Block(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), resize)
    _, card, _ = network_graph(nn.Sequential(block), (8, 10, 10), depth=1)
    assert (card.title, card.shape) == ("Block, 8", (8, after, after))


def test_a_block_that_puts_out_several_maps_has_no_one_size():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.other = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)

        def forward(self, x):
            return self.conv(x), self.other(self.conv(x))

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.two, self.last = Two(), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            first, _ = self.two(x)
            return self.last(first)

    assert [card.title for card in network_graph(Both(), (3, 8, 8), depth=1)][1:-1] == ["Two", "1×1 conv, 4"]


def test_units_of_one_convolution_are_no_level():
    cards = network_graph(googlenet(init_weights=False), (3, 64, 64), depth=1)
    assert cards[1].title == "7×7 conv, 64, /2"
    assert cards[1].details == ["BN", "ReLU"]
    assert sum(card.kind == "block" for card in cards) == 8  # nine modules, of which two are alike


def test_repeats_with_another_input_are_not_repeats():
    net = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    assert [(card.title, card.repeat) for card in network_graph(net, (8,))][1:-1] == [
        ("fully connected, 4", 1),
        ("fully connected, 4", 2),
    ]


def test_repeats_that_something_else_reads_are_not_repeats():
    class Ladder(nn.Module):
        def __init__(self):
            super().__init__()
            self.steps = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3))

        def forward(self, x):
            a = self.steps[0](x)
            b = self.steps[1](a)
            return a + self.steps[2](b)

    assert [card.repeat for card in network_graph(Ladder(), (3, 8, 8))] == [1, 1, 2, 1, 1]


def test_closed_classes_are_one_card():
    cards = network_graph(Net(), (3, 32, 32), closed=(Residual,))
    assert [card.title for card in cards if card.kind == "block"] == ["Residual, 8", "Residual, 16, /2"]


def test_size_checks_and_identities_are_not_drawn():
    titles = [card.title for card in network_graph(create("alexnet"), (3, 227, 227))]
    assert len(titles) == 13
    assert not any("require" in title for title in titles)


@pytest.mark.parametrize(("p", "drawn"), [(0.0, ""), (0.3, " + dropout 0.3")])
def test_dropout_that_drops_nothing_is_not_drawn(p, drawn):
    words = in_words(network_graph(nn.Sequential(nn.Linear(4, 8), nn.Dropout(p)), (4,)))
    assert words == f"input (4), then fully connected, 8{drawn} (8), then output (8)."


def test_network_that_cannot_be_traced_says_what_to_do():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(NotDrawable, match=r"Branching.*must not branch.*Draw its blocks"):
        network_graph(Branching(), (3, 8, 8))


@pytest.mark.parametrize("closed", [("Residual",), "Residual", [Residual], (Residual, None)])
def test_what_is_no_class_cannot_be_closed(closed):
    with pytest.raises(BadArgument, match="closed must hold classes"):
        network_graph(Residual(), (8, 16, 16), closed=closed)


def test_input_that_does_not_fit_is_measures_error():
    with pytest.raises(DoesNotFit, match="5x5"):
        network_graph(nn.Sequential(nn.Conv2d(3, 4, 5)), (3, 4, 4))


def test_the_model_is_left_as_it_was():
    net = Residual().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    network_graph(net, (8, 16, 16))
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_identity_and_projection_are_the_shortcuts():
    cards = network_graph(Residual(), (8, 16, 16))
    edges = edges_of(cards)
    assert [edge for edge, weak in zip(edges, weak_edges(cards, edges), strict=True) if weak] == [(0, 3)]

    cards = network_graph(Residual(8, 16, 2), (8, 16, 16))
    edges = edges_of(cards)
    shortcut = next(index for index, card in enumerate(cards) if card.modules == ["shortcut"])
    join = next(index for index, card in enumerate(cards) if card.kind == "add")
    weak = {edge for edge, weak in zip(edges, weak_edges(cards, edges), strict=True) if weak}
    assert weak == {(0, shortcut), (shortcut, join)}


def test_what_a_dense_layer_passes_on_is_a_shortcut():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return torch.cat([x, self.conv(x)], 1)

    cards = network_graph(Dense(), (3, 8, 8))
    assert dict(zip(edges_of(cards), weak_edges(cards, edges_of(cards)), strict=True)) == {
        (0, 1): False,
        (0, 2): True,
        (1, 2): False,
        (2, 3): False,
    }


def test_parallel_branches_are_no_shortcuts():
    cards = network_graph(Inception(16, 8, 8, 8, 8, 8, 8), (16, 8, 8))
    assert not any(weak_edges(cards, edges_of(cards)))


def test_words_name_branches_and_their_end():
    words = in_words(network_graph(Inception(16, 8, 8, 8, 8, 8, 8), (16, 8, 8)))
    assert "then 4 branches (branch 1: 1×1 conv, 8 + BN + ReLU (8×8×8);" in words
    assert (
        "branch 4: 3×3 max pool (16×8×8), then 1×1 conv, 8 + BN + ReLU (8×8×8)), then concatenation (32×8×8)" in words
    )
    words = in_words(network_graph(Residual(), (8, 16, 16)))
    assert "branch 2: the shortcut, unchanged" in words or "branch 1: the shortcut, unchanged" in words
    assert words.endswith("then addition (8×16×16), then ReLU (8×16×16), then output (8×16×16).")


def test_words_of_branches_in_no_order_say_what_reads_what():
    cards = network_graph(densenet121().features.denseblock1, (64, 8, 8))
    words = in_words(cards)
    assert words.startswith("(1) input (64×8×8); (2) BN + ReLU (64×8×8) of (1);")
    assert words.count(";") == len(cards) - 1


def test_two_towers_have_two_columns_that_meet():
    words = in_words(network_graph(create("alexnet-two-towers"), (3, 227, 227)))
    assert words.count("2 branches") == 4
    assert words.count("concatenation") == 4


@pytest.mark.parametrize("depth", [0, "1", 1.5])
def test_levels_are_counted(depth):
    with pytest.raises(BadArgument, match="depth must be"):
        network_graph(nn.Conv2d(3, 4, 3), (3, 8, 8), depth=depth)
