"""Where data is looked for, which layout wins, and what is said when there is none."""

import numpy as np
import pytest
from fake_cifar10 import assert_same, binary_files, fake_dataset, python_files, shrink, tarball, write_files
from PIL import Image

from fastcifar.dataset import load
from fastcifar.dataset.export import export_folders, export_webdataset
from fastcifar.dataset.importer import import_dataset
from fastcifar.dataset.layouts import find_layouts
from fastcifar.dataset.load import find_dataset, load_dataset
from fastcifar.dataset.npz import write_npz
from fastcifar.dataset.obtain import obtain_dataset
from fastcifar.dataset.shapes10 import make_shapes10
from fastcifar.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Small files, an empty working folder, an empty cache, and no data named by the environment."""
    shrink(monkeypatch)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("FASTCIFAR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTCIFAR_DATA_DIR", raising=False)
    return tmp_path / "cache"


def all_layouts(root, dataset):
    """Every layout in one folder; all but the .npz in their usual subfolders."""
    write_npz(dataset, root / "cifar10.npz")
    write_files(root / "cifar-10-batches-bin", binary_files(dataset))
    write_files(root / "cifar-10-batches-py", python_files(dataset))
    (root / "cifar-10-binary.tar.gz").write_bytes(tarball(binary_files(dataset)))
    (root / "cifar-10-python.tar.gz").write_bytes(tarball(python_files(dataset)))
    export_folders(dataset, root / "export")
    for split in ("train", "test"):
        (root / "export" / split).rename(root / split)
    export_webdataset(dataset, root / "export")
    for file in (root / "export").iterdir():
        file.rename(root / file.name)
    return root


def test_every_layout_is_found_and_holds_the_same_images(tmp_path):
    dataset = fake_dataset()
    layouts = find_layouts(all_layouts(tmp_path / "all", dataset))
    kinds = [layout.kind for layout in layouts]
    assert kinds == ["npz", "binary", "tarball", "webdataset", "class folders", "python", "tarball"]
    for layout in layouts:
        read = layout.read()
        assert read.name == "cifar10"
        if layout.kind == "class folders":
            assert read.train.class_counts(10) == [10] * 10
        else:
            assert_same(read, dataset)


def test_layouts_without_pickle_come_first(tmp_path):
    layouts = find_layouts(all_layouts(tmp_path / "all", fake_dataset()))
    assert [layout.path.name for layout in layouts][-2:] == ["cifar-10-batches-py", "cifar-10-python.tar.gz"]


@pytest.mark.parametrize("part", ["cifar-10-batches-bin", "cifar-10-python.tar.gz", "cifar10.npz", ""])
def test_data_dir_may_be_the_folder_around_it_or_the_thing_itself(tmp_path, part):
    dataset = fake_dataset()
    assert_same(load_dataset("cifar10", str(all_layouts(tmp_path / "all", dataset) / part)), dataset)


def test_search_order(tmp_path, cache, monkeypatch):
    seeds = {"cache": cache, "data": tmp_path / "work" / "data", "named": tmp_path / "named", "flag": tmp_path / "flag"}
    for seed, (place, folder) in enumerate(seeds.items()):
        write_files(folder, binary_files(fake_dataset(seed)))
        if place == "named":
            monkeypatch.setenv("FASTCIFAR_DATA_DIR", str(folder))
        flag = str(folder) if place == "flag" else None
        assert_same(load_dataset("cifar10", flag), fake_dataset(seed))


def test_damage_is_reported_instead_of_using_another_copy(tmp_path):
    root = all_layouts(tmp_path / "all", fake_dataset())
    (root / "cifar10.npz").unlink()
    (root / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    with pytest.raises(DataError, match=r"cifar-10-batches-bin/test_batch\.bin: missing"):
        load_dataset("cifar10", str(root))


def test_nothing_found_says_where_it_looked_and_what_to_do(cache):
    with pytest.raises(DataError, match=r"fastcifar data download") as failure:
        load_dataset("cifar10")
    for words in ("./data", str(cache), "--data-dir", "--dataset shapes10"):
        assert words in str(failure.value)
    with pytest.raises(DataError) as failure:
        load_dataset("cifar10", offline=True)
    assert "download" not in str(failure.value)


@pytest.mark.parametrize("by_environment", [True, False])
def test_a_named_folder_must_hold_it(tmp_path, cache, monkeypatch, by_environment):
    write_files(cache, binary_files(fake_dataset()))
    empty = tmp_path / "empty"
    empty.mkdir()
    name = "FASTCIFAR_DATA_DIR" if by_environment else "--data-dir"
    for place, problem in ((empty, "holds no CIFAR-10"), (tmp_path / "nowhere", "no such file or folder")):
        monkeypatch.setenv("FASTCIFAR_DATA_DIR", str(place))
        with pytest.raises(DataError, match=f"{name} {place}: {problem}"):
            load_dataset("cifar10", None if by_environment else str(place))


def test_foreign_file_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"notes\.txt: holds no CIFAR-10"):
        load_dataset("cifar10", str(tmp_path / "notes.txt"))


def test_other_data_is_used_only_when_named(tmp_path):
    folder = tmp_path / "work" / "data"
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(folder / split / name / "0.png")
    with pytest.raises(DataError, match="holds data, not CIFAR-10"):
        load_dataset("cifar10")
    assert load_dataset("cifar10", "data").name == "data"


@pytest.mark.parametrize("write", [export_folders, export_webdataset])
def test_a_named_folder_may_hold_just_the_folder_that_has_it(tmp_path, cache, monkeypatch, write):
    """As archives unpack: CIFAR-10-images-master/{train,test}."""
    around = tmp_path / "unpacked"
    write(fake_dataset(), around / "CIFAR-10-images-master")
    (around / ".cache").mkdir()
    (around / "readme.txt").write_text("")
    loaded = load_dataset("cifar10", str(around))
    assert loaded.name == "cifar10"
    assert str(around / "CIFAR-10-images-master") in loaded.source
    (found,) = find_dataset("cifar10", str(around))["searched"][0]["found"]
    assert found["path"] == str(around / "CIFAR-10-images-master")
    assert_same(import_dataset(around)[1], loaded)
    monkeypatch.setenv("FASTCIFAR_DATA_DIR", str(around))
    assert_same(load_dataset("cifar10"), loaded)
    (around / "another").mkdir()
    with pytest.raises(DataError, match="holds no CIFAR-10"):
        load_dataset("cifar10", str(around))


def test_what_lies_deeper_in_a_folder_that_nobody_named_is_left_alone(tmp_path):
    export_folders(fake_dataset(), tmp_path / "work" / "data" / "pets")
    with pytest.raises(DataError, match="not found"):
        load_dataset("cifar10")


def test_shards_are_found_named_and_imported(tmp_path, cache):
    dataset = fake_dataset()
    shards = tmp_path / "shards"
    export_webdataset(dataset, shards)
    record = find_dataset("cifar10", str(shards))
    assert record["searched"][0]["found"] == [{"layout": "webdataset", "path": str(shards)}]
    assert record["source"] == load_dataset("cifar10", str(shards)).source == f"webdataset, {shards}"
    import_dataset(shards)
    assert_same(load_dataset("cifar10"), dataset)


def test_find_tells_the_same_as_load(tmp_path, cache):
    write_files(cache, binary_files(fake_dataset()))
    record = find_dataset("cifar10")
    assert [place["from"] for place in record["searched"]] == ["./data", "cache"]
    assert record["searched"][1]["found"] == [{"layout": "binary", "path": str(cache)}]
    assert record["source"] == load_dataset("cifar10").source == f"binary, {cache}"


def test_names(monkeypatch):
    monkeypatch.setattr(load, "make_shapes10", lambda: make_shapes10(10, 10))
    assert load_dataset("shapes10").name == "shapes10"
    with pytest.raises(UsageError, match="mnist"):
        load_dataset("mnist")
    with pytest.raises(UsageError, match="--data-dir"):
        load_dataset("shapes10", "somewhere")


def test_import_puts_cifar10_where_it_is_found(tmp_path, cache):
    dataset = fake_dataset()
    source = write_files(tmp_path / "cifar-10-batches-py", python_files(dataset))
    written, imported = import_dataset(source)
    assert written == cache / "cifar10.npz"
    assert imported.source == f"python, {source}"
    found = load_dataset("cifar10")
    assert_same(found, dataset)
    assert found.source == f"npz, {written}"


@pytest.mark.parametrize(("to", "written"), [("keep", "keep/cifar10.npz"), ("keep/it.npz", "keep/it.npz")])
def test_import_to_a_folder_or_file(tmp_path, to, written):
    source = write_files(tmp_path / "in", binary_files(fake_dataset()))
    path, _ = import_dataset(source, tmp_path / to)
    assert path == tmp_path / written
    assert load_dataset("cifar10", str(path)).name == "cifar10"


def test_import_of_damaged_data_writes_nothing(tmp_path, cache):
    files = binary_files(fake_dataset())
    files["data_batch_5.bin"] = files["data_batch_5.bin"][:-1]
    with pytest.raises(DataError, match=r"data_batch_5\.bin: truncated"):
        import_dataset(write_files(tmp_path / "in", files))
    for missing in ("nowhere", "work"):
        with pytest.raises(DataError, match=missing):
            import_dataset(tmp_path / missing)
    assert not cache.exists()


def test_images_are_ready_to_use(tmp_path):
    for layout in find_layouts(all_layouts(tmp_path / "all", fake_dataset())):
        images = layout.read().train
        assert images.images.flags.c_contiguous
        assert images.labels.dtype == np.int64


class TestObtain:
    """Training downloads CIFAR-10 only where nobody said where it is and nobody forbade it."""

    @pytest.fixture
    def downloads(self, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
        calls: list[bool] = []
        monkeypatch.setattr("fastcifar.dataset.obtain.download_cifar10", lambda progress: calls.append(progress))
        return calls

    def test_it_downloads_where_nothing_is_found_and_says_so_first(self, clean_environment, downloads) -> None:
        lines: list[str] = []
        with pytest.raises(DataError, match="not found"):  # the stand-in delivers nothing
            obtain_dataset("cifar10", None, False, lines.append, progress=True)
        assert downloads == [True]
        assert len(lines) == 1
        assert "170 MB" in lines[0]

    def test_it_never_does_offline_or_for_a_named_place_or_a_built_in_set(
        self, clean_environment, downloads, tmp_path
    ) -> None:
        with pytest.raises(DataError):
            obtain_dataset("cifar10", None, True, print)
        with pytest.raises(DataError):
            obtain_dataset("cifar10", str(tmp_path), False, print)
        obtain_dataset("shapes10", None, False, print)
        assert downloads == []
