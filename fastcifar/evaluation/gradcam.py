"""Grad-CAM: where in an image a network saw the evidence for a class."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastcifar.errors import UsageError
from fastcifar.model.trace import trace

BATCH = 250
STRENGTH = 0.7
"""Share of the colour map where an overlay is hottest; with more of it, the picture below cannot be made out."""


@torch.inference_mode(False)
@torch.no_grad()
def gradcam(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """The evidence for a class of each image, after Selvaraju et al. 2017 (arXiv 1610.02391), through captum.

    The last feature map A [C, h, w] is the input of the global average pooling, whatever made it: a residual's sum
    that no module returns serves as well. It is taken where it enters the module that pools, or whose function does.
    Each channel weighs as much as the class's logit rises with it, on average over the map; the positive part of the
    weighted sum, relu(sum_c mean_hw(d logit / d A_c) A_c), is brought to the image's size bilinearly and then divided
    by its maximum. So maps show where, and not how much: two images' maxima cannot be compared.

    Args:
        model: [B, 3, H, W] -> logits [B, classes]; runs in evaluation mode, and is left as it was found.
        images: float32 [N, 3, H, W], normalised, on any device.
        classes: int64 [N], on any device.

    Returns:
        float32 [N, H, W] on the CPU, from 0 to 1; all zeros for an image without evidence for its class.

    Raises:
        UsageError: the network has no global average pooling, or the module that pools computes the map, too.
    """
    from captum.attr import LayerGradCam  # takes a second to import

    heat = torch.zeros(len(images), *images.shape[2:])
    if not len(images):
        return heat
    pooling = _pooling(model, image_size=images.shape[-1])
    device = next(model.parameters(), images).device
    # Captum switches gradients on, from the pooling's input on: where the weights are frozen, no more is kept.
    with _evaluating(model):
        method = LayerGradCam(model, pooling)
        for rows in torch.arange(len(images)).split(BATCH):
            batch = images[rows].to(device)
            maps: Any = method.attribute(
                batch, classes[rows].to(device), attribute_to_layer_input=True, relu_attributions=True
            )
            full = F.interpolate(maps.detach(), images.shape[2:], mode="bilinear", align_corners=False)
            heat[rows] = full[:, 0].cpu()
    largest = heat.amax(dim=(1, 2), keepdim=True)
    return torch.where(largest > 0, heat / largest, 0.0)


def overlay(pixels: np.ndarray, heat: Tensor) -> np.ndarray:
    """Heat over a picture's grey levels: the hotter, the more the colour map covers them, and no heat leaves them bare.

    Without the picture's own colours, every colour seen is the heat's. The map is matplotlib's inferno: equal steps
    of heat look equally large, and as it grows lighter all the way from black to pale yellow, it holds for the
    colour-blind and in black and white. A rainbow would draw edges where the heat has none.

    Args:
        pixels: uint8 [N, H, W, 3].
        heat: [N, H, W], from 0 to 1.

    Returns:
        uint8 [N, H, W, 3].
    """
    from matplotlib import colormaps

    grey = pixels @ np.array([0.299, 0.587, 0.114])  # luma, after ITU-R BT.601
    levels = heat.numpy()[..., None]
    colour = 255 * colormaps["inferno"](levels[..., 0])[..., :3]
    return np.rint(grey[..., None] + STRENGTH * levels * (colour - grey[..., None])).astype(np.uint8)


def _pooling(model: nn.Module, image_size: int) -> nn.Module:
    """The module that the last feature map enters and that pools it."""
    traced = trace(model, image_size)
    pooling = traced.global_pooling
    if pooling is None:
        raise UsageError(
            "Grad-CAM: the network has no global average pooling", "end its maps with AdaptiveAvgPool2d(1)"
        )
    inside = f"{pooling.module}." if pooling.module else ""
    before = traced.operations[: traced.operations.index(pooling)]
    if any(operation.window is not None and f"{operation.module}.".startswith(inside) for operation in before):
        raise UsageError(
            f"Grad-CAM: the last map and its average come of one module, {pooling.place}",
            "pool with a module of its own, AdaptiveAvgPool2d(1)",
        )
    return model.get_submodule(pooling.module)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, was_training in training.items():
            module.training = was_training
