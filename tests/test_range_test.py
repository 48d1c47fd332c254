"""The range test trains as a run does, with rates of its own, and draws what it found."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from training_runs import Recorder, make_material, run

from fastcifar.dataset.image_set import Dataset
from fastcifar.training import trainer as trainer_module
from fastcifar.training.range_curve import growing_rates, read_curve, record_curve
from fastcifar.training.range_plot import LINE, MARK, write_range_plot
from fastcifar.training.range_test import range_test

RATES = growing_rates(1e-3, 30.0, 60)


def test_its_losses_are_those_of_a_run_at_the_same_rates(
    colours: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs of eight batches, both at the first image size."""

    class Rates:
        def learning_rate(self, examples: float) -> float:
            return RATES[int(examples // 50)]

    monkeypatch.setattr(trainer_module, "build_schedule", lambda *arguments: Rates())
    recorder = Recorder()
    run(make_material(colours, "training.log_every=1"), tmp_path, recorder)
    curve = range_test(make_material(colours), RATES)
    assert curve.losses[:16] == [loss for _, _, loss in recorder.looks[:16]]


def test_one_seed_gives_one_curve_whatever_is_logged_and_another_seed_another(colours: Dataset) -> None:
    first = range_test(make_material(colours), RATES)
    others = ["training.log_every=1", "training.ema_decay=0", "training.evaluate_from=1.0", "schedule.epochs=9"]
    again = range_test(make_material(colours, *others), RATES)
    assert first == again
    assert range_test(make_material(colours, "training.seed=1"), RATES).losses != first.losses


def test_it_finds_where_training_diverges_and_sees_no_test_image(colours: Dataset) -> None:
    material = make_material(colours)
    missing: Any = None
    blind = dataclasses.replace(material, dataset=dataclasses.replace(colours, test=missing))
    curve = range_test(blind, RATES)
    reading = read_curve(curve)
    assert curve.ended != "complete"
    assert reading.suggestion is not None
    assert RATES[0] < reading.suggestion < RATES[-1]


def colours_of(path: Path) -> set[str]:
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    return {"#{:02x}{:02x}{:02x}".format(*colour) for colour in np.unique(pixels, axis=0)}


def test_the_plot_shows_the_smoothed_loss_and_marks_the_suggestion(tmp_path: Path) -> None:
    rates = growing_rates(1e-3, 10.0, 100)
    falling = [2.3 - 0.01 * step for step in range(70)]
    curve = record_curve(rates, falling + [1.6 + 0.3 * step for step in range(30)])
    assert read_curve(curve).suggestion is not None
    write_range_plot(curve, read_curve(curve), "a title", 0.5, tmp_path / "answer.png")
    assert {LINE, MARK} <= colours_of(tmp_path / "answer.png")
    curve = record_curve(rates[:70], falling)
    assert read_curve(curve).suggestion is None
    write_range_plot(curve, read_curve(curve), "a title", 0.5, tmp_path / "none.png")
    assert LINE in colours_of(tmp_path / "none.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.png", "none.png"]
