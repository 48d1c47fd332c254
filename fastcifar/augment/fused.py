"""The policy through `fastcifar_kernels`: gathered, drawn, moved and normalised in one pass over the data set."""

import dataclasses

import torch

from fastcifar.augment.draws import AugmentDraws
from fastcifar.augment.normalisation import normalisation_constants
from fastcifar.augment.policy import IMAGE_SIZE, AugmentPolicy, dropout_fill
from fastcifar_kernels.augment import BACKENDS, augment


def serves(device: torch.device) -> bool:
    """Whether a compiled kernel or Triton serves tensors of this device; elsewhere `reference` does."""
    backend = BACKENDS.get(device.type)
    return backend is not None and backend.used != "none"


def apply(
    images: torch.Tensor,
    indices: torch.Tensor,
    seed: int,
    epoch: int | torch.Tensor,
    policy: AugmentPolicy,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    size: int = IMAGE_SIZE,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """What `sample_draws` and `apply_draws` make of `images[indices]`: [B, 3, size, size] in channels_last.

    images: uint8 [N, 32, 32, 3]. indices: int64 [B], on the same device. epoch: see `augment`.
    """
    return _call(images, indices, seed, epoch, policy, mean, std, size, dtype, return_draws=False)[0]


def apply_and_return_draws(
    images: torch.Tensor,
    indices: torch.Tensor,
    seed: int,
    epoch: int | torch.Tensor,
    policy: AugmentPolicy,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    size: int = IMAGE_SIZE,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, AugmentDraws]:
    """As `apply`, with the draws that the kernel made: those of `sample_draws`, to the bit."""
    output, table = _call(images, indices, seed, epoch, policy, mean, std, size, dtype, return_draws=True)
    columns = dict(zip((field.name for field in dataclasses.fields(AugmentDraws)), table.unbind(1), strict=True))
    for name in ("flip", "affine", "dropout", "gray"):
        columns[name] = columns[name].bool()
    for name in ("hole_x", "hole_y"):
        columns[name] = columns[name].long()
    return output, AugmentDraws(**columns)


def _call(
    images: torch.Tensor,
    indices: torch.Tensor,
    seed: int,
    epoch: int | torch.Tensor,
    policy: AugmentPolicy,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    size: int,
    dtype: torch.dtype,
    return_draws: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    means, deviations = normalisation_constants(mean, std)
    return augment(
        images,
        indices,
        seed=seed,
        epoch=epoch,
        flip=policy.flip,
        affine=policy.affine,
        rotate_degrees=policy.rotate_degrees,
        shift=policy.shift,
        scale=policy.scale,
        by_axis=policy.affine_law == "albumentations-2",
        reflect=policy.border == "reflect-101",
        dropout=policy.dropout,
        dropout_size=policy.dropout_size,
        gray=policy.gray,
        hole_levels=dropout_fill(mean),
        mean=means,
        std=deviations,
        size=size,
        dtype=dtype,
        return_draws=return_draws,
    )
