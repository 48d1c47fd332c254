"""The file formats of `fastcifar export`: each encodes an exported program as bytes and runs such bytes."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.export import ExportedProgram

from fastcifar.augment.requirements import installed_version
from fastcifar.errors import DeviceError

INPUT, OUTPUT = "images", "logits"
METADATA_FILE = "fastcifar.json"
"""What a .pt2 file calls the metadata, among its extra files."""


class Format(NamedTuple):
    """One file format.

    check_packages: raises DeviceError where a package that it needs is missing.
    encode: a program and its metadata -> the file's bytes.
    load: the file's bytes -> a function from images to logits.
    """

    check_packages: Callable[[], None]
    encode: Callable[[ExportedProgram, dict[str, Any]], bytes]
    load: Callable[[bytes], Callable[[Tensor], Tensor]]


def _needs_nothing() -> None:
    pass


def _encode_pt2(program: ExportedProgram, metadata: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(program, buffer, extra_files={METADATA_FILE: json.dumps(metadata, indent=2)})
    return buffer.getvalue()


def _load_pt2(content: bytes) -> Callable[[Tensor], Tensor]:
    with _quiet():
        return torch.export.load(io.BytesIO(content)).module()


def _needs_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if installed_version(name) is None]
    if missing:
        raise DeviceError(f"--format onnx needs {' and '.join(missing)}", "pip install '.[onnx]'")


def _encode_onnx(program: ExportedProgram, metadata: dict[str, Any]) -> bytes:
    with _quiet():
        exported = torch.onnx.export(
            program,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: "batch"},),
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    # What torch notes for its own developers; it takes as much room as a small layer.
    graph = model.graph
    for described in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph, model):
        del described.metadata_props[:]
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    return model.SerializeToString()


def _load_onnx(content: bytes) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither warnings nor log lines of torch's exporters, which speak to their developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


FORMATS = {
    "onnx": Format(_needs_onnx, _encode_onnx, _load_onnx),
    "pt2": Format(_needs_nothing, _encode_pt2, _load_pt2),
}
