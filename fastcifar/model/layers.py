"""The building blocks: each is one convolution (or a depthwise-pointwise pair), batch-norm and ReLU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Convolution(nn.Module):
    """3x3 convolution -> batch-norm -> ReLU; [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)].

    Args:
        residual: add the input before the ReLU (needs in == out and stride 1).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1, residual: bool = False) -> None:
        super().__init__()
        self.residual = _checked_residual(residual, inputs, outputs, stride)
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        if outputs >= inputs:
            # The first channels start as a copy of the input, so that gradients reach the front at once.
            nn.init.dirac_(self.conv.weight.data[:inputs])

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return F.relu(y + x if self.residual else y, inplace=True)


class DepthwiseSeparable(nn.Module):
    """Depthwise 3x3 -> pointwise 1x1 -> batch-norm -> ReLU, with nothing between the two convolutions.

    [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)]. A normalisation between the convolutions would
    need the depthwise result's statistics before the pointwise one can start, and so forbid fusing the two.

    Args:
        residual: add the input before the ReLU (needs in == out and stride 1).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1, residual: bool = False) -> None:
        super().__init__()
        self.residual = _checked_residual(residual, inputs, outputs, stride)
        self.depthwise = nn.Conv2d(
            inputs, inputs, 3, stride, padding=dilation, dilation=dilation, groups=inputs, bias=False
        )
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.pointwise(self.depthwise(x)))
        return F.relu(y + x if self.residual else y, inplace=True)


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
        both signs, so that the ReLU loses nothing (the whitening layer of hlb-CIFAR10 and airbench). The bias stays
        trainable.

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
        self.conv.weight.requires_grad_(False)


def _checked_residual(residual: bool, inputs: int, outputs: int, stride: int) -> bool:
    if residual and (inputs != outputs or stride != 1):
        raise ValueError(f"a residual block keeps its shape; got {inputs} -> {outputs} with stride {stride}")
    return residual
