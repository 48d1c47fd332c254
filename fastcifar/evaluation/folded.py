"""A network for evaluation alone: its batch-norms taken into the convolutions before them."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from fastcifar.model.layers import Layer


@torch.no_grad()
def folded(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, with one pass over each of its maps less; other people's layers stay as they are.

    The products are made in float64, so that the one rounding left is that of the result.
    """
    copied = copy.deepcopy(model).eval()
    for layer in copied.modules():
        if isinstance(layer, Layer):
            _fold(layer.normalised, layer.norm)
            layer.norm = nn.Identity().eval()  # pyright: ignore[reportAttributeAccessIssue]
    return copied


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    given = convolution.weight, norm.running_mean, norm.running_var, norm.weight, norm.bias
    weight, mean, variance, gamma, beta = (tensor.double() for tensor in given)
    weight, bias = fuse_conv_bn_weights(weight, None, mean, variance, norm.eps, gamma, beta)
    convolution.weight.copy_(weight)
    convolution.bias = nn.Parameter(bias.float())
