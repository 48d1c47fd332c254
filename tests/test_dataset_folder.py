"""Class folders: labels from folder names, other people's habits, and bad pictures named."""

import os

import numpy as np
import pytest
from fake_cifar10 import fake_dataset, shrink
from PIL import Image

from fastcifar.dataset.cifar10 import CLASSES
from fastcifar.dataset.encoded import ImageFiles
from fastcifar.dataset.folder import is_class_folders, read_class_folders
from fastcifar.errors import DataError


def write_folders(root, names, per_class=2, suffix=".png", **save_options):
    """One colour a class: class k is filled with 10 k."""
    for split in ("train", "test"):
        for label, name in enumerate(names):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                picture = Image.new("RGB", (32, 32), (10 * label, 20, number))
                picture.save(folder / f"{number}{suffix}", **save_options)
    return root


def test_labels_follow_the_names_and_the_set_keeps_its_own(tmp_path):
    dataset = read_class_folders(write_folders(tmp_path / "pets", ["cat", "dog", "newt"]))
    assert dataset.classes == ("cat", "dog", "newt")
    assert dataset.name == "pets"
    np.testing.assert_array_equal(dataset.train.labels, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(dataset.train.images[:, 0, 0, 0], [0, 0, 10, 10, 20, 20])
    np.testing.assert_array_equal(dataset.train.images[:, 31, 31, 2], [0, 1, 0, 1, 0, 1])


def test_numbers_sort_as_numbers(tmp_path):
    names = [str(number) for number in range(11)]
    dataset = read_class_folders(write_folders(tmp_path, names, per_class=1))
    assert dataset.classes == tuple(names)
    np.testing.assert_array_equal(dataset.test.images[:, 0, 0, 0], [10 * number for number in range(11)])


@pytest.mark.parametrize(
    "names",
    [
        list(CLASSES),
        [str(label) for label in range(10)],
        ["plane", "car", *CLASSES[2:]],
        [name.upper() for name in CLASSES],
    ],
)
def test_cifar10_is_recognised_by_any_of_its_names(tmp_path, monkeypatch, names):
    shrink(monkeypatch)
    dataset = read_class_folders(write_folders(tmp_path / "mine", names, per_class=2))
    assert dataset.classes == CLASSES
    np.testing.assert_array_equal(dataset.test.images[:, 0, 0, 0] // 10, dataset.test.labels)
    assert dataset.name == "mine", "a part of CIFAR-10 does not pass for all of it"


def test_complete_cifar10_gets_its_name(tmp_path, monkeypatch):
    shrink(monkeypatch)
    write_folders(tmp_path, CLASSES, per_class=2)
    for label, name in enumerate(CLASSES):
        for number in range(2, 10):
            Image.new("RGB", (32, 32), (label, 0, 0)).save(tmp_path / "train" / name / f"{number}.png")
    assert read_class_folders(tmp_path).name == "cifar10"


def test_a_part_in_a_folder_called_cifar10_is_renamed(tmp_path):
    assert read_class_folders(write_folders(tmp_path / "cifar10", CLASSES)).name == "own-cifar10"


@pytest.mark.parametrize("names", [CLASSES, sorted(CLASSES, reverse=True)])
@pytest.mark.parametrize("pattern", ["{}_{}", "{:02d} {}", "{}.{}"])
def test_numbered_names_train_under_their_own_names(tmp_path, names, pattern):
    """`0_airplane` looks like CIFAR-10, but nothing says that it is."""
    folders = [pattern.format(label, name) for label, name in enumerate(names)]
    dataset = read_class_folders(write_folders(tmp_path / "mine", folders))
    assert dataset.classes == tuple(folders)
    assert dataset.name == "mine"
    np.testing.assert_array_equal(dataset.train.images[:, 0, 0, 0], 10 * dataset.train.labels)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".Png"])
def test_png_in_any_case(tmp_path, suffix):
    assert len(read_class_folders(write_folders(tmp_path, ["a", "b"], suffix=suffix)).train) == 4


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jpeg", ".JPEG", ".Jpeg"])
def test_jpeg(tmp_path, suffix):
    dataset = read_class_folders(write_folders(tmp_path, ["a", "b"], suffix=suffix, quality=100, subsampling=0))
    with Image.open(tmp_path / f"train/b/0{suffix}") as picture:
        np.testing.assert_array_equal(dataset.train.images[2], np.asarray(picture))
    assert np.abs(dataset.train.images[2].astype(int) - [10, 20, 0]).max() <= 3


def test_grey_and_palette_pictures_become_rgb(tmp_path):
    write_folders(tmp_path, ["a", "b"])
    random = np.random.default_rng(0)
    grey = random.integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "train/a/0.png")
    colours = Image.fromarray(np.repeat(grey[:, :, None] // 128 * 255, 3, axis=2))
    colours.convert("P").save(tmp_path / "train/a/1.png")
    images = read_class_folders(tmp_path).train.images
    np.testing.assert_array_equal(images[0], np.repeat(grey[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(images[1], np.asarray(colours))


def test_grey_jpeg(tmp_path):
    write_folders(tmp_path, ["a", "b"])
    grey = Image.linear_gradient("L").resize((32, 32))
    grey.save(tmp_path / "train/b/0.jpg", quality=95)
    (tmp_path / "train/b/0.png").unlink()
    read = read_class_folders(tmp_path).train.images[2]
    with Image.open(tmp_path / "train/b/0.jpg") as picture:
        assert picture.mode == "L"
        np.testing.assert_array_equal(read, np.repeat(np.asarray(picture)[:, :, None], 3, axis=2))


def test_every_image_knows_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(write_folders(tmp_path / "pets", ["cat", "dog"], per_class=3).parent)
    train = read_class_folders(tmp_path / "pets").train
    relative = read_class_folders((tmp_path / "pets").relative_to(tmp_path)).train
    expected = [tmp_path / f"pets/train/{name}/{number}.png" for name in ("cat", "dog") for number in range(3)]
    for images in (train, relative):
        assert isinstance(images.encoded, ImageFiles)
        assert [row.tobytes().rstrip(b"\0") for row in images.encoded.paths] == [os.fsencode(p) for p in expected]


def test_hidden_files_and_notes_are_ignored(tmp_path):
    write_folders(tmp_path, ["a", "b"])
    (tmp_path / "train/a/.DS_Store").write_bytes(b"x")
    (tmp_path / "train/a/._0.png").write_bytes(b"x")
    (tmp_path / "train/a/readme.txt").write_bytes(b"x")
    (tmp_path / "train/.hidden").mkdir()
    assert len(read_class_folders(tmp_path).train) == 4


def damage(root, kind):
    path = root / "train/b/1.png"
    if kind == "truncated":
        noise = fake_dataset().train.images[0]
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:-500])
    elif kind == "text":
        path.write_text("no picture")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "gif":
        Image.new("RGB", (32, 32)).save(path, format="GIF")
    elif kind == "size":
        Image.new("RGB", (32, 28)).save(path)
    elif kind == "alpha":
        Image.new("RGBA", (32, 32)).save(path)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("truncated", "damaged, or no PNG or JPEG"),
        ("text", "damaged, or no PNG or JPEG"),
        ("empty", "damaged, or no PNG or JPEG"),
        ("gif", "damaged, or no PNG or JPEG"),
        ("size", r"is 32x28 pixels instead of 32x32 \(resize"),
        ("alpha", r"is a picture of mode RGBA \(store it as 8-bit RGB"),
    ],
)
def test_bad_picture_is_named(tmp_path, kind, problem):
    write_folders(tmp_path, ["a", "b"])
    damage(tmp_path, kind)
    with pytest.raises(DataError, match=rf"train/b/1\.png: {problem}"):
        read_class_folders(tmp_path)


def test_splits_must_have_the_same_classes(tmp_path):
    write_folders(tmp_path, ["a", "b"])
    (tmp_path / "train/c").mkdir()
    with pytest.raises(DataError, match=r"test: has no class folder c"):
        read_class_folders(tmp_path)


def test_empty_class_is_named(tmp_path):
    write_folders(tmp_path, ["a", "b"])
    for file in (tmp_path / "test/b").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"test/b: holds no images"):
        read_class_folders(tmp_path)


def test_recognition_needs_both_splits(tmp_path):
    write_folders(tmp_path, ["a", "b"])
    assert is_class_folders(tmp_path)
    (tmp_path / "test").rename(tmp_path / "dev")
    assert not is_class_folders(tmp_path)
    (tmp_path / "train").rename(tmp_path / "test")
    assert not is_class_folders(tmp_path)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_stands_in_for_a_missing_test(tmp_path, name):
    write_folders(tmp_path, ["a", "b"])
    (tmp_path / "test").rename(tmp_path / name)
    (tmp_path / name / "b" / "1.png").unlink()
    dataset = read_class_folders(tmp_path)
    assert dataset.test.labels.tolist() == [0, 0, 1]
    assert dataset.source.endswith(f", {name} as test set")
    (tmp_path / name / "b").rename(tmp_path / name / "c")
    with pytest.raises(DataError, match=rf"(train|{name}): has no class folder"):
        read_class_folders(tmp_path)


def test_a_test_split_is_not_passed_over_for_a_validation_split(tmp_path):
    write_folders(tmp_path, ["a", "b"])
    write_folders(tmp_path / "other", ["a", "b"], per_class=5)
    (tmp_path / "other" / "test").rename(tmp_path / "val")
    dataset = read_class_folders(tmp_path)
    assert len(dataset.test) == 4
    assert dataset.source == f"class folders, {tmp_path}"


def test_an_unreadable_picture_is_named(tmp_path):
    write_folders(tmp_path, ["a", "b"])
    (tmp_path / "train/b/2.png").mkdir()
    with pytest.raises(DataError, match=r"train/b/2\.png: cannot be read, Is a directory"):
        read_class_folders(tmp_path)
