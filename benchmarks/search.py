"""Trials of a recipe on training images held out: `python benchmarks/search.py RECIPE --try "KEY=VALUE ..." ...`.

Every trial is a whole training by `fastcifar train --holdout`, as a user would start it, with the recipe's settings but
for those it names; `--try ""` is the recipe itself. The table grows in one JSON file after every training, and what is
already there is not trained again: a search may be interrupted, and widened later.
"""

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from trainings import train

from fastcifar.atomic import written_whole

HOLDOUT = 5000
KEPT = ("val_acc", "train_time_s", "images_per_second", "epochs", "parameters", "model")


def main() -> None:
    """Train what is missing, then print the table, best first."""
    arguments = _arguments()
    table = json.loads(arguments.output.read_text()) if arguments.output.exists() else []
    done = {(row["recipe"], row["settings"], row["seed"]) for row in table}
    wanted = [(trial, seed) for seed in range(arguments.seeds) for trial in arguments.trials]
    missing = [(trial, seed) for trial, seed in wanted if (arguments.recipe, trial, seed) not in done]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        running = [pool.submit(_train, arguments.recipe, trial, seed, arguments.jobs) for trial, seed in missing]
        for training in as_completed(running):
            row = training.result()
            table.append(row)
            with written_whole(arguments.output) as partial:
                partial.write_text(json.dumps(table, indent=1) + "\n")
            print(f"{row['val_acc']:.2f} %  seed {row['seed']}  {row['settings'] or 'the recipe'}", flush=True)
    print(*_markdown([row for row in table if row["recipe"] == arguments.recipe]), sep="\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--try", dest="trials", action="append", required=True, help='settings, "KEY=VALUE KEY=VALUE"')
    parser.add_argument("--seeds", type=int, default=1, help="of each trial: 0 .. N - 1")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once; their seconds then mean nothing")
    parser.add_argument("--output", type=Path, required=True, help="the table, JSON; it is widened")
    return parser.parse_args()


def _train(recipe: str, settings: str, seed: int, jobs: int) -> dict[str, Any]:
    flags = ["--recipe", recipe, "--seed", str(seed), "--holdout", str(HOLDOUT)]
    for setting in settings.split():
        flags += ["--set", setting]
    if jobs > 1:
        flags += ["--threads", str(max(1, (os.cpu_count() or 1) // jobs))]
    result = train(*flags)
    row = {"recipe": recipe, "settings": settings, "seed": seed, "holdout": HOLDOUT, "jobs": jobs}
    return row | {key: result[key] for key in KEPT if key in result}


def _markdown(table: list[dict[str, Any]]) -> list[str]:
    """A row a trial: mean and deviation over its seeds, and the mean of the seconds of trainings on their own."""
    trials: dict[str, list[dict[str, Any]]] = {}
    for row in table:
        trials.setdefault(row["settings"], []).append(row)
    lines = ["| settings | seeds | held-out accuracy | seconds |", "|---|---|---|---|"]
    for settings, rows in sorted(trials.items(), key=lambda item: -mean(row["val_acc"] for row in item[1])):
        accuracies = [row["val_acc"] for row in rows]
        spread = f" ± {stdev(accuracies):.2f}" if len(rows) > 1 else ""
        seconds = [row["train_time_s"] for row in rows if row["jobs"] == 1]
        took = f"{mean(seconds):.0f}" if seconds else "-"
        lines.append(f"| {settings or 'the recipe'} | {len(rows)} | {mean(accuracies):.2f}{spread} | {took} |")
    return lines


if __name__ == "__main__":
    main()
