"""Draws applied to images in plain torch: the truth that every other backend is compared with."""

import torch
from torch.nn import functional

from fastcifar.augment.draws import AugmentDraws, inverse_affine
from fastcifar.augment.normalisation import normalisation_constants
from fastcifar.augment.policy import IMAGE_SIZE, AugmentPolicy, dropout_fill

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray (ITU-R BT.601), as OpenCV's RGB2GRAY."""

EDGE_PIXEL = (IMAGE_SIZE - 1) / IMAGE_SIZE
"""Centre of the last pixel where the image spans -1..1: 31/32. The first pixel's is -31/32."""


def apply_draws(
    images: torch.Tensor,
    draws: AugmentDraws | None,
    policy: AugmentPolicy,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    size: int = IMAGE_SIZE,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Flip, affine, dropout, gray, normalise: uint8 [B, 32, 32, 3] to [B, 3, size, size] in channels_last.

    All between is float32 and unrounded; the cast to `dtype` comes last. Nothing waits for the device.

    draws: None for no augmentation (evaluation); `policy` then gives the border alone, met above size 32.
    mean, std: of the data set, as fractions of 1; see `normalisation_constants`.
    """
    pixels = augmented_levels(images, draws, policy, dropout_fill(mean), size)
    means, deviations = normalisation_constants(mean, std)
    for channel in range(3):  # Python numbers, since a tensor of them would wait for its copy to the device
        pixels[:, channel].sub_(means[channel]).mul_(1 / deviations[channel])
    return pixels.to(dtype=dtype, memory_format=torch.channels_last)


def augmented_levels(
    images: torch.Tensor,
    draws: AugmentDraws | None,
    policy: AugmentPolicy,
    fill: tuple[int, int, int],
    size: int = IMAGE_SIZE,
) -> torch.Tensor:
    """What `apply_draws` makes, before it is normalised: grey levels 0..255, float32 [B, 3, size, size].

    Motion and size are one bilinear sampling: at 16 an image at rest becomes the exact means of its 2 x 2
    pixels, and at 32 an image that rests or only flips keeps its values to the bit.

    fill: grey levels of the hole.
    """
    moves = draws is not None and (policy.flip > 0 or policy.affine > 0)
    if moves or size != IMAGE_SIZE:
        pixels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        grid = sampling_grid(draws if moves else None, policy.border, size, images.device)
        grid = grid.expand(len(images), -1, -1, -1)
        # align_corners=False turns -1..1 into pixels by powers of two, so whole coordinates stay whole.
        pixels = functional.grid_sample(pixels, grid, padding_mode="zeros", align_corners=False)
    else:
        pixels = images.permute(0, 3, 1, 2).to(torch.float32)
    if draws is not None and policy.dropout > 0:
        holes = hole_mask(draws, policy.dropout_size, size)
        for channel, level in enumerate(fill):
            pixels[:, channel].masked_fill_(holes, level)
    if draws is not None and policy.gray > 0:
        red, green, blue = pixels.split(1, dim=1)
        luma = red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]
        pixels = torch.where(draws.gray[:, None, None, None], luma, pixels)
    return pixels


def sampling_grid(draws: AugmentDraws | None, border: str, size: int, device: torch.device) -> torch.Tensor:
    """Where the output pixels lie in the stored image: (x, y), float32 [B or 1, size, size, 2].

    The image spans -1..1. Output pixel i has its centre at (i + .5) 32 / size of the moved 32 x 32 image;
    then come the inverse affine and the flip. Computed in float64, rounded once. "reflect-101" folds all
    places into the image.
    """
    centres = (torch.arange(size, dtype=torch.float64, device=device) + 0.5) * 2 / size - 1
    if draws is None:
        inverse = torch.eye(2, 3, dtype=torch.float64, device=device)[None]
    else:
        inverse = inverse_affine(draws, centre=0.0)
        inverse[:, 0] *= (1 - 2 * draws.flip.double())[:, None]
    along_x, along_y, offset = inverse[..., None].unbind(2)
    offset = offset * 2 / IMAGE_SIZE  # pixels to half images
    grid = (along_x * centres)[:, :, None, :] + (along_y * centres + offset)[:, :, :, None]
    if border == "reflect-101":
        grid = reflect_101(grid)
    return grid.to(torch.float32).permute(0, 2, 3, 1)


def reflect_101(grid: torch.Tensor) -> torch.Tensor:
    """Coordinates folded at the centres of the edge pixels as often as needed (a triangle wave), in place.

    The folds lie on pixels, so folding a place and then sampling equals sampling from reflected pixels.
    """
    period = 4 * EDGE_PIXEL
    return grid.add_(EDGE_PIXEL).remainder_(period).sub_(period / 2).abs_().neg_().add_(EDGE_PIXEL)


def hole_mask(draws: AugmentDraws, hole_size: int, size: int) -> torch.Tensor:
    """bool [B, size, size]: the output pixels whose centre, (i + .5) 32 / size, lies in the hole.

    The hole is [corner, corner + hole_size). Compared as integers, 2 size times as large, so that a centre
    on a hole's edge falls to the same side everywhere.
    """
    centres = (2 * torch.arange(size, device=draws.hole_x.device) + 1) * IMAGE_SIZE
    columns, rows = (
        (centres >= 2 * size * corner) & (centres < 2 * size * (corner + hole_size))
        for corner in (draws.hole_x[:, None], draws.hole_y[:, None])
    )
    return (rows & draws.dropout[:, None])[:, :, None] & columns[:, None, :]
