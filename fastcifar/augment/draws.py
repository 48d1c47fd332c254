"""AugmentDraws: all the randomness of a batch, a function of (seed, epoch, image index) and nothing else.

The contract for every other implementation, to the bit:

    words = philox4x32_10(counter=(image index, epoch, block, 0), key=(seed's low 32 bits, its high 32 bits))

    block   lane 0      lane 1         lane 2                 lane 3
    0       flip coin   affine coin    dropout coin           gray coin
    1       angle       scale          shift x                shift y
    2       hole x      hole y         scale y                unused

A lane belongs to its draw whether or not the coin fell, so no setting moves another draw. From a lane's word:

    k = word >> 8                         integer, 24 bits
    u = k * 2^-24                         float32, exact, in [0, 1)
    v = 2 u - 1                           float32, exact, in [-1, 1)
    coin    = u < p                       float32
    angle   = v * rotate_degrees          one float32 rounding; degrees
    scale   = 1 + v * scale               two float32 roundings: product, then sum (no fused multiply-add)
    shift   = v * (32 shift)              one float32 rounding; pixels; 32 shift is computed in float64
              albumentations-2: then cut towards 0 to a whole number
    hole    = k * (33 - size) >> 24       integers: uniform over 0 .. 32 - size, both ends included

The classic law has one scale for both axes; "scale y" is drawn all the same, and used by albumentations-2 only.
Every setting of the policy (p, rotate_degrees, scale, 32 shift) is rounded to float32 before it is used.
"""

import ctypes
import math
from dataclasses import dataclass, fields

import torch

from fastcifar.augment.philox import AUGMENT_STREAM, key_from_seed, philox4x32
from fastcifar.augment.policy import IMAGE_SIZE, AugmentPolicy

PIXEL_CENTRE = (IMAGE_SIZE - 1) / 2
"""Centre of the image where a pixel's own centre has whole coordinates (OpenCV): 15.5."""


@dataclass(frozen=True, eq=False)
class AugmentDraws:
    """What happens to each image of a batch; every tensor is [B], on the device of the indices drawn for.

    Where `affine` is False the motion is the identity (angle 0, scale 1, shift 0). The hole's corner is drawn
    always and means something only where `dropout` is True.
    """

    flip: torch.Tensor
    """bool: mirrored left to right, before the affine."""
    affine: torch.Tensor
    """bool: rotated, scaled and shifted."""
    angle_degrees: torch.Tensor
    """float32: above 0 turns counter-clockwise on the screen."""
    scale_x: torch.Tensor
    """float32: factor along the stored image's rows; above 1 magnifies. The scale comes before the rotation."""
    scale_y: torch.Tensor
    """float32: factor along its columns; the classic law's is `scale_x`."""
    shift_x: torch.Tensor
    """float32: pixels of the 32 x 32 image, above 0 to the right."""
    shift_y: torch.Tensor
    """float32: pixels of the 32 x 32 image, above 0 downwards."""
    dropout: torch.Tensor
    """bool: has a hole."""
    hole_x: torch.Tensor
    """int64: the hole's leftmost pixel column in the 32 x 32 image."""
    hole_y: torch.Tensor
    """int64: the hole's topmost pixel row in the 32 x 32 image."""
    gray: torch.Tensor
    """bool: turned to gray, after the hole was filled."""

    def to(self, device: torch.device | str) -> "AugmentDraws":
        """The same draws on another device."""
        return AugmentDraws(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def sample_draws(policy: AugmentPolicy, seed: int, epoch: int | torch.Tensor, indices: torch.Tensor) -> AugmentDraws:
    """The draws of the images `indices` (int64 [B], each below 2**32) in one epoch, on the indices' device.

    seed: 0 .. 2**64 - 1. epoch: 0 .. 2**32 - 1, or one int64 on the device. Nothing waits for the device.
    """
    blocks = torch.arange(3, device=indices.device)[:, None]
    words = philox4x32((indices, epoch, blocks, AUGMENT_STREAM), key_from_seed(seed))
    fractions = torch.stack([torch.as_tensor(word) for word in words], dim=1) >> 8  # [block, lane, B]
    uniform = fractions.to(torch.float32) * 2.0**-24

    flip, affine, dropout, gray = (
        lane < _float32(p)
        for lane, p in zip(uniform[0], (policy.flip, policy.affine, policy.dropout, policy.gray), strict=True)
    )
    angle, scale_x, shift_x, shift_y = uniform[1] * 2 - 1
    scale_y = uniform[2, 2] * 2 - 1 if policy.affine_law == "albumentations-2" else scale_x
    max_shift = _float32(policy.shift * IMAGE_SIZE)
    shift_x, shift_y = shift_x * max_shift, shift_y * max_shift
    if policy.affine_law == "albumentations-2":
        shift_x, shift_y = shift_x.trunc(), shift_y.trunc()
    places = IMAGE_SIZE - policy.dropout_size + 1
    hole_x, hole_y = fractions[2, :2] * places >> 24
    rests = ~affine
    return AugmentDraws(
        flip=flip,
        affine=affine,
        angle_degrees=(angle * _float32(policy.rotate_degrees)).masked_fill(rests, 0.0),
        scale_x=(scale_x * _float32(policy.scale) + 1).masked_fill(rests, 1.0),
        scale_y=(scale_y * _float32(policy.scale) + 1).masked_fill(rests, 1.0),
        shift_x=shift_x.masked_fill(rests, 0.0),
        shift_y=shift_y.masked_fill(rests, 0.0),
        dropout=dropout,
        hole_x=hole_x,
        hole_y=hole_y,
        gray=gray,
    )


def inverse_affine(draws: AugmentDraws, centre: float = PIXEL_CENTRE) -> torch.Tensor:
    """Matrices [B, 2, 3], float64: (x, y, 1) in the moved image to (x, y) in the image before the affine.

    They invert M = T(c) T(t) R S T(-c), the form of albumentations' ShiftScaleRotate: about the centre c of
    the image, first the scale S = diag(scale x, scale y), then the rotation R = [[cos a, sin a], [-sin a, cos a]]
    (y points down), then the shift t. The flip, which comes before, is not included.

    centre: 15.5 for pixel-centre coordinates (OpenCV; DALI's pixel_origin="center"), 16 for pixel-corner ones
        (DALI's "corner"), 0 for coordinates measured from the image's centre.
    """
    radians = draws.angle_degrees.double() * (math.pi / 180)
    cos, sin = radians.cos(), radians.sin()
    dx, dy = draws.shift_x.double() + centre, draws.shift_y.double() + centre
    along_x, along_y = 1 / draws.scale_x.double(), 1 / draws.scale_y.double()
    xx, xy, yx, yy = cos * along_x, -sin * along_x, sin * along_y, cos * along_y
    rows = (xx, xy, centre - xx * dx - xy * dy, yx, yy, centre - yx * dx - yy * dy)
    return torch.stack(rows, dim=-1).unflatten(-1, (2, 3))


def _float32(value: float) -> float:
    return ctypes.c_float(value).value
