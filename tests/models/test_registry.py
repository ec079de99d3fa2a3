import argparse
import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from cnnlib import models
from cnnlib.errors import CnnlibError
from cnnlib.models import Paper, Published, available, card, cli, create, registry

PAPER = Paper("someone1999example", "An Example", "Someone", 1999)
FACTS = {"paper": PAPER, "input_size": (3, 8, 8), "parameters": 20}


@pytest.fixture
def own_names(monkeypatch):
    """Names registered by the test are forgotten after it."""
    monkeypatch.setattr(registry, "_CARDS", dict(registry._CARDS))


def test_create_builds_the_named_model():
    torch.manual_seed(0)
    assert isinstance(create("resnet20"), nn.Module)
    assert create("resnet20", num_classes=100)(torch.zeros(1, 3, 32, 32)).shape == (1, 100)


def test_names_forgive_case_and_underscores():
    assert card("LeNet5_1998") is card("lenet5-1998")


@pytest.mark.parametrize(("wrong", "near"), [("alexnt", "alexnet"), ("ResNet_21", "resnet20"), ("zf-net", "zfnet")])
def test_unknown_name_gives_the_nearest(wrong, near):
    with pytest.raises(models.UnknownModel, match=f"no model '{wrong}'; did you mean .*{near}") as caught:
        create(wrong)
    assert isinstance(caught.value, CnnlibError)


def test_names_that_begin_with_the_wanted_one_come_first():
    assert registry.nearest("ResNeXt50") == "did you mean resnext50-32x4d or res2next50 or resnet50?"
    assert registry.nearest("wrn-28") == "did you mean wrn-28-2 or wrn-28-10 or wrn-28-12?"


@pytest.mark.parametrize("name", ["??", ""])
def test_name_unlike_any_other_points_to_the_list(name):
    with pytest.raises(
        models.UnknownModel, match=re.escape(f"no model {name!r}; cnnlib.available() lists them all, as does")
    ):
        card(name)


@pytest.mark.parametrize("find", [create, card])
@pytest.mark.parametrize("name", [18, None])
def test_a_name_is_a_string(find, name):
    with pytest.raises(models.UnknownModel, match=f"a model's name is a string, not {name}"):
        find(name)


def test_wrong_option_lists_the_right_ones():
    with pytest.raises(
        models.BadOption, match="resnet20 has no option depth, shortcuts; it takes num_classes=10, shor"
    ):
        create("resnet20", shortcuts="B", depth=3)
    with pytest.raises(models.BadOption, match=r"activation=ReLU, dropout=0\.5"):
        create("alexnet-cifar", drop=0.1)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("resnet20", {"num_classes": -3}, "negative dimension -3"),
        ("resnet20", {"num_classes": 2.5}, "num_classes must be a whole number"),
        ("resnet20", {"num_classes": "10"}, "num_classes must be a whole number"),
        ("alexnet-cifar", {"dropout": 1.5}, "between 0 and 1, but got 1.5"),
        ("alexnet-cifar", {"activation": 3}, "activation must be a class, such as nn.Tanh"),
        ("se-resnet20", {"reduction": 2.5}, "reduction must be a whole number"),
        ("alexnet-cifar", {"activation": "Tanh"}, "activation must be a class, such as nn.Tanh"),
        ("alexnet-cifar", {"width": "abc"}, "width must be a number"),
        ("alexnet-cifar", {"dropout": True}, "dropout must be a number"),
        ("googlenet", {"auxiliary": "False"}, "auxiliary must be True or False"),  # true, as every text
        ("scaled-resnet", {"widths": 3}, "widths must be a list"),
        ("scaled-resnet", {"widths": ()}, "index out of range"),
        ("enas-micro", {"genotype": None}, "no attribute 'normal'"),
    ],
)
def test_a_value_that_makes_no_network_is_explained(name, options, reason):
    option, value = next(iter(options.items()))
    with pytest.raises(models.BadOption, match=rf"{name} cannot be built with {option}=.*{reason}") as caught:
        create(name, **options)
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_class_may_be_given_by_its_name():
    net = create("alexnet-cifar", width=0.125, activation="nn.Tanh")
    assert any(isinstance(module, nn.Tanh) for module in net.modules())
    assert not any(isinstance(module, nn.ReLU) for module in net.modules())
    with pytest.raises(models.BadOption, match=r"torch.nn has no 'Tahn'"):
        create("alexnet-cifar", activation="nn.Tahn")


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(
    ("name", "options", "empty"),
    [
        ("resnet20", {"num_classes": 0}, "fc.weight"),
        ("densenet121", {"stem_channels": 0}, "stem.conv.weight"),
        ("shufflenet-g3", {"stem_channels": 0}, "stem.conv.weight"),
        ("googlenet-cifar", {"width": 0.01}, "to_4a.inception3a.branch3.0.conv.weight"),
    ],
)
def test_a_layer_without_weights_is_refused(name, options, empty):
    with pytest.raises(models.BadOption, match=f"{name} cannot be built with .*: {empty} would hold no numbers"):
        create(name, **options)


@pytest.mark.parametrize("name", ["resnet20", "googlenet-cifar", "mobilenet-v1-cifar", "shufflenet-g3", "vgg11-cifar"])
@pytest.mark.parametrize("width", [0, -1])
def test_a_width_that_leaves_no_maps_is_refused(name, width):
    with pytest.raises(models.BadOption, match=f"width is a factor greater than 0, not {width}"):
        create(name, width=width)


@pytest.mark.parametrize(("name", "maps"), [("resnet20", 16), ("mobilenet-v1-cifar", 32), ("vgg11-cifar", 64)])
def test_a_width_that_rounds_to_no_maps_names_the_least(name, maps):
    with pytest.raises(models.BadOption, match=rf"width=0\.01 leaves no map of {maps}; the least is {1 / maps:g}"):
        create(name, width=0.01)
    assert create(name, width=1 / maps)


def test_each_stage_has_a_depth_and_a_width():
    with pytest.raises(models.BadOption, match=r"unlike in depths \(2, 2, 2\), widths \(1, 2\)"):
        create("scaled-resnet", widths=(1, 2))


def test_an_option_of_one_number_or_several_takes_both():
    several = create("stochastic-depth-20", survival=[0.8] * 9)
    assert [block.survival for stage in several.stages for block in stage] == [0.8] * 9
    assert create("stochastic-depth-20", survival=np.float32(0.5)).stages[2][2].survival == 0.5
    with pytest.raises(models.BadOption, match="dropout must be a number"):
        create("alexnet-cifar", dropout=[0.5])


@pytest.mark.parametrize(
    ("name", "option"),
    [("alexnet-cifar", "width"), ("mobilenet-v2", "width"), ("efficientnet-b0", "width"), ("efficientnet-b0", "depth")],
)
@pytest.mark.parametrize("factor", [0, -1, float("nan"), float("inf")])
def test_factors_are_positive_where_sizes_are_rounded_up(name, option, factor):
    with pytest.raises(models.BadOption, match=f"{option} is a factor greater than 0, not {factor}"):
        create(name, **{option: factor})


def test_errors_that_no_option_is_to_blame_for_are_left_alone(own_names):
    def fails(error: type[Exception], num_classes: int = 10) -> nn.Module:
        raise error("by itself")

    for number, error in enumerate((MemoryError, torch.OutOfMemoryError, OSError, ValueError)):
        models.register(f"example-{number}", partial(fails, error), **FACTS)
        with pytest.raises(error, match="by itself") as caught:
            create(f"example-{number}", **({} if error is ValueError else {"num_classes": 3}))
        assert type(caught.value) is error


def test_layers_of_a_size_to_be_inferred_are_no_empty_ones(own_names):
    models.register("example-1", lambda num_classes=10: nn.LazyLinear(num_classes), **FACTS)
    assert create("example-1", num_classes=3)(torch.zeros(1, 2)).shape == (1, 3)


def test_options_of_a_partial_show_what_it_binds():
    assert card("resnet20").options == {"num_classes": 10, "shortcut": "A", "width": 1.0, "last_gain": 1.0}
    assert card("zfnet-512-1024-512").options["widths"] == (512, 1024, 512)


def test_available_filters():
    assert available("alexnet") == ["alexnet", "alexnet-two-towers", "alexnet-cifar", "alexnet-torchvision"]
    assert available("ALEXNET*s") == ["alexnet-two-towers"]
    assert available("*resnet20") == ["resnet20", "se-resnet20"]
    assert set(available(family="ResNet", dataset="cifar-10")) >= {"resnet20", "plain110"}
    assert available(family="stochastic_depth") == available(family="stochastic-depth") != []
    assert available(5) == available("5")
    assert available(dataset="cifar10") == available(dataset="CIFAR-10")
    assert available(year=1998) == available(year="1998") == available("lenet*")
    assert available(family=3) == []
    assert available("lenet*", year=2012) == []


def test_available_is_ordered_by_year():
    years = [card(name).paper.year for name in available()]
    assert years == sorted(years)


def test_register_makes_a_name_known(own_names):
    models.register("example-1", partial(nn.Linear, 3), about="a line", **FACTS)
    assert "example-1" in available()
    assert card("example-1").family == "example"
    assert card("example-1").dataset == "ImageNet"
    assert card("example-1").published == ()
    assert card("example-1").headline is None


def test_a_name_is_registered_once(own_names):
    with pytest.raises(ValueError, match="two models are called 'alexnet'"):
        models.register("alexnet", nn.Linear, **FACTS)


@pytest.mark.parametrize("name", ["my_net", "MyNet", "7net", "", 3])
def test_a_name_is_one_that_is_found_again(own_names, name):
    with pytest.raises(models.BadOption, match=f"begins with a small letter and .* unlike {name!r}"):
        models.register(name, nn.Linear, **FACTS)


def test_what_makes_no_network_is_not_registered(own_names):
    with pytest.raises(models.BadOption, match="build must be a class or function that makes the network, not 3"):
        models.register("my-net", 3, **FACTS)


def test_headline_is_the_first_error_of_a_single_network(own_names):
    ensemble = Published("top-5 error", 3.0, "7 nets", "there", networks=7)
    single = Published("top-1 error", 20.0, "1 crop", "there", std=0.25)
    models.register("example-1", nn.Linear, published=[ensemble, single], **FACTS)
    assert card("example-1").headline is single


def test_pairs_of_errors_are_expanded_by_protocol_and_source():
    pair, one = ("1 crop", "there"), registry.torchvision_v1("VGG16")
    assert registry.top_errors({pair: (20.0, 5.0), one: (21.0,), ("10 crops", "there"): ()}, networks=2) == [
        Published("top-1 error", 20.0, "1 crop", "there", networks=2),
        Published("top-5 error", 5.0, "1 crop", "there", networks=2),
        Published("top-1 error", 21.0, "1 crop, validation", "torchvision, VGG16_Weights.IMAGENET1K_V1", networks=2),
    ]


def test_published_errors_on_cifar_are_given_in_pairs():
    here, there = ("1 run", "here"), ("rerun", "there")
    assert registry.cifar_errors({here: (5.0, 25.0), there: (6.0,), ("2 runs", "nowhere"): ()}) == [
        Published("test error", 5.0, *here, "CIFAR-10"),
        Published("test error", 25.0, *here, "CIFAR-100"),
        Published("test error", 6.0, *there, "CIFAR-10"),
    ]


def test_published_error_names_its_data_set_unless_that_is_said():
    error = Published("test error", 20.0, "1 crop", "there", "CIFAR-100", std=0.25)
    assert str(error) == "20 ± 0.25 % test error on CIFAR-100 (1 crop)"
    assert error.beside("CIFAR-100") == "20 ± 0.25 % test error (1 crop)"
    assert error.beside("CIFAR-10") == str(error)
    assert "26 % test error on CIFAR-100 (1 run): " in str(card("vgg16-cifar"))
    assert " on CIFAR-10 " not in str(card("vgg16-cifar"))


def test_card_reads_well():
    assert str(card("resnet20")).splitlines() == [
        "resnet20: 20 layers for 32x32 images, with shortcuts",
        "  He, Zhang, Ren and Sun 2015. Deep Residual Learning for Image Recognition.",
        "  CIFAR-10, input 3x32x32: 269,722 parameters, 40,551,040 multiply-adds",
        "  8.75 % test error (1 run): He et al. 2015, Table 6",
        "  8.27 % test error (rerun, best epoch on the test set): github.com/akamaster/pytorch_resnet_cifar10",
        "  7.4 % test error (rerun with shortcuts B): github.com/chenyaofo/pytorch-cifar-models",
        "  8.33 % test error (rerun with shortcuts B, 1 run): github.com/junyuseu/pytorch-cifar-models",
        "  8.74 % test error (rerun, batch 100, edge padding): github.com/techxzen/pytorch-residual-networks",
    ]


def run_command(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    cli.add_commands(parser.add_subparsers())
    options = parser.parse_args(["models", *arguments])
    options.run(options)


def test_command_prints_an_aligned_table(capsys):
    run_command("lenet*")
    caption, header, units, _, first, second = capsys.readouterr().out.splitlines()
    assert caption == "Models that match, oldest paper first: 2"
    assert header.split("  ")[0] == "name"
    assert units.split() == ["(millions)"]
    assert first.split() == [
        *("lenet5-1998", "1998", "MNIST", "1x32x32", "60,000", "0.33"),
        *("0.95", "%", "test", "error", "(no", "distortions)"),
    ]
    assert second.split() == ["lenet5", "1998", "MNIST", "1x32x32", "61,706", "0.42"]
    ends = [
        line.index(cell) + len(cell) for line, cell in ((header, "parameters"), (first, "60,000"), (second, "61,706"))
    ]
    assert len(set(ends)) == 1


def test_command_lists_every_model(capsys):
    run_command()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[4:]] == available()


def test_command_filters(capsys):
    run_command("--family", "lenet", "--dataset", "mnist", "--year", "1998")
    assert len(capsys.readouterr().out.splitlines()) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alexnt"], "no name matches 'alexnt'; did you mean .*alexnet"),
        (["--family", "alex"], "no model of family alex; there are .*alexnet, .*resnet"),
        (["--dataset", "imagnet"], "no model of data set imagnet; there are CIFAR-10, .*ImageNet"),
        (["--year", "2001"], "no model of year 2001; there are 1998, 2012"),
        (["lenet5", "--year", "2012"], "no model that matches 'lenet5' passes all the filters"),
    ],
)
def test_command_helps_where_nothing_matches(arguments, message):
    with pytest.raises(models.UnknownModel, match=message):
        run_command(*arguments)
