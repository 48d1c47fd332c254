"""Five published answers to the course's assignment, as layer tables: exact to the parameter.

All of their authors asked for 85 % on CIFAR-10 with a receptive field above 44, and all but one for fewer than 200,000
parameters. Kernels are 3x3 with "same" padding and without bias unless the table says otherwise. How often dropout
drops was not published: it is DROPOUT everywhere, and absent from `assignment_671k`, whose table names none.
"""

from collections.abc import Callable

from torch import Tensor, nn

DROPOUT = 0.05
GROUPS = 32
"""Of group normalisation: what Wu and He propose (arXiv 1803.08494)."""

NORMALISATIONS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": lambda channels: nn.GroupNorm(GROUPS, channels),
    # Over channels, rows and columns of an image, with a weight and a bias a channel: at home at every image size.
    "layer": lambda channels: nn.GroupNorm(1, channels),
}


class Answer(nn.Module):
    """[B, 3, H, W] -> logits [B, classes]; from 20 pixels a side up, all five take any H and W.

    Args:
        layers: what comes before the global average pooling.
        head: what comes after it, on [B, C, 1, 1].
    """

    def __init__(self, layers: list[nn.Module], head: nn.Module | None = None) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Identity() if head is None else head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.features(x))).flatten(1)


def assignment_151k(classes: int = 10) -> Answer:
    """151,902 parameters, receptive field 95; `features` ends in [B, classes, ceil(H / 8), ceil(W / 8)]."""
    layers = _each_then(
        lambda channels: [nn.ReLU(), nn.BatchNorm2d(channels), nn.Dropout(DROPOUT)],
        _conv(3, 16),
        _conv(16, 32),
        _conv(32, 32),
        _conv(32, 32),
        _conv(32, 64, stride=2),
        _separable(64, 128),
        _separable(128, 64),
        _conv(64, 32, stride=2),
        _separable(32, 64),
        _separable(64, 64),
        _conv(64, 64, stride=2),
        _separable(64, 64, multiplier=2),
        _conv(64, 32, dilation=2),
    )
    head = nn.Sequential(nn.Flatten(), nn.Linear(classes, classes))
    return Answer([*layers, _conv(32, classes, kernel=1)], head)


def assignment_162k(classes: int = 10) -> Answer:
    """162,296 parameters, receptive field 67; `features` ends in [B, classes, 4, 4] for 32 pixels."""
    layers = _each_then(
        lambda channels: [nn.BatchNorm2d(channels), nn.ReLU(), nn.Dropout2d(DROPOUT)],
        _conv(3, 16),
        _conv(16, 32),
        _conv(32, 32),
        _conv(32, 32, stride=2, dilation=2, padding=0),
        _conv(32, 32),
        _conv(32, 52),
        _conv(52, 64, stride=2, dilation=2, padding=0),
        _conv(64, 64, kernel=1, groups=64),
        _conv(64, 64),
        _conv(64, 64, kernel=1, stride=2, padding=1),
        _conv(64, 64),
    )
    return Answer([*layers, _conv(64, classes)])


def assignment_671k(classes: int = 10) -> Answer:
    """671,690 parameters, over the assignment's budget, and max-pooling, which it forbids; receptive field 36.

    `features` ends in [B, classes, 4, 4] for 32 pixels. Its count of parameters tells that batch-norm follows every
    convolution but the last two; the order of ReLU and batch-norm is that of `assignment_151k`.
    """

    def block(*convolutions: nn.Conv2d) -> list[nn.Module]:
        return _each_then(lambda channels: [nn.ReLU(), nn.BatchNorm2d(channels)], *convolutions)

    return Answer(
        [
            *block(_conv(3, 32, bias=True), _conv(32, 64, bias=True)),
            nn.MaxPool2d(2),
            *block(_conv(64, 64, groups=64, bias=True), _conv(64, 128, kernel=1, bias=True)),
            nn.MaxPool2d(2),
            *block(_conv(128, 128, groups=128, bias=True), _conv(128, 256, kernel=1, bias=True)),
            *block(_conv(256, 256, dilation=2, padding=0, bias=True)),
            nn.Sequential(_conv(256, 64, kernel=1, bias=True), nn.ReLU()),
            nn.Sequential(_conv(64, classes, kernel=1, bias=True), nn.ReLU()),
        ]
    )


def assignment_98k(classes: int = 10, normalisation: str = "batch") -> Answer:
    """98,779 parameters, receptive field 51; every convolution is separable, those of 1x1 too.

    `features` ends in [B, 128, 6, 6] for 32 pixels.

    Args:
        normalisation: batch, group or layer, after each pair of convolutions; equally many parameters.
    """
    norm = NORMALISATIONS[normalisation]
    layers = _each_then(
        lambda channels: [norm(channels), nn.Dropout(DROPOUT), nn.ReLU()],
        _separable(3, 64),
        _separable(64, 128, stride=2, dilation=2),
        _separable(128, 64, kernel=1),
        _separable(64, 128),
        _separable(128, 128, stride=2, dilation=2),
        _separable(128, 64, kernel=1),
        _separable(64, 128),
        _separable(128, 128, dilation=2, padding=1),
        _separable(128, 64, kernel=1),
        _separable(64, 128),
    )
    return Answer(layers, head=_separable(128, classes, kernel=1))


def assignment_170k(classes: int = 10) -> Answer:
    """170,304 parameters, receptive field 83; `features` ends in [B, classes, 4, 4] for 32 pixels."""
    layers = _each_then(
        lambda channels: [nn.ReLU(), nn.BatchNorm2d(channels), nn.Dropout2d(DROPOUT)],
        _conv(3, 32),
        _conv(32, 32),
        _conv(32, 32, stride=2, padding=0, bias=True),
        _conv(32, 32),
        _separable(32, 32, pointwise_padding=1),
        _conv(32, 32, stride=2, padding=0, bias=True),
        _conv(32, 64, dilation=2, padding=1),
        _conv(64, 64),
        _conv(64, 64, stride=2, padding=0, bias=True),
        _conv(64, 64),
    )
    return Answer([*layers, _separable(64, classes, pointwise_padding=1)])


def _conv(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    padding: int | None = None,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """A convolution; the padding is "same" unless given."""
    same = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride, same if padding is None else padding, dilation, groups, bias)


def _separable(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    padding: int | None = None,
    multiplier: int = 1,
    pointwise_padding: int = 0,
) -> nn.Sequential:
    """Depthwise, `multiplier` outputs a channel, then pointwise, with nothing between the two."""
    width = inputs * multiplier
    return nn.Sequential(
        _conv(inputs, width, kernel, stride, dilation, padding, groups=inputs),
        _conv(width, outputs, kernel=1, padding=pointwise_padding),
    )


def _each_then(finish: Callable[[int], list[nn.Module]], *rows: nn.Conv2d | nn.Sequential) -> list[nn.Module]:
    """Every row of a table followed by what `finish` makes for its output channels."""
    blocks: list[nn.Module] = []
    for row in rows:
        last = row[-1] if isinstance(row, nn.Sequential) else row
        assert isinstance(last, nn.Conv2d)
        blocks.append(nn.Sequential(row, *finish(last.out_channels)))
    return blocks
