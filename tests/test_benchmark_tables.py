"""The tables of whole trainings: what is there is not trained again, and what is drawn from them."""

import json
from pathlib import Path
from typing import Any

import accuracy_curve
import pytest
import search


def pretend_training(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[tuple[str, ...]]:
    """Let `module` train nothing; returns the list of the flags that it would have trained with."""
    calls: list[tuple[str, ...]] = []

    def train(*flags: str) -> dict[str, Any]:
        calls.append(flags)
        given = dict(zip(flags[::2], flags[1::2], strict=True))
        epochs = int(given.get("--epochs", 10))
        return {
            "val_acc": 80.0 + epochs % 7 + int(given["--seed"]),
            "train_time_s": 10.0 * epochs,
            "images_per_second": 1000.0,
            "epochs": epochs,
            "parameters": 5,
            "model": "a",
            "used": {"device": "cpu"},
        }

    monkeypatch.setattr(module, "train", train)
    return calls


def test_a_search_trains_what_is_missing_and_lists_the_best_first(monkeypatch, tmp_path: Path, capsys) -> None:
    calls = pretend_training(monkeypatch, search)
    output = tmp_path / "table.json"
    arguments = [
        "search.py",
        "speed",
        "--output",
        str(output),
        "--try",
        "",
        "--try",
        "schedule.epochs=4 a.b=[[0.0,16]]",
    ]
    monkeypatch.setattr("sys.argv", arguments)
    search.main()
    assert calls == [
        ("--recipe", "speed", "--seed", "0", "--holdout", "5000"),
        (
            "--recipe",
            "speed",
            "--seed",
            "0",
            "--holdout",
            "5000",
            "--set",
            "schedule.epochs=4",
            "--set",
            "a.b=[[0.0,16]]",
        ),
    ]
    assert "| the recipe | 1 | 83.00 | 100 |" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*arguments, "--seeds", "2", "--jobs", "2", "--try", "c.d=1"])
    search.main()
    assert sorted(call[3] for call in calls[2:]) == ["0", "1", "1", "1"]
    assert all(call[-2] == "--threads" for call in calls[2:])
    assert len(json.loads(output.read_text())) == 6
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| the recipe")]
    assert rows == ["| the recipe | 2 | 83.50 ± 0.71 | 100 |"]  # of the seconds, only those of a training by itself


def test_a_curve_trains_what_is_missing_and_draws_all(monkeypatch, tmp_path: Path, capsys) -> None:
    calls = pretend_training(monkeypatch, accuracy_curve)
    output = tmp_path / "curve.json"
    monkeypatch.setattr("sys.argv", ["x", "speed", "1", "2", "--output", str(output)])
    accuracy_curve.main()
    monkeypatch.setattr("sys.argv", ["x", "speed", "2", "3", "--seeds", "2", "--output", str(output)])
    accuracy_curve.main()
    assert [(call[3], call[5]) for call in calls] == [("1", "0"), ("2", "0"), ("3", "0"), ("2", "1"), ("3", "1")]
    printed = capsys.readouterr().out
    assert "speed           2 epochs      20 s   82.50 %" in printed
    assert "10 to    20 s: +1.0 points for twice the time" in printed
    assert "no knee" in printed
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_envelope_leaves_out_what_lies_below_a_line_between_others() -> None:
    points = {"a": [(60.0, 80.0, 1), (120.0, 84.0, 2), (480.0, 86.0, 8)], "b": [(90.0, 79.0, 1), (240.0, 84.5, 4)]}
    assert accuracy_curve.envelope(points) == [(60.0, 80.0), (120.0, 84.0), (480.0, 86.0)]
    points["b"] = [(90.0, 79.0, 1), (240.0, 85.5, 4)]
    assert accuracy_curve.envelope(points) == [(60.0, 80.0), (120.0, 84.0), (240.0, 85.5), (480.0, 86.0)]
    assert accuracy_curve.envelope({"a": [(60.0, 80.0, 1), (120.0, 79.0, 2)]}) == [(60.0, 80.0)]


def test_the_knee_is_farthest_above_the_line_between_the_ends() -> None:
    """The line rises by 2 points for twice the time; the points lie 0, 2, 1.5 and 0 above it."""
    best = [(60.0, 80.0), (120.0, 84.0), (240.0, 85.5), (480.0, 86.0)]
    assert accuracy_curve.knee_of(best) == 120.0
    assert accuracy_curve.knee_of(best[:2]) is None
    assert accuracy_curve.gain(60.0, 80.0, 240.0, 85.5) == 2.75
