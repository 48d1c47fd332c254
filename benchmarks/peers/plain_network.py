"""The networks of fastcifar as a plain PyTorch script has them: torch's own modules, weights under the same names."""

import torch.nn.functional as F
from torch import Tensor, nn


class Layer(nn.Module):
    """Convolution (dense, or depthwise and pointwise) -> batch-norm -> ReLU; with `residual` the input is added."""

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1, dense: bool = False, residual: bool = False
    ) -> None:
        super().__init__()
        place = {"stride": stride, "padding": dilation, "dilation": dilation, "bias": False}
        self.residual, self.dense = residual, dense
        if dense:
            self.conv = nn.Conv2d(inputs, outputs, 3, **place)
        else:
            self.depthwise = nn.Conv2d(inputs, inputs, 3, groups=inputs, **place)
            self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x) if self.dense else self.pointwise(self.depthwise(x)))
        return F.relu(y + x if self.residual else y, inplace=True)


class Stem(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x), inplace=True)


class Network(nn.Module):
    """[B, 3, H, W] -> logits [B, 10]."""

    def __init__(self, stem: int, c1: nn.Module, c2: nn.Module, c3: nn.Module, c4: nn.Module, width: int) -> None:
        super().__init__()
        self.stem = Stem(stem)
        self.c1, self.c2, self.c3, self.c4 = c1, c2, c3, c4
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.c4(self.c3(self.c2(self.c1(self.stem(x))))).mean((2, 3)))


SPEED_WIDTHS = (24, 32, 48, 64, 96)


def speed(widths: tuple[int, ...] = SPEED_WIDTHS) -> Network:
    stem, c1, inner, c2, last = widths
    return Network(
        stem,
        Layer(stem, c1, 2, dense=True),
        nn.Sequential(Layer(c1, inner, dense=True), Layer(inner, c2, 2, dense=True)),
        nn.Sequential(Layer(c2, last, dense=True), Layer(last, last, 2)),
        Layer(last, last, dilation=2, residual=True),
        last,
    )


def accuracy() -> Network:
    def residual(width: int, count: int) -> list[Layer]:
        return [Layer(width, width, residual=True) for _ in range(count)]

    return Network(
        32,
        nn.Sequential(*residual(32, 2), Layer(32, 64, 2)),
        nn.Sequential(*residual(64, 4), Layer(64, 128, 2)),
        nn.Sequential(*residual(128, 4), Layer(128, 128, 2)),
        nn.Sequential(Layer(128, 128, dilation=2, residual=True), Layer(128, 128, residual=True)),
        128,
    )


NETWORKS = {"c1c2c3c40-speed": speed, "c1c2c3c40-accuracy": accuracy}
"""By their names in fastcifar."""
