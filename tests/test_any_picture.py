"""Pictures of every mode, size and orientation, against torchvision's resizing and hand-made pixels."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from fastcifar.dataset.any_picture import images_in, read_any_picture, read_thumbnail
from fastcifar.errors import DataError


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth blotches and fine noise: any shift or change of filter shows."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((width, height))
    noise = generator.integers(-30, 31, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8))


def read_saved(image: Image.Image, path: Path, **options) -> np.ndarray:
    image.save(path, **options)
    return read_any_picture(path)


@pytest.mark.parametrize("size", [(32, 32), (31, 45), (640, 427), (427, 640), (33, 32), (1, 1), (7, 300), (100, 101)])
def test_sizes_equal_torchvisions_resize_and_crop(tmp_path: Path, size: tuple[int, int]) -> None:
    image = photograph(*size)
    expected = np.asarray(Compose([Resize(32), CenterCrop(32)])(image)).astype(int)
    got = read_saved(image, tmp_path / "p.png")
    assert (got.dtype, got.shape) == (np.uint8, (32, 32, 3))
    assert np.abs(got - expected).max() <= 1  # where a weight is rounded the other way


def test_a_picture_of_32_pixels_is_left_alone(tmp_path: Path) -> None:
    image = photograph(32, 32)
    np.testing.assert_array_equal(read_saved(image, tmp_path / "p.png"), np.asarray(image))


def test_a_strip_of_a_hundred_thousand_pixels_takes_no_more_than_its_middle(tmp_path: Path) -> None:
    strip = np.zeros((1, 100_001, 3), dtype=np.uint8)
    strip[0, 50_000] = 255
    got = read_saved(Image.fromarray(strip), tmp_path / "p.png")
    tent = 255 * (1 - np.abs(np.arange(32) - 15.5) / 32)
    np.testing.assert_allclose(got, np.broadcast_to(tent[:, None], (32, 32, 3)), atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_says_which_way_is_up(tmp_path: Path, orientation: int) -> None:
    upright = photograph(48, 32)
    turns = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}
    stored = upright
    for turn in turns.get(orientation, []):
        stored = stored.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = read_saved(upright, tmp_path / "upright.png")
    np.testing.assert_array_equal(read_saved(stored, tmp_path / "p.png", exif=exif), expected)


def test_grey_palette_bilevel_and_sixteen_bits(tmp_path: Path) -> None:
    image = photograph(32, 32)
    grey = np.asarray(image.convert("L"))
    np.testing.assert_array_equal(read_saved(image.convert("L"), tmp_path / "l.png"), grey[..., None].repeat(3, 2))
    palette = image.quantize(64)
    np.testing.assert_array_equal(read_saved(palette, tmp_path / "p.gif"), np.asarray(palette.convert("RGB")))
    bilevel = image.convert("1")
    np.testing.assert_array_equal(read_saved(bilevel, tmp_path / "b.tiff")[..., 1], np.asarray(bilevel) * 255)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    for ending in ("png", "tiff", "pgm"):
        got = read_saved(deep, tmp_path / f"deep.{ending}")
        np.testing.assert_array_equal(got, grey[..., None].repeat(3, 2), ending)


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    pixels = np.asarray(photograph(32, 32))
    alpha = np.zeros((32, 32, 1), dtype=np.uint8)
    alpha[:, 8:] = 128
    alpha[:, 16:] = 255
    got = read_saved(Image.fromarray(np.concatenate([pixels, alpha], 2)), tmp_path / "p.png")
    assert got[:, :8].min() == 255
    mixed = pixels[:, 8:16] * (128 / 255) + 255 * (127 / 255)
    np.testing.assert_allclose(got[:, 8:16], mixed, atol=1)
    np.testing.assert_array_equal(got[:, 16:], pixels[:, 16:])
    palette = photograph(32, 32).quantize(4)
    shown = np.asarray(palette)
    got = read_saved(palette, tmp_path / "p.gif", transparency=2)
    assert got[shown == 2].min() == 255
    np.testing.assert_array_equal(got[shown != 2], np.asarray(palette.convert("RGB"))[shown != 2])


def test_cmyk_and_jpeg(tmp_path: Path) -> None:
    cmyk = photograph(64, 64).convert("CMYK")
    expected = np.asarray(Compose([Resize(32), CenterCrop(32)])(cmyk.convert("RGB"))).astype(int)
    np.testing.assert_allclose(read_saved(cmyk, tmp_path / "p.tiff"), expected, atol=1)
    got = read_saved(cmyk, tmp_path / "p.jpg", quality=100, subsampling=0)
    assert np.abs(got - expected).mean() < 2


def test_what_is_no_picture_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    photograph(64, 64).save(buffer, "jpeg")
    (tmp_path / "cut.jpg").write_bytes(buffer.getvalue()[:-400])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(np.full((32, 32), 0.5, dtype=np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray(np.full((32, 32), 1 << 20, dtype=np.int32)).save(tmp_path / "int.tiff")
    reasons = {
        "cut.jpg": "truncated",
        "text.png": "no image that pillow can read",
        "empty.png": "no image that pillow can read",
        "float.tiff": "mode F",
        "int.tiff": "mode I",
        "missing.png": "no such image",
    }
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=reason) as caught:
            read_any_picture(tmp_path / name)
        assert name in caught.value.what
    photograph(64, 64).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="more pixels"):
        read_any_picture(tmp_path / "large.png")


def test_a_folders_images(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.webp", "c.jpeg", ".hidden.png", "notes.txt", "d.pdf"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in images_in(tmp_path)] == ["a.webp", "b.PNG", "c.jpeg"]
    with pytest.raises(DataError, match="no images"):
        images_in(tmp_path / "folder.png")


@pytest.mark.parametrize(
    ("size", "expected"), [((640, 427), (64, 43)), ((427, 640), (43, 64)), ((40, 64), (40, 64)), ((9000, 3), (64, 1))]
)
def test_thumbnails_are_whole_and_never_enlarged(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = photograph(*size)
    image.save(tmp_path / "p.png")
    found = read_thumbnail(tmp_path / "p.png", 64)
    assert (found.dtype, found.shape) == (np.uint8, (*expected[::-1], 3))
    if size == expected:
        np.testing.assert_array_equal(found, np.asarray(image))
    else:
        smoothly = np.asarray(image.resize(expected, Image.Resampling.BOX), dtype=float)
        np.testing.assert_allclose(found.mean((0, 1)), smoothly.mean((0, 1)), atol=4)


def test_a_thumbnail_is_the_right_way_up_and_on_white(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGBA", (30, 20), (200, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 15, 20))
    image.save(tmp_path / "p.png", exif=exif)
    found = read_thumbnail(tmp_path / "p.png", 100)
    assert found.shape == (30, 20, 3)
    assert (found[:15] == (0, 0, 255)).all()
    assert (found[15:] == 255).all()
    with pytest.raises(DataError, match=r"nowhere\.png: no such image"):
        read_thumbnail(tmp_path / "nowhere.png", 100)
