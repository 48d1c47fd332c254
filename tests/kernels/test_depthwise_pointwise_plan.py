"""Which of the two serves a call of `depthwise_pointwise`, and why: tables, the model, tiles, a compiler's choice."""

import json
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fastcifar.model.layers import DepthwiseSeparable
from fastcifar_kernels import backend
from fastcifar_kernels.depthwise_pointwise import plan
from fastcifar_kernels.depthwise_pointwise.plan import Machine, choose, entry, key, load, modelled_s
from fastcifar_kernels.depthwise_pointwise.shape import Shape, Tiles, Tiling, default_tiling, power_of_two

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
LARGE = Shape(1024, 32, 32, 64, 128, 1, 1)
TINY = Shape(1, 4, 4, 32, 32, 1, 1)
H200_LIKE = Machine(bandwidth=4.3e12, issue_rate=29.7e12, multiprocessors=132)
TILING = Tiling(Tiles(1, 1, 64, 16, 4, 1), Tiles(2, 1, 32, 32, 8, 4), Tiles(2, 2, 8, 64, 4, 2))
BF16 = torch.bfloat16


@pytest.fixture(autouse=True)
def _nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_MEASURED", {})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """An H200-like one, as far as the plan asks."""
    monkeypatch.setattr(backend, "triton_missing", lambda: "")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(Machine, "of", staticmethod(lambda device: H200_LIKE))


def table(file: Path, plans: Mapping[str, object], gpu: str = "A GPU") -> Path:
    file.write_text(json.dumps({"gpu": gpu, "plans": plans}))
    return file


def test_a_table_returns_what_was_measured(tmp_path: Path, gpu: None) -> None:
    lines = {key(LARGE, BF16): entry(TILING, 30.4, 20.0), key(TINY, torch.float16): entry(TILING, 10.0, 20.0)}
    assert load(table(tmp_path / "t.json", lines), "A GPU") == 2
    found = choose(LARGE, BF16, GPU)
    assert (found.fused, found.reason, found.tiling) == (False, "measured: 30 us fused, 20 us plain", TILING)
    assert choose(TINY, torch.float16, GPU).fused
    assert choose(TINY, BF16, GPU).reason.startswith("modelled, not measured: ")  # the type is part of the name
    x, pointwise = torch.empty(1024, 64, 32, 32, dtype=BF16), torch.empty(128, 64, 1, 1)
    assert plan.tiling(x, pointwise, 1, 1) == TILING
    assert plan.tiling(x, pointwise, 2, 1) == default_tiling(Shape(1024, 32, 32, 64, 128, 2, 1))


def test_kernels_that_did_not_run_are_not_used(tmp_path: Path, gpu: None) -> None:
    line = entry(TILING, float("inf"), 20.0)
    assert json.loads(json.dumps(line, allow_nan=False))["fused_us"] is None
    assert load(table(tmp_path / "t.json", {key(LARGE, BF16): line}), "A GPU") == 1
    assert not choose(LARGE, BF16, GPU).fused
    assert "do not run" in choose(LARGE, BF16, GPU).reason


def test_another_gpus_table_and_none_at_all_leave_nothing(tmp_path: Path, gpu: None) -> None:
    file = table(tmp_path / "t.json", {key(LARGE, BF16): entry(TILING, 1.0, 2.0)})
    assert load(file, "A GPU") == 1
    assert load(file, "Another GPU") == 0
    assert choose(LARGE, BF16, GPU).reason.startswith("modelled")
    assert load(file, "A GPU") == 1
    assert load(tmp_path / "no such file", "A GPU") == 0
    assert choose(LARGE, BF16, GPU).reason.startswith("modelled")


GOOD = entry(TILING, 1.0, 2.0)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"gpu": "A GPU"}',
        '{"gpu": "A GPU", "plans": []}',
        '{"gpu": "A GPU", "plans": {"x": {}}}',
        json.dumps({"gpu": "A GPU", "plans": {"good": GOOD, "x": GOOD | {"fused_us": "1"}}}),
        json.dumps({"gpu": "A GPU", "plans": {"good": GOOD, "x": GOOD | {"tiling": {"forward": {}}}}}),
        json.dumps({"gpu": "A GPU", "plans": {"good": GOOD, "x": None}}),
        "\x00\xff",
    ],
)
def test_a_broken_file_is_said_to_be_one_and_leaves_nothing(tmp_path: Path, content: str) -> None:
    file = tmp_path / "t.json"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"t\.json: no table of plans"):
        load(file, "A GPU")
    assert plan._MEASURED == {}


def test_a_trial_lasts_as_long_as_it_lasts(tmp_path: Path, gpu: None) -> None:
    load(table(tmp_path / "t.json", {key(LARGE, BF16): entry(TILING, 30.0, 20.0)}), "A GPU")
    for shape, before in ((LARGE, choose(LARGE, BF16, GPU)), (TINY, choose(TINY, BF16, GPU))):
        with plan.on_trial(shape, BF16, TILING):
            assert choose(shape, BF16, GPU).fused
            assert choose(shape, BF16, GPU).tiling == TILING
        assert choose(shape, BF16, GPU) == before


def test_what_the_kernels_are_not_for(monkeypatch: pytest.MonkeyPatch, gpu: None) -> None:
    assert choose(LARGE, BF16, GPU).fused
    assert "on a CPU" in choose(LARGE, BF16, CPU).reason
    assert "tensor cores" in choose(LARGE, torch.float32, GPU).reason
    assert "256 outputs" in choose(Shape(1024, 32, 32, 64, 257, 1, 1), BF16, GPU).reason
    assert choose(Shape(1024, 32, 32, 64, 256, 1, 1), BF16, GPU).fused
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "Ampere" in choose(LARGE, BF16, GPU).reason
    monkeypatch.setattr(backend, "triton_missing", lambda: "triton is not installed")
    assert choose(LARGE, BF16, GPU).reason == "triton is not installed"
    assert not any(choose(LARGE, dtype, GPU).fused for dtype in (BF16, torch.float16, torch.float32))


def test_a_measurement_overrules_the_model_but_not_a_refusal(tmp_path: Path, gpu: None) -> None:
    assert choose(LARGE, BF16, GPU).fused
    assert not choose(TINY, BF16, GPU).fused
    lines = {key(LARGE, BF16): entry(TILING, 2.0, 1.0), key(TINY, BF16): entry(TILING, 1.0, 2.0)}
    load(table(tmp_path / "t.json", lines), "A GPU")
    assert not choose(LARGE, BF16, GPU).fused
    assert choose(TINY, BF16, GPU).fused
    assert not choose(TINY, BF16, CPU).fused


def test_the_machine_is_read_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(
        memory_clock_rate=1_000_000, memory_bus_width=1000, clock_rate=1_000_000, multi_processor_count=10
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    # 1 GHz x 2 transfers x 125 bytes, of which 85 % come; 10 x 4 schedulers x 32 threads x 1 GHz
    assert astuple(Machine.of(GPU)) == pytest.approx((0.85 * 250e9, 1280e9, 10))


@pytest.mark.parametrize("shape", [LARGE, Shape(7, 13, 9, 24, 40, 2, 1), Shape(256, 4, 4, 96, 96, 1, 2)])
def test_the_model_counts_every_number_that_is_moved(shape: Shape) -> None:
    x = shape.images * shape.height * shape.width * shape.channels
    z = shape.images * shape.out_height * shape.out_width * shape.channels
    y = z // shape.channels * shape.outputs
    fused, plain = modelled_s(shape, Machine(1.0, float("inf"), 7))
    assert fused == pytest.approx(2 * (4 * x + 2 * z + 8 * y) + 7 * 8 * shape.channels * shape.outputs, rel=1e-6)
    assert plain == pytest.approx(2 * (3 * x + 6 * z + 11 * y), rel=1e-6)


def test_more_bandwidth_never_takes_longer() -> None:
    for shape in (LARGE, TINY, Shape(128, 16, 16, 96, 96, 2, 1)):
        rates = [10.0**exponent for exponent in range(8, 16)]
        fused, plain = zip(*(modelled_s(shape, Machine(rate, 29.7e12, 132)) for rate in rates), strict=True)
        assert list(fused) == sorted(fused, reverse=True)
        assert list(plain) == sorted(plain, reverse=True)
        assert plain[0] > plain[-1] > 0
        assert fused[0] > fused[-1] > 0


def test_the_model_fuses_large_maps_where_there_are_instructions_to_spare(
    monkeypatch: pytest.MonkeyPatch, gpu: None
) -> None:
    assert choose(LARGE, BF16, GPU).fused
    assert not choose(TINY, BF16, GPU).fused
    poor = Machine(H200_LIKE.bandwidth, H200_LIKE.issue_rate / 100, 132)
    monkeypatch.setattr(Machine, "of", staticmethod(lambda device: poor))
    assert not choose(LARGE, BF16, GPU).fused


def test_a_compiled_layer_decides_once_for_each_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "refusal", lambda shape, dtype, device: "")  # so that a CPU's tensors can be fused
    shapes = [Shape(images, 6, 5, 16, 16, 1, 1) for images in (2, 3)]
    lines = [{key(shape, torch.float32): entry(TILING, f, 2.0) for shape in shapes} for f in (1.0, 3.0)]
    lines[0][key(shapes[1], torch.float32)] = entry(TILING, 3.0, 2.0)
    load(table(tmp_path / "t.json", lines[0]), "A GPU")
    graphs: list[bool] = []

    def note(module: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(any("depthwise_pointwise" in str(node.target) for node in module.graph.nodes))
        return module.forward

    layer = DepthwiseSeparable(16, 16)
    torch.compiler.reset()
    compiled = torch.compile(layer, backend=note, fullgraph=True, dynamic=False)
    results = [compiled(torch.ones(shape.images, 16, 6, 5)) for shape in shapes]
    assert graphs == [True, False]
    load(table(tmp_path / "t.json", lines[1]), "A GPU")
    again = compiled(torch.ones(2, 16, 6, 5))
    assert graphs == [True, False]
    for result in (*results, again):
        torch.testing.assert_close(result, layer(torch.ones(len(result), 16, 6, 5)))
    torch.compiler.reset()


def test_the_default_tiles_of_any_number_of_channels() -> None:
    for channels in range(1, 600):
        for stride in (1, 2):
            for height in (1, 2, 7):
                tiling = default_tiling(Shape(3, height, 5, channels, channels, stride, 1))
                for tiles in (tiling.forward, tiling.pointwise_backward, tiling.depthwise_backward):
                    numbers = (tiles.rows, tiles.columns, tiles.cells, tiles.block, tiles.warps, tiles.waves)
                    assert all(number == power_of_two(number) for number in numbers)
                    assert 16 <= tiles.block <= 128
                    assert tiles.cells >= 16  # tl.dot's least
                    assert tiles.cells * tiles.block <= 8 * 32 * tiles.warps  # 8 elements to a thread
                assert tiling.forward.block >= min(channels, 128)
                assert tiling.forward.rows <= (height - 1) // stride + 1
                last = tiling.depthwise_backward
                assert channels % last.block == 0 or channels % 16
                assert last.cells * last.block == 8 * 32 * last.warps
                assert last.rows % stride == last.columns % stride == 0
