"""The optional packages: the right ones are accepted, others refused with a way out."""

import pytest

from fastcifar.augment import requirements
from fastcifar.augment.requirements import require_albumentations, require_dali
from fastcifar.errors import DeviceError

RIGHT = {"albumentations": "2.0.8", "opencv-python-headless": "5.0.0.93"}


@pytest.fixture
def installed(monkeypatch):
    """Calls that pretend that exactly these distributions are installed."""
    return lambda versions: monkeypatch.setattr(requirements, "installed_version", versions.get)


@pytest.mark.parametrize("opencv", ["opencv-python-headless", "opencv-python", "opencv-contrib-python"])
def test_albumentations_with_any_opencv_5_is_accepted(installed, opencv):
    installed({"albumentations": "2.0.8", opencv: "5.1.0"})
    assert require_albumentations() == "2.0.8, OpenCV 5.1.0"


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ({}, "albumentations is not installed"),
        (RIGHT | {"albumentationsx": "2.5.1"}, "albumentationsx is installed.*AGPL.*uninstall"),
        (RIGHT | {"albumentations": "1.4.18"}, "albumentations 1.4.18 is installed, not 2.0.8"),
        (RIGHT | {"opencv-python-headless": "4.14.0.94"}, "OpenCV 4.14.0.94"),
        (RIGHT | {"opencv-python": "4.9.0.80"}, "OpenCV 5.0.0.93 and 4.9.0.80"),
        ({"albumentations": "2.0.8"}, "OpenCV of unknown version"),
    ],
)
def test_anything_else_is_refused(installed, versions, message):
    installed(versions)
    with pytest.raises(DeviceError, match=message):
        require_albumentations()


def test_dali(installed):
    installed({"nvidia-dali-cuda120": "2.4.0"})
    assert require_dali() == "2.4.0"
    installed({})
    with pytest.raises(DeviceError, match=r"not installed.*dali-cuda130"):
        require_dali()
    for old in ("1.53.0", "2.3.1"):
        installed({"nvidia-dali-cuda130": old})
        with pytest.raises(DeviceError, match=old):
            require_dali()
