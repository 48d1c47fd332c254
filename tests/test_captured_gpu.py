"""Captured steps on a GPU: what the ordinary loop learns, without a wait inside an epoch, stopped and gone on with."""

import dataclasses
import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import Recorder, make_material, run, weights

from fastcifar.dataset.image_set import Dataset
from fastcifar.training.captured import CapturedSteps
from fastcifar.training.graph_choice import with_graph
from fastcifar.training.material import Material
from fastcifar.training.trainer import Interrupted

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
TOLERANCE = 2e-2
"""Of the first epoch's loss: cuDNN's gradients are sums in no fixed order."""

KINDS = {
    "fp32": ["runtime.amp=false"],
    "bf16": [],
    "muon": ["optimizer.muon_lr=0.1"],
    "compiled": ["runtime.compile=true", "optimizer.muon_lr=0.1"],
    "raw weights": ["training.ema_decay=0.0", "runtime.compile=true"],
}


def material_of(colours: Dataset, *settings: str, graph: bool = True) -> Material:
    """Three epochs on the GPU, the last at twice the size."""
    material = make_material(colours, "runtime.amp=true", *settings, "runtime.device=cuda")
    return dataclasses.replace(material, runtime=with_graph(material.runtime, graph, "resident"))


@pytest.mark.parametrize("kind", KINDS)
def test_captured_steps_learn_what_ordinary_ones_do(colours: Dataset, tmp_path: Path, kind: str) -> None:
    ordinary, captured = Recorder(), Recorder()
    first = run(material_of(colours, *KINDS[kind], graph=False), tmp_path, ordinary)
    second = run(material_of(colours, *KINDS[kind]), tmp_path, captured)
    assert (first["used"]["graph"], second["used"]["graph"], captured.warnings) == ("off", "on", [])
    assert [record.image_size for record in captured.records] == [16, 16, 32]
    assert captured.records[0].train_loss == pytest.approx(ordinary.records[0].train_loss, rel=TOLERANCE)
    assert captured.records[0].train_accuracy == pytest.approx(ordinary.records[0].train_accuracy, abs=5)
    assert min(first["val_acc"], second["val_acc"]) > 60
    for name, value in weights(first["run_dir"]).items():
        if not value.is_floating_point():
            assert torch.equal(value, weights(second["run_dir"])[name]), name


def changed_epoch(change: Callable[[Callable[[Any], Iterator[None]], Any], Iterator[None]]) -> Any:
    real = CapturedSteps.epoch
    return lambda self: change(real, self)


def test_nothing_waits_for_the_gpu_inside_an_epoch(
    colours: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_waits(real: Callable[[Any], Iterator[None]], steps: CapturedSteps) -> Iterator[None]:
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield from real(steps)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(CapturedSteps, "epoch", changed_epoch(without_waits))
    result = run(material_of(colours), tmp_path)
    assert result["used"]["graph"] == "on"
    with pytest.raises(RuntimeError, match="synchroniz"):  # the guard guards
        next(without_waits(lambda steps: iter([torch.ones(1, device="cuda").item()]), None))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("at", [3, 17])
def test_a_captured_run_stopped_inside_an_epoch_goes_on(
    colours: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    calls: list[None] = []

    def stopped(real: Callable[[Any], Iterator[None]], steps: CapturedSteps) -> Iterator[None]:
        for _ in real(steps):
            calls.append(None)
            if len(calls) == at:
                signal.raise_signal(signal.SIGINT)
            yield

    material, whole, resumed = material_of(colours, *KINDS["fp32"]), Recorder(), Recorder()
    run(material, tmp_path, whole)
    monkeypatch.setattr(CapturedSteps, "epoch", changed_epoch(stopped))
    with pytest.raises(Interrupted) as stop:
        run(material, tmp_path)
    result = run(material, tmp_path, resumed, resume=Path(str(stop.value)))
    assert len(calls) == 3 * 8
    assert result["epochs"] == 3
    assert math.isclose(resumed.records[-1].learning_rate, whole.records[-1].learning_rate)
    assert result["val_acc"] > 60
    if at < 8:
        assert resumed.records[0].train_loss == pytest.approx(whole.records[0].train_loss, rel=TOLERANCE)
