"""The optional packages behind two backends: whether the right ones are installed, and what to do if not."""

import importlib.metadata
import os

from fastcifar.errors import DeviceError

PARITY = "pip install '.[parity]'"
DALI = "pip install '.[dali-cuda130]', or '.[dali]' for CUDA 12"

ALBUMENTATIONS = "2.0.8"
"""The last release under the MIT licence, and the one whose formulas the parity checks were measured with."""

OLDEST_DALI = (2, 4)
"""The release that everything was tried with; 1.41, for one, warps with reflected borders on a GPU only."""


def require_albumentations() -> str:
    """Make sure that `import albumentations` will find albumentations 2.0.8 with OpenCV 5; says what was found.

    Raises:
        DeviceError: it is missing, of another version, is AlbumentationsX (AGPL, under the same import name), or would
            run on OpenCV 4, whose fixed-point warp differs from exact bilinear sampling by up to 5 grey levels.
    """
    if installed_version("albumentationsx") is not None:
        raise DeviceError(
            "albumentationsx is installed: another package under AGPL with the import name albumentations",
            f"pip uninstall albumentationsx, then {PARITY}",
        )
    found = installed_version("albumentations")
    if found is None:
        raise DeviceError("albumentations is not installed", PARITY)
    if found != ALBUMENTATIONS:
        raise DeviceError(f"albumentations {found} is installed, not {ALBUMENTATIONS}", PARITY)
    opencv = [installed_version(f"opencv-{kind}") for kind in ("python-headless", "python", "contrib-python")]
    versions = [version for version in opencv if version is not None]
    if not versions or min(int(version.split(".")[0]) for version in versions) < 5:
        raise DeviceError(f"OpenCV {' and '.join(versions) or 'of unknown version'} is installed, not 5", PARITY)
    # Its import would otherwise ask the package index for a newer version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    return f"{found}, OpenCV {versions[0]}"


def require_dali() -> str:
    """Make sure that `import nvidia.dali` will work; says what was found.

    Raises:
        DeviceError: it is missing or older than 2.4.
    """
    versions = [installed_version(f"nvidia-dali-cuda{cuda}") for cuda in ("130", "120")]
    found = next((version for version in versions if version is not None), None)
    if found is None:
        raise DeviceError("NVIDIA DALI is not installed", DALI)
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST_DALI:
        raise DeviceError(f"NVIDIA DALI {found} is installed, older than 2.4", DALI)
    return found


def installed_version(distribution: str) -> str | None:
    """Version of a package as its metadata have it; None where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
