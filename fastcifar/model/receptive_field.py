"""The receptive field, measured rather than tabulated."""

import copy
from typing import Any

import torch
from torch import nn


def receptive_field(model: nn.Module, image_size: int = 257) -> int:
    """Side in pixels of the input region that one unit before the global pooling can see.

    It is the extent of the support of the input gradient of the central unit, on a copy of `model.features` whose
    weights are positive, whose normalisation and biases are gone and whose max-pooling is a mean, so that no path can
    cancel or lose. Branches, residuals, dilation and padding are thereby accounted for by the network itself.

    Args:
        model: has `features`, the part up to the global pooling: [B, 3, H, W] -> [B, C, h, w].
        image_size: side of the probe image; larger than any receptive field that is to be measured.

    Raises:
        ValueError: the field reaches the probe's border.
    """
    # Gradients at the field's edge shrink with depth: float64 holds them through hundreds of layers.
    probe: Any = copy.deepcopy(model).cpu().double().eval()
    for parent in list(probe.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm | nn.GroupNorm | nn.Dropout | nn.Dropout2d):
                setattr(parent, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d):  # any pixel of a window may be its largest
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode))
    with torch.no_grad():
        for name, parameter in probe.named_parameters():
            # A mean over the fan-in keeps the activations near 1 through any depth.
            parameter.fill_(0.0 if name.endswith("bias") else 1.0 / max(1, parameter[0].numel()))
    image = torch.ones(1, 3, image_size, image_size, dtype=torch.float64, requires_grad=True)
    output = probe.features(image)
    output[:, :, output.shape[2] // 2, output.shape[3] // 2].sum().backward()
    assert image.grad is not None
    support = image.grad.abs().sum(dim=(0, 1)) > 0
    rows, columns = (support.any(dim=d).nonzero().flatten().tolist() for d in (1, 0))
    if min(rows[0], columns[0]) == 0 or max(rows[-1], columns[-1]) == image_size - 1:
        raise ValueError(f"the receptive field does not fit into {image_size} pixels; use a larger image_size")
    return max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
