"""One pass from a data set at rest to an augmented batch: gather, draw, flip, warp, erase, gray, normalise, cast.

For image b of the batch, i = indices[b]:

    draws    Philox 4x32-10, counter (i, epoch, block, 0), key = seed's (low, high) 32 bits; `DRAWS` names them.
    place    of output pixel (column j, row k): u = (j + 1/2) 32 / size - 16, v = (k + 1/2) 32 / size - 16, then
             (x, y) = S^-1 R^-1 ((u, v) - shift), x mirrored under a flip, + (15.5, 15.5); S = diag(scale x, scale y),
             R a turn by the angle, counter-clockwise on the screen
    level    bilinear among images[i]'s four pixels round (x, y); beyond its edge the image is mirrored about the edge
             pixels (reflect) or black
    hole     the pixels whose centre, (j + 1/2) 32 / size, lies in [hole, hole + dropout_size), take `hole_levels`
    gray     0.299 R + 0.587 G + 0.114 B in all three channels
    output   (level - mean) (1 / std), float32, then cast

Places are fixed-point sums of a column's and a row's share, off by 5e-7 pixels at most, the same on every device.
"""

from typing import Any

import torch

from fastcifar_kernels import backend

DRAWS = ("flip", "affine", "angle", "scale_x", "scale_y", "shift_x", "shift_y", "dropout", "hole_x", "hole_y", "gray")
"""Columns of the table of draws, float32: coins 0 or 1, degrees, factors, pixels of the 32 x 32 image."""

SIDE = 32
"""Of a stored image, pixels."""

_LIBRARY = torch.library.Library(backend.NAMESPACE, "FRAGMENT")
_LIBRARY.define(
    "augment(Tensor images, Tensor indices, int seed, Tensor epoch, float flip, float affine, float rotate_degrees, "
    "float shift, float scale, bool by_axis, bool reflect, float dropout, int dropout_size, float gray, "
    "float[] hole_levels, float[] mean, float[] std, int size, ScalarType dtype, bool return_draws) "
    "-> (Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
BACKENDS = backend.choose("augment", triton=True)


def augment(
    images: torch.Tensor,
    indices: torch.Tensor,
    *,
    seed: int,
    epoch: int | torch.Tensor,
    flip: float,
    affine: float,
    rotate_degrees: float,
    shift: float,
    scale: float,
    by_axis: bool,
    reflect: bool,
    dropout: float,
    dropout_size: int,
    gray: float,
    hole_levels: tuple[int, int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    size: int = SIDE,
    dtype: torch.dtype = torch.float32,
    return_draws: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The augmented images `indices` of the data set `images`, and their draws.

    images: uint8 [N, 32, 32, 3], contiguous. indices: int64 [B], on the same device, each below N; on a CUDA device
        an index outside gives an image of NaN.
    seed: 0 .. 2**64 - 1.
    epoch: 0 .. 2**32 - 1; or one int64 on the images' device, read when the kernel runs: a CUDA graph that captures the
        call draws for the epoch that stands there at each replay.
    flip, affine, dropout, gray: probabilities. rotate_degrees, shift (a fraction of the width), scale: largest change
        either way.
    by_axis: a scale for each axis and whole-pixel shifts (albumentations 2); else one scale, shifts of any length.
    reflect: the border mirrors the image; else it is black.
    dropout_size: side of the hole, pixels of the stored image, 1 .. 32. hole_levels: its colour, 0 .. 255.
    mean, std: of the data set, in grey levels 0 .. 255; exact in float32, or they are rounded to it.
    size: side of the output, 8 .. 64. dtype: float32, float16 or bfloat16.

    Returns:
        images [B, 3, size, size], channels_last, and draws float32 [B, 11] (see `DRAWS`), [0, 11] unless asked for.

    Raises:
        ValueError: images, indices, a size or a type other than said here.
        IndexError: an index outside the images, on the CPU.
        NotImplementedError: no backend serves the device (see `BACKENDS`).
    """
    signed_seed = seed - 2**64 if seed >= 2**63 else seed  # the same 64 bits: the schema's int has a sign
    number = (
        epoch if isinstance(epoch, torch.Tensor) else torch.full((), epoch, dtype=torch.int64, device=images.device)
    )
    return torch.ops.fastcifar_kernels.augment.default(
        images,
        indices.contiguous(),
        signed_seed,
        number,
        flip,
        affine,
        rotate_degrees,
        shift,
        scale,
        by_axis,
        reflect,
        dropout,
        dropout_size,
        gray,
        hole_levels,
        mean,
        std,
        size,
        dtype,
        return_draws,
    )


def _triton(images: torch.Tensor, indices: torch.Tensor, *settings: Any) -> tuple[torch.Tensor, torch.Tensor]:
    from fastcifar_kernels.augment.triton_kernel import launch

    epoch, dropout_size, size, dtype = settings[1], settings[10], settings[15], settings[16]
    if images.dtype != torch.uint8 or images.shape[1:] != (SIDE, SIDE, 3) or not images.is_contiguous():
        raise ValueError("images: contiguous uint8 [N, 32, 32, 3]")
    if indices.dtype != torch.int64 or indices.dim() != 1 or indices.device != images.device:
        raise ValueError("indices: int64 [B], on the images' device")
    if epoch.dtype != torch.int64 or epoch.numel() != 1 or epoch.device != images.device:
        raise ValueError("epoch: one int64, on the images' device")
    if not 8 <= size <= 64 or not 1 <= dropout_size <= SIDE:
        raise ValueError("size: 8 to 64; dropout_size: 1 to 32")
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError("dtype: float32, float16 or bfloat16")
    return launch(images, indices.contiguous(), *settings)


if BACKENDS["cuda"].used == "triton":
    _LIBRARY.impl("augment", _triton, "CUDA")


@torch.library.register_fake(f"{backend.NAMESPACE}::augment", lib=_LIBRARY)
def _fake(images: torch.Tensor, indices: torch.Tensor, *settings: Any) -> tuple[torch.Tensor, torch.Tensor]:
    size, dtype, return_draws = settings[-3:]
    count = indices.shape[0]
    output = images.new_empty((count, size, size, 3), dtype=dtype).permute(0, 3, 1, 2)
    draws = images.new_empty((count if return_draws else 0, len(DRAWS)), dtype=torch.float32)
    return output, draws
