"""Exported files, read by their own runtimes: the same logits for any batch, and standard operators only."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_cli import Cli, cli  # noqa: F401 - the fixture
from torch import nn
from trained_runs import MEAN, STD, make_run, random_model

from fastcifar import export_formats
from fastcifar.dataset.cifar10 import CLASSES
from fastcifar.errors import FastcifarError
from fastcifar.export import export
from fastcifar.export_formats import FORMATS
from fastcifar.model.registry import MODELS

BATCHES = (1, 5, 64)
VARIED = ["c1c2c3c40-accuracy", "assignment-671k", "assignment-98k-group", "assignment-98k-layer"]
"""Residual and dilated layers, max-pooling, and both other normalisations: an ONNX file takes long to make."""


def onnx_packages() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install '.[onnx]'")


@pytest.mark.parametrize(
    ("name", "fold"),
    [
        ("c1c2c3c40-speed", False),
        ("c1c2c3c40-speed", True),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in MODELS if name != "c1c2c3c40-speed"),
    ],
)
def test_a_pt2_file_gives_the_same_logits(tmp_path: Path, name: str, fold: bool) -> None:
    model = random_model(name)
    record = export(make_run(tmp_path, model, name), "pt2", fold=fold)
    extra = {"fastcifar.json": ""}
    program = torch.export.load(tmp_path / "last.pt2", extra_files=extra)
    for batch in BATCHES:
        images = torch.randn(batch, 3, 32, 32)
        torch.testing.assert_close(program.module()(images), model(images), rtol=1e-4, atol=1e-4)
    operators = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert {operator.split(".")[0] for operator in operators} == {"aten"}
    if name.startswith("c1c2c3c40"):
        assert ("aten.batch_norm.default" in operators) is not fold
    assert json.loads(extra["fastcifar.json"]) == record["metadata"]
    assert (record["metadata"]["mean"], record["metadata"]["classes"]) == (MEAN, list(CLASSES))
    assert record["bytes"] == (tmp_path / "last.pt2").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIED)
def test_an_onnx_file_gives_the_same_logits(tmp_path: Path, name: str) -> None:
    onnx_packages()
    import onnx
    import onnxruntime

    model = random_model(name)
    record = export(make_run(tmp_path / "run", model, name), output=tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir() if path.name != "run"] == ["m.onnx"]
    content: Any = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(content, full_check=True)
    assert {node.domain for node in content.graph.node} == {""}
    assert not any(node.metadata_props for node in content.graph.node)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, given.type) == ("images", ["batch", 3, 32, 32], "tensor(float)")
    assert (made.name, made.shape) == ("logits", ["batch", 10])
    for batch in BATCHES:
        images = torch.randn(batch, 3, 32, 32)
        (logits,) = session.run(None, {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), model(images), rtol=1e-4, atol=1e-4)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["input"] == record["metadata"]["input"]
    assert "(pixel / 255 - mean) / std" in metadata["input"]
    assert [json.loads(metadata[key]) for key in ("mean", "std", "classes")] == [MEAN, STD, list(CLASSES)]


@pytest.mark.parametrize("name", FORMATS)
def test_no_path_of_this_machine_stands_in_the_file(tmp_path: Path, name: str) -> None:
    if name == "onnx":
        onnx_packages()
    content = Path(export(make_run(tmp_path), name)["file"]).read_bytes()
    assert str(Path(export_formats.__file__).parent).encode() not in content
    assert str(Path(torch.__file__).parent).encode() not in content
    assert str(tmp_path).encode() not in content


@pytest.mark.parametrize("fault", [1e-3, float("nan")])
def test_a_file_that_computes_something_else_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: float
) -> None:
    honest = FORMATS["pt2"]

    def load(content: bytes) -> Any:
        module = honest.load(content)
        return lambda images: module(images) + fault * (len(images) > 2)

    monkeypatch.setitem(FORMATS, "pt2", honest._replace(load=load))
    run = make_run(tmp_path / "run")
    (tmp_path / "m.pt2").write_text("an older file")
    with pytest.raises(FastcifarError, match=r"m\.pt2: its logits differ") as caught:
        export(run, output=tmp_path / "m.pt2")
    assert caught.value.exit_code == 1
    assert (tmp_path / "m.pt2").read_text() == "an older file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.pt2", "run"]


def test_what_is_printed(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    run = make_run(tmp_path / "run")
    code, out, err = cli("export", str(run), "--format", "pt2", "--fold-batch-norm")
    assert (code, err) == (0, "")
    size = (run / "last.pt2").stat().st_size
    assert out.splitlines()[0] == f"{run / 'last.pt2'}, {size:,} bytes"
    for said in ("(pixel / 255 - mean) / std", "0.5000, 0.4000, 0.3000", "6 of 6 folded", "40 images", "horse"):
        assert said in out
    code, out, err = cli("export", str(run / "best.safetensors"), "--output", "m.pt2", "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert (record["file"], record["format"], record["metadata"]["batch_norm"]) == ("m.pt2", "pt2", "kept")
    assert 0 <= record["largest_difference"] < 1e-4
    assert (tmp_path / "m.pt2").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["nowhere", "--format", "pt2"], 3, "nowhere"),
        ([".", "--format", "pt2"], 3, "not a run folder"),
        (["text.safetensors", "--format", "pt2"], 3, "text.safetensors"),
        (["run"], 2, "--format onnx or --format pt2"),
        (["run", "--format", "torchscript"], 2, "torchscript"),
        (["run", "--output", "m.pth"], 2, "pth"),
        (["run", "--output", "text.safetensors/m.pt2"], 2, "cannot be written"),
        (["run", "--output", "run", "--format", "pt2"], 2, "cannot be written"),
        (["run/last.safetensors", "--best", "--format", "pt2"], 2, "--best"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    arguments: list[str],
    code: int,
    named: str,
) -> None:
    run = make_run(tmp_path / "run")
    before = sorted(path.name for path in run.iterdir())
    (tmp_path / "text.safetensors").write_text("no weights")
    got, out, err = cli("export", *arguments)
    assert (got, out, err.count("\n")) == (code, "", 1), err
    assert named in err
    assert sorted(path.name for path in run.iterdir()) == before


def test_a_missing_package_is_named_with_its_remedy(cli: Cli, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setattr(export_formats, "installed_version", lambda name: None if name == "onnxruntime" else "1")
    code, out, err = cli("export", str(make_run(tmp_path / "run")), "--format", "onnx")
    assert (code, out) == (4, "")
    assert err == "fastcifar: --format onnx needs onnxruntime - pip install '.[onnx]'\n"


def test_weights_of_another_network_are_refused(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    run = make_run(tmp_path / "run", nn.Linear(2, 2))
    code, out, err = cli("export", str(run), "--format", "pt2")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "another model" in err


def test_a_network_that_gives_nan_is_not_exported(tmp_path: Path) -> None:
    model = random_model("c1c2c3c40-speed")
    nn.init.constant_(model.head.bias, float(np.nan))  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    with pytest.raises(FastcifarError, match="differ"):
        export(make_run(tmp_path, model), "pt2")
    assert not (tmp_path / "last.pt2").exists()
