"""The backends behind one interface: uint8 images and draws in, uint8 grey levels out."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from fastcifar.augment import reference
from fastcifar.augment.draws import AugmentDraws
from fastcifar.augment.policy import IDENTITY, AugmentPolicy, dropout_fill
from fastcifar.augment.requirements import require_albumentations, require_dali

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Backend:
    """One implementation of the policy on one device."""

    name: str
    """"albumentations", "dali" or "torch"."""
    device: str
    """"cpu" or "cuda"."""
    levels: Callable[[np.ndarray, AugmentDraws, AugmentPolicy, Colour], np.ndarray]
    """(images uint8 [B, 32, 32, 3], draws on the CPU, policy, mean) to grey levels, uint8 of the same shape."""
    normalised: Callable[[np.ndarray, Colour, Colour], np.ndarray]
    """(images uint8 [B, 32, 32, 3], mean, std) to float32 of the same shape."""
    decoded: Callable[[list[bytes]], np.ndarray] | None = None
    """PNG or JPEG files to uint8 [B, 32, 32, 3]; None where the backend decodes nothing."""

    @property
    def title(self) -> str:
        return f"{self.name} ({self.device})"


def albumentations_backend() -> Backend:
    """albumentations with OpenCV; pictures are decoded by Pillow.

    Raises:
        DeviceError: albumentations 2.0.8 with OpenCV 5 is not installed.
    """
    require_albumentations()
    from fastcifar.augment import albumentations_backend as albumentations

    def levels(images: np.ndarray, draws: AugmentDraws, policy: AugmentPolicy, mean: Colour) -> np.ndarray:
        return albumentations.augmented_levels(images, draws, policy, dropout_fill(mean))

    def decoded(files: list[bytes]) -> np.ndarray:
        return np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])

    return Backend("albumentations", "cpu", levels, albumentations.normalised, decoded)


def torch_backend(device: str) -> Backend:
    """The reference in plain torch; its grey levels, unrounded until the end, are rounded once."""

    def levels(images: np.ndarray, draws: AugmentDraws, policy: AugmentPolicy, mean: Colour) -> np.ndarray:
        stored = torch.tensor(images, device=device)
        found = reference.augmented_levels(stored, draws.to(device), policy, dropout_fill(mean))
        return found.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    def normalised(images: np.ndarray, mean: Colour, std: Colour) -> np.ndarray:
        stored = torch.tensor(images, device=device)
        return reference.apply_draws(stored, None, IDENTITY, mean, std).permute(0, 2, 3, 1).cpu().numpy()

    return Backend("torch", device, levels, normalised)


def dali_backend(device: str) -> Backend:
    """NVIDIA DALI's operators, fed with the draws.

    Raises:
        DeviceError: DALI is not installed.
    """
    require_dali()
    from fastcifar.parity import dali_runs

    return Backend(
        "dali",
        device,
        lambda images, draws, policy, mean: dali_runs.levels(images, draws, policy, dropout_fill(mean), device),
        lambda images, mean, std: dali_runs.normalised(images, mean, std, device),
        lambda files: dali_runs.decoded(files, device),
    )
