"""Accuracy against training time: `python benchmarks/accuracy_curve.py RECIPE EPOCHS ... --output TABLE.json`.

Every point is a whole training on all 50,000 images, its schedule made for that many epochs, and its last epoch's
accuracy on the test images. The table grows after every training and may hold several recipes; what is there is not
trained again. Beside it a plot is written, with the knee.
"""

import argparse
import json
from itertools import pairwise
from math import log2
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib import ticker
from matplotlib.figure import Figure
from trainings import train

from fastcifar.atomic import written_whole

KEPT = ("val_acc", "train_time_s", "images_per_second", "parameters", "model", "used")


def main() -> None:
    """Train what is missing, draw, and print the points."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("epochs", type=int, nargs="*", help="lengths of the schedule; none: only draw")
    parser.add_argument("--seeds", type=int, default=1, help="of each length: 0 .. N - 1")
    parser.add_argument("--output", type=Path, required=True, help="the table, JSON; it is widened")
    arguments = parser.parse_args()
    table = json.loads(arguments.output.read_text()) if arguments.output.exists() else []
    done = {(row["recipe"], row["epochs"], row["seed"]) for row in table}
    for seed in range(arguments.seeds):
        for epochs in arguments.epochs:
            if (arguments.recipe, epochs, seed) in done:
                continue
            result = train("--recipe", arguments.recipe, "--epochs", str(epochs), "--seed", str(seed))
            row = {"recipe": arguments.recipe, "epochs": epochs, "seed": seed}
            table.append(row | {key: result[key] for key in KEPT})
            with written_whole(arguments.output) as partial:
                partial.write_text(json.dumps(table, indent=1) + "\n")
    points = points_of(table)
    draw(points, arguments.output.with_suffix(".png"))
    for recipe, rows in points.items():
        for seconds, accuracy, epochs in rows:
            print(f"{recipe:<12} {epochs:>4} epochs {seconds:>7.0f} s {accuracy:>7.2f} %")
    best = envelope(points)
    for first, second in pairwise(best):
        print(f"{first[0]:>6.0f} to {second[0]:>5.0f} s: {gain(*first, *second):+.1f} points for twice the time")
    knee = knee_of(best)
    print("no knee" if knee is None else f"knee: {knee:.0f} s")


def points_of(table: list[dict[str, Any]]) -> dict[str, list[tuple[float, float, int]]]:
    """Each recipe's lengths: seconds and accuracy, means over the seeds, and epochs; shortest first."""
    groups: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for row in table:
        groups.setdefault(row["recipe"], {}).setdefault(row["epochs"], []).append(row)
    return {
        recipe: sorted(
            (mean(row["train_time_s"] for row in rows), mean(row["val_acc"] for row in rows), epochs)
            for epochs, rows in lengths.items()
        )
        for recipe, lengths in groups.items()
    }


def envelope(points: dict[str, list[tuple[float, float, int]]]) -> list[tuple[float, float]]:
    """The best of all recipes: the points above every line between two others, in log time.

    So the gain for twice the time falls from each to the next.
    """
    best: list[tuple[float, float]] = []
    for seconds, accuracy, _ in sorted(point for rows in points.values() for point in rows):
        while len(best) > 1 and gain(*best[-2], *best[-1]) <= gain(*best[-1], seconds, accuracy):
            best.pop()
        if not best or accuracy > best[-1][1]:
            best.append((seconds, accuracy))
    return best


def gain(seconds: float, accuracy: float, later: float, higher: float) -> float:
    """Points for twice the time, on the line between two trainings in log time."""
    return (higher - accuracy) / log2(later / seconds)


def knee_of(best: list[tuple[float, float]]) -> float | None:
    """The time of the point farthest above the line from the first to the last, in log time.

    Satopää, Albrecht, Irwin and Raghavan, "Finding a Kneedle in a Haystack", 2011. None where nothing lies above.
    """
    if len(best) < 3:
        return None
    (start, low), slope = best[0], gain(*best[0], *best[-1])
    above = {seconds: accuracy - low - slope * log2(seconds / start) for seconds, accuracy in best}
    knee = max(above, key=above.__getitem__)
    return knee if above[knee] > 0 else None


def draw(points: dict[str, list[tuple[float, float, int]]], target: Path) -> None:
    """Minutes on a logarithmic axis, a line a recipe, the knee as a dashed line."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for recipe, rows in points.items():
        axes.plot([seconds / 60 for seconds, *_ in rows], [accuracy for _, accuracy, _ in rows], "o-", label=recipe)
    knee = knee_of(envelope(points))
    if knee is not None:
        axes.axvline(knee / 60, color="0.6", linestyle="--", linewidth=1, label=f"knee, {knee / 60:.1f} minutes")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda minutes, _: f"{minutes:g}"))
    axes.set(xlabel="training time, minutes", ylabel="accuracy on CIFAR-10's test images, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with written_whole(target) as partial:
        figure.savefig(partial, format="png", dpi=160)


if __name__ == "__main__":
    main()
