"""What a command that trains does first: its environment, the runtime and the data, each choice said aloud."""

import sys
from typing import TYPE_CHECKING

from fastcifar.settings import ResolvedConfig

if TYPE_CHECKING:
    from fastcifar.training.material import Material
    from fastcifar.training.observer import Observer


def prepare_material(resolved: ResolvedConfig, quiet: bool, as_json: bool) -> "tuple[Material, Observer]":
    """The data and choices that the configuration leads to, and the display that has told of them on stderr.

    A CPU run starts this process once more in its own environment, before torch is imported where that can be told.
    """
    from fastcifar.relaunch import certainly_on_cpu, relaunch_for_cpu

    if certainly_on_cpu(resolved.config.runtime.device):
        relaunch_for_cpu()

    from fastcifar.cli.progress import make_observer
    from fastcifar.runtime import choose_runtime, disappointments
    from fastcifar.training.material import check_before_loading, load_material
    from fastcifar.training.optimizer_choice import with_optimizer

    observer = make_observer(quiet, as_json)
    runtime = with_optimizer(choose_runtime(resolved.config.runtime), resolved.config.optimizer)
    if runtime.device.type == "cpu":
        relaunch_for_cpu()
    check_before_loading(resolved.config)
    told = disappointments(runtime, resolved)
    for line in told:
        observer.warning(line)
    for name, choice in runtime.choices.items():
        observer.message(f"{name}: {choice.used} ({choice.reason})")
    material = load_material(resolved, runtime, observer, progress=sys.stderr.isatty() and not quiet)
    observer.message(f"data: {material.dataset.title}, {material.dataset.source}")
    observer.message(f"loader: {material.loader_choice.kind} ({material.loader_choice.reason})")
    for line in disappointments(material.runtime, resolved)[len(told) :]:
        observer.warning(line)
    graph = material.runtime.choices["graph"]
    observer.message(f"graph: {graph.used} ({graph.reason})")
    return material, observer
