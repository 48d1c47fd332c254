"""Write a data set for other programs: class folders of PNG, or WebDataset shards."""

import io
import tarfile
from pathlib import Path

import numpy as np

from fastcifar.atomic import written_whole
from fastcifar.dataset.image_set import Dataset, ImageSet, stratified_indices
from fastcifar.errors import UsageError

IMAGES_PER_SHARD = 10_000


def export_dataset(dataset: Dataset, target: Path, file_format: str, limit: int | None = None) -> int:
    """Export as "folders" or "webdataset"; see the two functions below."""
    formats = {"folders": export_folders, "webdataset": export_webdataset}
    if file_format not in formats:
        raise UsageError(f"--format {file_format}: no such format", f"there are {' and '.join(formats)}")
    return formats[file_format](dataset, target, limit)


def export_folders(dataset: Dataset, target: Path, limit: int | None = None) -> int:
    """Write `target/<split>/<class>/<number>.png` and return the number of images.

    The number is the image's place in its split.

    Args:
        limit: at most this many images of each split, evenly over the classes.

    Raises:
        UsageError: `target` is in use or cannot be written, or `limit` is below the number of classes.
    """
    _check_target(target)
    written = 0
    with written_whole(target) as partial:
        for split, images in (("train", dataset.train), ("test", dataset.test)):
            for name in dataset.classes:
                (partial / split / name).mkdir(parents=True)
            for index in _chosen(images, limit, len(dataset.classes)):
                folder = partial / split / dataset.classes[images.labels[index]]
                (folder / f"{index:05d}.png").write_bytes(png_bytes(images.images[index]))
                written += 1
    return written


def export_webdataset(dataset: Dataset, target: Path, limit: int | None = None) -> int:
    """Write shards `target/<split>-000000.tar`, ... and return the number of images.

    A sample is two members: `00000123.png`, and `00000123.cls` with the label in decimal digits; the
    number is the image's place in its split. `classes.txt` holds the class names, one a line. Shards
    carry no times or owners, so the same data give the same bytes.

    Args and errors: as for `export_folders`.
    """
    _check_target(target)
    written = 0
    with written_whole(target) as partial:
        partial.mkdir()
        (partial / "classes.txt").write_text("\n".join(dataset.classes) + "\n", encoding="utf-8")
        for split, images in (("train", dataset.train), ("test", dataset.test)):
            chosen = _chosen(images, limit, len(dataset.classes))
            for shard, start in enumerate(range(0, len(chosen), IMAGES_PER_SHARD)):
                _write_shard(partial / f"{split}-{shard:06d}.tar", images, chosen[start : start + IMAGES_PER_SHARD])
            written += len(chosen)
    return written


def _write_shard(path: Path, images: ImageSet, chosen: np.ndarray) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for index in chosen:
            sample = {"png": png_bytes(images.images[index]), "cls": b"%d" % images.labels[index]}
            for suffix, content in sample.items():
                member = tarfile.TarInfo(f"{index:08d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def png_bytes(image: np.ndarray) -> bytes:
    """A picture, uint8 [H, W, 3], as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _chosen(images: ImageSet, limit: int | None, classes: int) -> np.ndarray:
    count = len(images) if limit is None else min(limit, len(images))
    chosen = stratified_indices(images.labels, max(count, 0))
    if 0 in np.bincount(images.labels[chosen], minlength=classes):
        raise UsageError(f"--limit {limit} leaves a class without images", f"choose more than {classes}")
    return chosen


def _check_target(target: Path) -> None:
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise UsageError(f"{target}: is there already", "name a new or empty folder")
