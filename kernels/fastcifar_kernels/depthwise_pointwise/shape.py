"""What a call is about, and how a kernel divides it among programs."""

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class Shape:
    """The sizes of one call, in pixels and channels."""

    images: int
    height: int
    width: int
    channels: int
    outputs: int
    stride: int
    dilation: int

    @property
    def out_height(self) -> int:
        return (self.height - 1) // self.stride + 1

    @property
    def out_width(self) -> int:
        return (self.width - 1) // self.stride + 1

    @property
    def key(self) -> str:
        """Its name in a table of plans."""
        sizes = f"{self.images}x{self.height}x{self.width}"
        return f"{sizes} {self.channels}->{self.outputs} stride {self.stride} dilation {self.dilation}"

    @staticmethod
    def of(x: torch.Tensor, pointwise: torch.Tensor, stride: int, dilation: int) -> "Shape":
        """Of x [N, C, H, W] and pointwise weights [K, C, 1, 1]."""
        images, channels, height, width = x.shape
        return Shape(images, height, width, channels, pointwise.shape[0], stride, dilation)


@dataclass(frozen=True)
class Tiles:
    """How one kernel divides its work.

    Attributes:
        rows, columns: of the cell of pixels that a thread computes together, 1 or 2 each.
        cells: of a tile.
        block: channels at a time, a power of two.
        warps: of a program, 32 threads each.
        waves: programs to a multiprocessor; each takes tiles until there are no more.
        registers: the most that a thread may have; None leaves it to the assembler, which at times would rather spill
            a few than run a program less at a time.
    """

    rows: int
    columns: int
    cells: int
    block: int
    warps: int
    waves: int
    registers: int | None = None


@dataclass(frozen=True)
class Tiling:
    """The tiles of the three kernels."""

    forward: Tiles
    pointwise_backward: Tiles
    depthwise_backward: Tiles


def default_tiling(shape: Shape) -> Tiling:
    """Tiles that compile without spilled registers, with few instructions to an element; see kernels/README.md.

    A thread holds 16 bytes of a pixel at a time, 8 channels, and 8 warps hold 2,048 of them.
    """
    block = min(128, max(16, power_of_two(shape.channels)))
    forward = Tiles(min(2, shape.out_height), 1, 2048 // block, block, 8, 2)
    # This one has more to keep: a smaller block, and a smaller tile, where there are lanes beyond the channels.
    block = block if shape.channels % 128 == 0 else min(64, block)
    cells = (2048 if shape.channels % block == 0 else 1024) // block
    backward = replace(forward, cells=cells, block=block, waves=1, registers=255 if block == 64 else None)
    # Without a tensor-core product behind it, this one has no use for lanes beyond the channels.
    block = next((block for block in (64, 32, 16) if shape.channels % block == 0), block)
    columns = 2 if shape.stride == 2 else 1
    return Tiling(forward, backward, Tiles(2, columns, 2048 // block, block, 8, 1))


def power_of_two(number: int) -> int:
    """The next one up, or the number itself."""
    return 1 << (number - 1).bit_length()
