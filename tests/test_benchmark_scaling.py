"""The networks and images of the benchmarks along an axis, and what becomes of such groups."""

from pathlib import Path
from typing import Any

import bench_scaling
import compare
import noise as noise_module
import numpy as np
import pytest
import torch
from bench_scaling import same_losses, wide
from benchmark_groups import recorded
from noise import noise
from record import Work, write_record
from scaling_plot import plot_scaling
from training_step import our_step, plain_step

from fastcifar.model.registry import build_model


@pytest.mark.parametrize("factor", bench_scaling.WIDTHS)
def test_networks_of_any_width_are_the_same_function_twice(factor: float) -> None:
    torch.manual_seed(0)
    model, plain = wide(factor).ours().eval(), wide(factor).plain().eval()
    plain.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(plain(images), model(images), rtol=1e-4, atol=1e-4)


def test_the_width_of_1_is_the_registered_network() -> None:
    own, registered = wide(1).ours().state_dict(), build_model(bench_scaling.MODEL).state_dict()
    assert {name: value.shape for name, value in own.items()} == {n: value.shape for n, value in registered.items()}


def test_a_step_that_trains_otherwise_is_no_figure() -> None:
    small = wide(0.5)
    same_losses(our_step(small, 16, 8), plain_step(small, 16, 8))
    with pytest.raises(AssertionError, match="ours"):
        same_losses(our_step(small, 16, 8), lambda: 1.001 * plain_step(small, 16, 8)())


def test_noise_is_the_same_every_time_and_reaches_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_module, "CHUNK", 3)
    first, again = noise(10), noise(10)
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert len(np.unique(first.images.reshape(10, -1), axis=0)) == 10
    assert all(abs(image.mean() - 127.5) < 10 for image in first.images)  # uniform: 74 / sqrt(3072) = 1.3


def along(costs: dict[str, list[float]], name: str) -> dict[str, Any]:
    return recorded(costs, Work("images/s", 1000), axis="threads") | {"group": name}


def test_the_plot_has_a_panel_a_group(tmp_path: Path) -> None:
    heights = []
    for count in (1, 3, 5):
        path = tmp_path / f"{count}.png"
        plot_scaling([along({"1": [2.0, 2.1], "2": [1.0, 1.2]}, f"group: {index}") for index in range(count)], path)
        heights.append(int.from_bytes(path.read_bytes()[20:24]))
    assert heights[1:] == [2 * heights[0], 3 * heights[0]]


def test_scaling_is_no_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One thread that has become faster makes two look worse."""
    before, after = along({"1": [2.0] * 3, "2": [1.0] * 3}, "a"), along({"1": [1.0] * 3, "2": [1.0] * 3}, "a")
    for name, group in {"a.json": before, "b.json": after}.items():
        write_record(tmp_path / name, {"groups": [group]})
    assert compare.main([str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    assert capsys.readouterr().out.splitlines() == ["0 ratios compared, 0 changed beyond noise"]
