"""The images of a benchmark as files: class folders of PNG and of JPEG, and WebDataset shards."""

from pathlib import Path

from PIL import Image

from fastcifar.dataset.export import export_folders, export_webdataset
from fastcifar.dataset.image_set import Dataset

JPEG_QUALITY = 95


def write_compressed(dataset: Dataset, target: Path) -> dict[str, Path]:
    """Write `target/png`, `target/jpeg` and `target/shards`; returns their paths by these names."""
    paths = {name: target / name for name in ("png", "jpeg", "shards")}
    export_folders(dataset, paths["png"])
    for png in paths["png"].rglob("*.png"):
        jpeg = paths["jpeg"] / png.relative_to(paths["png"]).with_suffix(".jpg")
        jpeg.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(png) as image:
            image.save(jpeg, quality=JPEG_QUALITY)
    export_webdataset(dataset, paths["shards"])
    return paths
