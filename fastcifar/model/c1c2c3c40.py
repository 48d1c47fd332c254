"""The course's architecture: three blocks that shrink by stride, a fourth, global average pooling, a linear head."""

from torch import Tensor, nn

from fastcifar.model.layers import Chain, Convolution, DepthwiseSeparable, Layer, Stem


class C1C2C3C40(nn.Module):
    """[B, 3, H, W] -> logits [B, classes]; no max-pooling, any H and W from 8 up.

    Args:
        stem: the first convolution; it may be whitened.
        c1, c2, c3: blocks whose last layer has stride 2.
        c4: the block before the pooling.
        width: channels that c4 ends with.
    """

    def __init__(
        self, stem: Stem, c1: nn.Module, c2: nn.Module, c3: nn.Module, c4: nn.Module, width: int, classes: int
    ) -> None:
        super().__init__()
        self.stem = stem
        self.c1, self.c2, self.c3, self.c4 = c1, c2, c3, c4
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """The map before the pooling, [B, width, ceil(H / 8), ceil(W / 8)]."""
        return self.c4(self.c3(self.c2(self.c1(self.stem(x)))))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.features(x)).flatten(1))


def speed(classes: int = 10) -> C1C2C3C40:
    """Made to reach 85 % soon: mostly dense 3x3 convolutions, and few layers at full resolution."""
    return C1C2C3C40(
        stem=Stem(24),
        c1=Convolution(24, 32, stride=2),
        c2=Chain(Convolution(32, 48), Convolution(48, 64, stride=2)),
        c3=Chain(Convolution(64, 96), DepthwiseSeparable(96, 96, stride=2)),
        c4=DepthwiseSeparable(96, 96, dilation=2, residual=True),
        width=96,
        classes=classes,
    )


def accuracy(classes: int = 10) -> C1C2C3C40:
    """Made to go high: residual depthwise-separable layers, and so depth, for the same budget."""

    def residual(width: int, count: int, dilation: int = 1) -> list[Layer]:
        return [DepthwiseSeparable(width, width, dilation=dilation, residual=True) for _ in range(count)]

    return C1C2C3C40(
        stem=Stem(32),
        c1=Chain(*residual(32, 2), DepthwiseSeparable(32, 64, stride=2)),
        c2=Chain(*residual(64, 4), DepthwiseSeparable(64, 128, stride=2)),
        c3=Chain(*residual(128, 4), DepthwiseSeparable(128, 128, stride=2)),
        c4=Chain(*residual(128, 1, dilation=2), *residual(128, 1)),
        width=128,
        classes=classes,
    )
