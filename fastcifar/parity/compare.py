"""Every transform through every pair of backends: how far apart the pixels are, and how far they may be."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from fastcifar.augment.draws import AugmentDraws, sample_draws
from fastcifar.augment.policy import BORDERS, IDENTITY, AugmentPolicy
from fastcifar.parity.backends import Backend, Colour

COURSE = AugmentPolicy(affine=0.8, rotate_degrees=45.0, gray=0.2)
"""Every transform at albumentations' default strength."""
ALWAYS = {
    "flip": replace(IDENTITY, flip=1.0),
    "dropout": replace(IDENTITY, dropout=1.0),
    "gray": replace(IDENTITY, gray=1.0),
}
WITH_BORDER = {
    "affine, classic": replace(IDENTITY, affine=1.0, rotate_degrees=45.0),
    "affine, albumentations-2": replace(IDENTITY, affine=1.0, rotate_degrees=45.0, affine_law="albumentations-2"),
    "everything": COURSE,
}
JPEG_QUALITY = 92
IMAGES_A_CHUNK = 1000


@dataclass(frozen=True)
class Bound:
    """What a pair of backends may differ by."""

    largest: float
    """Grey levels."""
    share: float
    """Share of the values that may differ at all."""


EXACT = Bound(0, 0)
BOUNDS: dict[str, dict[str, Bound]] = {
    "dali": {
        # Float arithmetic of two libraries around a rounding: one value in 10,000 may fall to the other side.
        "affine, classic": Bound(1, 1e-4),
        "affine, albumentations-2": Bound(1, 1e-4),
        "everything": Bound(1, 1e-4),
        # Two builds of libjpeg-turbo may round differently.
        "decode JPEG": Bound(1, 1e-3),
    },
    "torch": {
        "affine, classic": Bound(1, 1e-3),
        "affine, albumentations-2": Bound(1, 1e-3),
        "gray": Bound(1, 1e-3),  # OpenCV's fixed-point weights
        # Rounded once at the end, where albumentations rounds after the affine and again to gray: of the values
        # that are both moved and gray (0.16 of all) about every fifth falls to the next level.
        "everything": Bound(1, 5e-2),
    },
}
"""By backend on the CPU and transform, against albumentations; all others are exact. For backends on a GPU nothing
has been measured yet, so nothing is promised."""


@dataclass(frozen=True)
class Difference:
    """A transform's results in two backends, in grey levels (normalised values times 255 std)."""

    transform: str
    border: str
    """"reflect-101", "constant", or "" where no border is met."""
    reference: str
    backend: str
    device: str
    largest: float
    mean: float
    p99: float
    share: float
    """Share of the values that differ."""
    bound: Bound | None

    @property
    def holds(self) -> bool | None:
        """Whether the bound is kept; None where there is none yet."""
        return None if self.bound is None else self.largest <= self.bound.largest and self.share <= self.bound.share


def compare_backends(
    images: np.ndarray,
    truth: Backend,
    others: Sequence[Backend],
    mean: Colour,
    std: Colour,
    borders: Sequence[str] = BORDERS,
    seed: int = 0,
) -> Iterator[Difference]:
    """Compare `others` with `truth`, transform by transform.

    images: uint8 [N, 32, 32, 3]; image i is given the draws of (seed, epoch 0, i).
    mean, std: of the data set, as fractions of 1.
    """
    cases = list(ALWAYS.items())
    cases += [(name, replace(policy, border=border)) for border in borders for name, policy in WITH_BORDER.items()]
    for name, policy in cases:

        def levels(backend: Backend, chunk: np.ndarray, draws: AugmentDraws, policy: AugmentPolicy = policy):
            return backend.levels(chunk, draws, policy, mean)

        border = policy.border if name in WITH_BORDER else ""
        yield from _differences(name, border, images, policy, seed, truth, others, levels)

    def normalised(backend: Backend, chunk: np.ndarray, draws: AugmentDraws) -> np.ndarray:
        return backend.normalised(chunk, mean, std)

    unit = 255 * np.array(std, dtype=np.float32)
    yield from _differences("normalise", "", images, IDENTITY, seed, truth, others, normalised, unit)
    decoders = [backend for backend in others if backend.decoded is not None]
    for kind in ("PNG", "JPEG"):

        def decode(backend: Backend, chunk: np.ndarray, draws: AugmentDraws, kind: str = kind) -> np.ndarray:
            assert backend.decoded is not None
            return backend.decoded([encoded(image, kind) for image in chunk])

        yield from _differences(f"decode {kind}", "", images, IDENTITY, seed, truth, decoders, decode)


def encoded(image: np.ndarray, kind: str) -> bytes:
    """A picture, uint8 [H, W, 3], as the bytes of a PNG or JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=kind, **({"quality": JPEG_QUALITY} if kind == "JPEG" else {}))
    return buffer.getvalue()


def _differences(
    transform: str,
    border: str,
    images: np.ndarray,
    policy: AugmentPolicy,
    seed: int,
    truth: Backend,
    others: Sequence[Backend],
    apply: Callable[[Backend, np.ndarray, AugmentDraws], np.ndarray],
    unit: np.ndarray | float = 1.0,
) -> Iterator[Difference]:
    found: list[list[np.ndarray]] = [[] for _ in others]
    for start in range(0, len(images), IMAGES_A_CHUNK):
        chunk = images[start : start + IMAGES_A_CHUNK]
        draws = sample_draws(policy, seed, 0, torch.arange(start, start + len(chunk)))
        expected = apply(truth, chunk, draws).astype(np.float32)
        for differences, backend in zip(found, others, strict=True):
            differences.append((np.abs(apply(backend, chunk, draws) - expected) * unit).ravel())
    for parts, backend in zip(found, others, strict=True):
        values = np.concatenate(parts)
        bounds = BOUNDS.get(backend.name, {})
        yield Difference(
            transform=transform,
            border=border,
            reference="Pillow" if transform.startswith("decode") else truth.name,
            backend=backend.name,
            device=backend.device,
            largest=float(values.max()),
            mean=float(values.mean(dtype=np.float64)),
            p99=float(np.percentile(values, 99)),
            share=float((values > 0).mean()),
            bound=bounds.get(transform, EXACT) if backend.device == "cpu" else None,
        )
