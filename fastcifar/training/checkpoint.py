"""Weights in safetensors, resume state that loads without unpickling code; both replaced whole or not at all."""

import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fastcifar.atomic import written_whole
from fastcifar.errors import DataError

RESUME_FILE = "resume.pt"
METADATA_KEY = "fastcifar"


def save_weights(path: Path, model: nn.Module, metadata: dict[str, Any]) -> None:
    """Write a model's state with what is needed to use it (network, classes, normalisation)."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    header = {METADATA_KEY: json.dumps(metadata)}
    # As bytes, because the library's own writers report a full disk in exceptions of their own.
    with written_whole(path) as partial:
        partial.write_bytes(save(tensors, metadata=header))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State and metadata of a file written by `save_weights`.

    Raises:
        DataError: the file is missing, damaged, or somebody else's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get(METADATA_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise DataError(f"{path}: no such weights", "a run folder has last.safetensors once an epoch is done") from None
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not readable as safetensors: {error}", "train again or restore the file") from None
    if metadata is None:
        raise DataError(f"{path}: weights of another program", "name a folder written by `fastcifar train`")
    return tensors, json.loads(metadata)


def restore(model: nn.Module, tensors: dict[str, Tensor], origin: str) -> None:
    """Load a state into a model.

    Raises:
        DataError: the state belongs to another network; the first difference is named.
    """
    expected = model.state_dict()
    for name in [*expected, *tensors]:
        ours = tuple(expected[name].shape) if name in expected else "nothing"
        theirs = tuple(tensors[name].shape) if name in tensors else "nothing"
        if ours != theirs:
            raise DataError(
                f"{origin}: the checkpoint is of another model ({name}: {theirs} in the file, {ours} in the network)",
                "use the network and version that the run was trained with",
            )
    model.load_state_dict(tensors)


def save_resume_state(folder: Path, state: dict[str, Any]) -> None:
    """Write everything that a run needs to go on as if it had never stopped."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with written_whole(folder / RESUME_FILE) as partial:
        partial.write_bytes(buffer.getbuffer())


def load_resume_state(folder: Path) -> dict[str, Any]:
    """Raises DataError where the folder holds no readable resume state."""
    path = folder / RESUME_FILE
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(
            f"{folder}: nothing to resume, {RESUME_FILE} is missing", "name an interrupted run's folder"
        ) from None
    except Exception as error:
        # torch.load raises many kinds for a damaged file, none of them its own.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: damaged: {reason}", "train again; last.safetensors may still be whole") from None
