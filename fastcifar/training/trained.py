"""The weights that a run left behind, with all that is needed to use them."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from fastcifar.dataset.statistics import ChannelStatistics
from fastcifar.errors import DataError, UsageError
from fastcifar.model.registry import build_model
from fastcifar.training.checkpoint import load_weights, restore
from fastcifar.training.run_log import read_resolved_config


@dataclass(frozen=True)
class TrainedWeights:
    """The averaged weights of one epoch.

    Attributes:
        file: where they lie.
        model: the network's name.
        dataset: name of what it was trained on.
        classes: a logit's place is an index into them.
        statistics: what its images were normalised with.
    """

    file: Path
    tensors: dict[str, Tensor]
    model: str
    dataset: str
    classes: tuple[str, ...]
    statistics: ChannelStatistics

    def network(self) -> nn.Module:
        """The network with these weights, on the CPU, in evaluation mode and without gradients.

        Raises:
            UsageError: no network has that name.
            DataError: the weights are another network's.
        """
        model = build_model(self.model, len(self.classes))
        restore(model, self.tensors, str(self.file))
        return model.eval().requires_grad_(False)


def read_trained(run: Path, best: bool = False) -> TrainedWeights:
    """The last (or best) weights of a run folder, or those of a weights file.

    Raises:
        DataError: no such run or file, several runs in one folder, or damaged weights.
        UsageError: `best` is asked of a file.
    """
    file = run
    if run.is_file():
        if best:
            raise UsageError(
                f"--best chooses among the weights of a run folder, and {run} is a file", "name the folder"
            )
    else:
        _check_single_run(run)
        file = run / ("best.safetensors" if best else "last.safetensors")
    tensors, metadata = load_weights(file)
    try:
        return TrainedWeights(
            file,
            tensors,
            metadata["model"],
            metadata["dataset"],
            tuple(metadata["classes"]),
            ChannelStatistics(tuple(metadata["mean"]), tuple(metadata["std"])),
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{file}: its description is damaged: {error}", "train again") from None


def _check_single_run(folder: Path) -> None:
    """Raises DataError where the folder is no run, or holds several."""
    training = read_resolved_config(folder).config.training
    if training.runs > 1:
        raise DataError(f"{folder}: holds several runs", f"name one of them, such as {folder}/seed{training.seed}")
