"""Several runs side by side: curves in one figure, means with their spread, and what was set differently."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcifar.errors import UsageError
from fastcifar.report.overlay import overlaid_accuracy, overlaid_accuracy_by_time, overlaid_loss
from fastcifar.report.pages import Page
from fastcifar.report.record import RunRecord

NO_DIFFERENCE = {"data.dir", "data.offline", "training.seed", "training.runs", "training.log_every", "runtime.strict"}
"""Settings that leave two runs repetitions of each other."""
MOST_IN_NAME = 2
"""With more settings that differ, a group's name has a number instead; the table of settings has the rest."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation; the latter is None of a single value."""

    mean: float
    std: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Spread | None":
        """Of the values that there are; None where there is none."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        return cls(statistics.mean(known), statistics.stdev(known) if len(known) > 1 else None, len(known))

    def text(self, digits: int) -> str:
        spread = "" if self.std is None else f" ± {self.std:,.{digits}f}"
        return f"{self.mean:,.{digits}f}{spread}"


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed.

    Attributes:
        name: the recipe, with what sets the group apart where others have the same.
    """

    name: str
    runs: tuple[RunRecord, ...]

    def spread(self, key: str) -> Spread | None:
        """Of one figure of the results, over the finished runs."""
        return Spread.of(run.metrics[key] for run in self.runs if run.metrics)

    def class_spread(self, name: str) -> Spread | None:
        """Of the percentage right in one class."""
        finished = [run.metrics for run in self.runs if run.metrics]
        return Spread.of(metrics["evaluation"]["per_class_accuracy"].get(name) for metrics in finished)


def grouped(records: Sequence[RunRecord]) -> list[Group]:
    """Runs that repeat each other put together, in the order in which they first come."""
    by_settings: dict[str, list[RunRecord]] = {}
    for record in records:
        by_settings.setdefault(json.dumps(_settings(record), sort_keys=True), []).append(record)
    groups = list(by_settings.values())
    apart = differences(groups)
    recipes = [Path(runs[0].resolved.recipe).stem for runs in groups]
    names = []
    for number, (recipe, runs) in enumerate(zip(recipes, groups, strict=True), start=1):
        settings = _settings(runs[0])
        own = (
            [f"{key.split('.')[1]} {settings[key]}" for key in apart]
            if len(apart) <= MOST_IN_NAME
            else [f"no. {number}"]
        )
        names.append(", ".join([recipe, *own]) if recipes.count(recipe) > 1 else recipe)
    return [Group(name, tuple(runs)) for name, runs in zip(names, groups, strict=True)]


def differences(groups: Sequence[Sequence[RunRecord]]) -> list[str]:
    """Keys of the settings that are not the same everywhere."""
    settings = [_settings(runs[0]) for runs in groups]
    return [key for key in settings[0] if any(other[key] != settings[0][key] for other in settings)]


def several_page(records: Sequence[RunRecord]) -> Page:
    """The page that compares runs.

    records: at least two.

    Raises:
        UsageError: they were evaluated on different data.
    """
    finished = [record.metrics for record in records if record.metrics]
    evaluated_on = sorted({f"{metrics['dataset']} {metrics['evaluated_on']}" for metrics in finished})
    if len(evaluated_on) > 1:
        raise UsageError(
            f"the runs were evaluated on different images: {', '.join(evaluated_on)}", "compare runs on the same ones"
        )
    groups = grouped(records)
    apart = differences([group.runs for group in groups])
    class_names = list(finished[0]["evaluation"]["per_class_accuracy"]) if finished else []
    content = {
        "title": f"{len(records)} runs" if len(groups) > 1 else f"{groups[0].name}: {len(records)} runs",
        "evaluated_on": evaluated_on[0] if evaluated_on else None,
        "groups": groups,
        "apart": [(key, [_settings(group.runs[0])[key] for group in groups]) for key in apart],
        "classes": [(name, [group.class_spread(name) for group in groups]) for name in class_names],
    }
    series = [(group.name, group.runs) for group in groups]
    figures = {
        "accuracy": overlaid_accuracy(series),
        "accuracy-by-time": overlaid_accuracy_by_time(series),
        "loss": overlaid_loss(series),
    }
    return Page("several.html.j2", "several.md.j2", content, figures)


def _settings(record: RunRecord) -> dict[str, Any]:
    """The configuration, flat, without what makes no difference."""
    return {
        f"{section}.{key}": value
        for section, values in record.resolved.config.to_dict().items()
        for key, value in values.items()
        if f"{section}.{key}" not in NO_DIFFERENCE
    }
