"""The oracle is pytorchcv's ZFNet, after two changes where it is not the paper's.

It normalises before pooling (the paper's Figure 3: after), and with alpha = 1e-4 where PyTorch, which divides alpha by
the window of five, needs 5e-4.
"""

import torch
from pytorchcv.model_provider import get_model
from torch import nn

from cnnlib.models import create, layers
from cnnlib.models.zfnet import ZFNet


def like_figure_3(oracle: nn.Module) -> nn.Module:
    for stage in (oracle.features.stage1, oracle.features.stage2):
        stage.unit1.use_lrn = False
        stage.add_module("norm", nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0))
    return oracle


def test_is_pytorchcvs_net_in_the_order_of_figure_3(same_logits):
    same_logits(create("zfnet", num_classes=10), like_figure_3(get_model("zfnet", num_classes=10)), (3, 224, 224))


def test_the_wider_form_has_the_widths_of_table_2():
    with torch.device("meta"):
        net = create("zfnet-512-1024-512")
    assert [conv.out_channels for conv in net.modules() if isinstance(conv, nn.Conv2d)] == [96, 256, 512, 1024, 512]


def test_maps_have_the_sizes_of_figure_3():
    sizes = {}
    with torch.device("meta"):
        net = create("zfnet")
        for name, layer in net.named_children():
            layer.register_forward_hook(lambda layer, args, out, name=name: sizes.update({name: out.shape[-1]}))
        net(torch.empty(1, 3, 224, 224))
    assert [sizes[name] for name in ("conv1", "norm1", "conv2", "norm2", "conv5", "pool5", "resize")] == [
        *(110, 55, 26, 13, 13, 6, 6)
    ]


def test_fits_a_few_images(overfits):
    torch.manual_seed(0)
    net = ZFNet(num_classes=10, widths=(48, 48, 32), dropout=0.0)
    layers.init_weights(net, nn.init.kaiming_normal_)  # the paper's small weights need many steps to grow
    overfits(net, (3, 67, 67), lr=0.002, steps=80, batch=4)


def test_compiles(compiles):
    compiles(ZFNet(num_classes=10, widths=(48, 48, 32), dropout=0.0), (3, 67, 67))
