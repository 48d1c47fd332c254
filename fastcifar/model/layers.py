"""The building blocks, each a convolution (or a depthwise-pointwise pair), batch-norm and ReLU; and their chain."""

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastcifar.model.batch_norm import Moments, normalised_relu, serves_training
from fastcifar.model.pending import Pending, pending
from fastcifar_kernels.depthwise import depthwise
from fastcifar_kernels.depthwise_pointwise import depthwise_pointwise
from fastcifar_kernels.depthwise_pointwise.plan import fuses
from fastcifar_kernels.strided_convolution import strided_convolution


class Layer(nn.Module):
    """A convolution (or a pair of them) -> batch-norm -> ReLU; with `residual` the input is added before the ReLU."""

    norm: nn.BatchNorm2d
    residual: bool

    @property
    def normalised(self) -> nn.Conv2d:
        """The convolution whose result the batch-norm takes."""
        raise NotImplementedError

    def convolve(self, x: Tensor | Pending) -> tuple[Tensor, Moments | None]:
        """The convolution's result, and its moments where the kernel that made it has them."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(*self.convolve(x), x)

    def activate(self, y: Tensor, moments: Moments | None, x: Tensor | Pending) -> Tensor:
        """What follows the convolution of x to y."""
        residual = x if self.residual and isinstance(x, Tensor) else None
        if moments is not None:
            return pending(y, self.norm, moments).computed(residual)
        if serves_training(self.norm, y):
            return normalised_relu(self.norm, y, residual)
        y = self.norm(y)
        return F.relu(y if residual is None else y + residual, inplace=True)


class Dense(nn.Conv2d):
    """3x3 convolution over all channels; [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)]."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Only stride 2 makes torch's backward pass slow. Where none is run, torch's operator is one less to export.
        if self.training and (self.stride, self.dilation) == ((2, 2), (1, 1)):
            return strided_convolution(x, self.weight)
        return super().forward(x)


class Convolution(Layer):
    """3x3 convolution -> batch-norm -> ReLU; [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)].

    Args:
        residual: add the input before the ReLU (needs in == out and stride 1).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1, residual: bool = False) -> None:
        super().__init__()
        self.residual = _checked_residual(residual, inputs, outputs, stride)
        self.conv = Dense(inputs, outputs, stride, dilation)
        self.norm = nn.BatchNorm2d(outputs)
        if outputs >= inputs:
            # The first channels start as a copy of the input, so that gradients reach the front at once.
            nn.init.dirac_(self.conv.weight.data[:inputs])

    @property
    def normalised(self) -> nn.Conv2d:
        return self.conv

    def convolve(self, x: Tensor | Pending) -> tuple[Tensor, Moments | None]:
        return self.conv(x.computed() if isinstance(x, Pending) else x), None


class Depthwise(nn.Conv2d):
    """3x3 convolution of each channel by itself; [B, C, H, W] -> [B, C, ceil(H / stride), ceil(W / stride)]."""

    def __init__(self, channels: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(
            channels, channels, 3, stride, padding=dilation, dilation=dilation, groups=channels, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Only a dilation makes torch's backward pass slow. Where none is run, torch's operator is one less to export.
        if self.training and self.dilation != (1, 1):
            return depthwise(x, self.weight, self.stride[0], self.dilation[0])
        return super().forward(x)


class DepthwiseSeparable(Layer):
    """Depthwise 3x3 -> pointwise 1x1 -> batch-norm -> ReLU, with nothing between the two convolutions.

    [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)]. A normalisation between the convolutions would
    need the depthwise result's statistics before the pointwise one can start, and so forbid fusing the two. Where
    `fastcifar_kernels.depthwise_pointwise` is faster, both run in its one kernel.

    Args:
        residual: add the input before the ReLU (needs in == out and stride 1).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1, residual: bool = False) -> None:
        super().__init__()
        self.residual = _checked_residual(residual, inputs, outputs, stride)
        self.stride, self.dilation = stride, dilation
        self.depthwise = Depthwise(inputs, stride, dilation)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    @property
    def normalised(self) -> nn.Conv2d:
        return self.pointwise

    def fuses(self, x: Tensor) -> bool:
        """Whether the fused kernel serves this input: in a compiled model, where it is faster.

        Eagerly, what it leaves of the batch-norm would take more launches than torch's own batch-norm.
        """
        if not torch.compiler.is_compiling():
            return False
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        images, channels, height, width = x.shape
        sizes = (images, height, width, channels, self.pointwise.out_channels, self.stride, self.dilation)
        return fuses(sizes, dtype, x.device)

    def convolve(self, x: Tensor | Pending) -> tuple[Tensor, Moments | None]:
        y, scale, shift = x if isinstance(x, Pending) else (x, None, None)
        if not self.fuses(y):
            return self.pointwise(self.depthwise(x.computed() if isinstance(x, Pending) else x)), None
        statistics = self.norm.training
        y, *moments = depthwise_pointwise(
            y,
            self.depthwise.weight,
            self.pointwise.weight,
            stride=self.stride,
            dilation=self.dilation,
            scale=scale,
            shift=shift,
            statistics=statistics,
        )
        return y, Moments(*moments) if statistics else None


class Chain(nn.Sequential):
    """Layers in a row. Compiled, it leaves a layer's batch-norm and ReLU to the fused kernel of the next, if any."""

    def __init__(self, *layers: Layer) -> None:
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Tensor:
        layers = cast(list[Layer], list(self))
        given: Tensor | Pending = x
        for layer, following in pairwise(layers):
            y, moments = layer.convolve(given)
            if not layer.residual and _loads_pending(following, y):
                given = pending(y, layer.norm, moments)
            else:
                given = layer.activate(y, moments, given)
        return layers[-1].activate(*layers[-1].convolve(given), given)


class Stem(nn.Module):
    """3x3 convolution with bias -> ReLU on the normalised image; may be frozen as a whitening transform."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, outputs, 3, padding=1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x), inplace=True)

    @torch.no_grad()
    def whiten(self, images: Tensor, epsilon: float = 5e-4) -> None:
        """Set the filters to the whitened principal components of the images' 3x3 patches, and freeze them.

        The leading outputs / 2 eigenvectors of the patch covariance, each over the root of its eigenvalue, stand with
        both signs, so that the ReLU loses nothing (the whitening layer of hlb-CIFAR10 and airbench). The bias is 0.

        Args:
            images: normalised, [N, 3, H, W].
            epsilon: added to the eigenvalues, in units of the normalised image's variance.
        """
        half = self.conv.out_channels // 2
        if self.conv.out_channels % 2 or half > 27:
            raise ValueError(f"a whitened 3x3 stem has an even number of at most 54 outputs, not {2 * half}")
        patches = F.unfold(images.double(), 3).transpose(1, 2).reshape(-1, 27)
        eigenvalues, eigenvectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (eigenvectors / (eigenvalues + epsilon).sqrt()).T.flip(0)[:half].reshape(half, 3, 3, 3)
        self.conv.weight.copy_(torch.cat([filters, -filters]))
        assert self.conv.bias is not None
        self.conv.bias.zero_()
        self.freeze()

    def freeze(self) -> None:
        """Train nothing here. No gradient runs over the largest map then, and the next layer makes none for it."""
        self.conv.requires_grad_(False)


def _loads_pending(layer: Layer, y: Tensor) -> bool:
    """A residual layer needs its input itself, too."""
    return isinstance(layer, DepthwiseSeparable) and not layer.residual and layer.fuses(y)


def _checked_residual(residual: bool, inputs: int, outputs: int, stride: int) -> bool:
    if residual and (inputs != outputs or stride != 1):
        raise ValueError(f"a residual block keeps its shape; got {inputs} -> {outputs} with stride {stride}")
    return residual
