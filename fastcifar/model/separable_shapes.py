"""The shapes that a network's depthwise-separable layers meet."""

from typing import Any

import torch
from torch import Tensor

from fastcifar.model.layers import DepthwiseSeparable
from fastcifar.model.registry import build_model
from fastcifar_kernels.depthwise_pointwise.shape import Shape


def separable_shapes(name: str, images: int, image_size: int) -> dict[Shape, bool]:
    """Each distinct one in a batch of so many images of so many pixels a side, and whether its layer is residual.

    They are seen on one image on the CPU, where a layer always calls its convolutions.

    Raises:
        UsageError: no network has that name.
    """
    model = build_model(name).eval()
    found: dict[Shape, bool] = {}

    def note(layer: DepthwiseSeparable) -> Any:
        def hook(_: Any, inputs: tuple[Tensor]) -> None:
            channels, height, width = inputs[0].shape[1:]
            sizes = images, height, width, channels, layer.pointwise.out_channels, layer.stride, layer.dilation
            found[Shape(*sizes)] = layer.residual

        return hook

    layers = [layer for layer in model.modules() if isinstance(layer, DepthwiseSeparable)]
    if not layers:  # such a network may not take images of every size
        return found
    for layer in layers:
        layer.depthwise.register_forward_pre_hook(note(layer))
    with torch.inference_mode():
        model(torch.zeros(1, 3, image_size, image_size))
    return found
