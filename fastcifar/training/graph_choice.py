"""Whether training steps and the evaluation are captured in CUDA graphs, and why."""

from dataclasses import replace

from fastcifar.runtime import Choice, Runtime


def with_graph(runtime: Runtime, requested: bool, loader: str) -> Runtime:
    """The runtime with the choice "graph": on or off; it must have the choice "optimizer".

    Args:
        requested: `runtime.graph`.
        loader: the kind that serves the run.
    """
    choice = choose_graph(requested, runtime, loader)
    return replace(runtime, graph=choice.used == "on", choices=runtime.choices | {"graph": choice})


def choose_graph(requested: bool, runtime: Runtime, loader: str) -> Choice:
    """A graph holds what the GPU does without the host: every part of the step must be of that kind."""
    if not requested:
        return Choice("off", "off", "not asked for")
    if hindrance := _why_not(runtime, loader):
        return Choice("on", "off", hindrance, disappoints=True)
    return Choice("on", "on", "the host starts a step with one call, and waits for none inside an epoch")


def _why_not(runtime: Runtime, loader: str) -> str:
    """ "" where nothing is against it."""
    if runtime.device.type != "cuda":
        return "only a GPU replays CUDA graphs"
    if loader != "resident":
        return f"the {loader} loader's batches come by way of the host"
    if runtime.uses_grad_scaler:
        return "the gradient scaler asks the host whether a step counts"
    optimizer = runtime.choices["optimizer"].used
    return "" if optimizer == "fused" else f"the {optimizer} optimizer takes its learning rate from the host"
