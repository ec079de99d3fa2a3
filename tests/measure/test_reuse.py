"""The weights of a DenseNet by the source of what they multiply."""

import pytest
import torch
from torch import nn

from cnnlib.measure import BadArgument, source_weights
from cnnlib.models import create
from cnnlib.models.densenet import BottleneckLayer, DenseLayer, DenseNet, StemCIFAR


@pytest.fixture(params=[DenseLayer, BottleneckLayer])
def net(request):
    return DenseNet(3, (2, 2), 5, stem=StemCIFAR, stem_channels=4, layer=request.param, compression=0.5)


def test_each_reader_has_all_sources_before_it(net):
    first, second = source_weights(net)
    assert [len(row) for row in first.weights] == [1, 2, 3]
    assert [len(row) for row in second.with_gain] == [1, 2, 3]
    assert (first.block, second.block) == (1, 2)


def test_a_source_is_found_where_its_weights_are(net):
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.zero_()
        reader = net.blocks[0][1].conv1  # the second layer reads 4 maps of the stem and 3 of the first layer
        reader.conv.weight[:, 4:7] = -2.0
        reader.norm.weight[4:7] = -3.0  # a gain counts by its size, too
        net.blocks[1].conv.conv.weight[:, 7:10] = 1.0  # the transition, of the second layer's maps
        net.fc.weight[:, 8:11] = 0.5  # the classifier, of the second layer's maps in the second block
    first, second = source_weights(net)
    assert first.weights == ((0,), (0, 2), (0, 0, 1))
    assert first.with_gain == ((0,), (0, 6), (0, 0, 1))
    assert second.weights == ((0,), (0, 0), (0, 0, 0.5))


def test_the_sources_make_up_all_that_is_read():
    net = create("densenet-bc-52-12")
    blocks = source_weights(net)
    assert [len(block.weights) for block in blocks] == [9, 9, 9]
    mean = net.blocks[0][7].conv1.conv.weight.abs().mean().item()
    row = blocks[0].weights[7]
    assert (24 * row[0] + 12 * sum(row[1:])) / (24 + 7 * 12) == pytest.approx(mean)


def test_other_networks_are_refused():
    with pytest.raises(BadArgument, match=r"only a DenseNet.*Linear"):
        source_weights(nn.Linear(2, 2))
    with pytest.raises(BadArgument, match="DenseNet is on the device 'meta', without values"):
        source_weights(create("densenet-bc-52-12").to("meta"))
