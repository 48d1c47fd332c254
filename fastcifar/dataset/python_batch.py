"""Read a pickled CIFAR-10 batch without letting the pickle run anything.

A pickle is a program: it may import and call whatever it names. This reader knows the four names that
an array needs and answers them with the stand-ins below, which only remember their arguments. So a
batch becomes bytes and integers whichever Python or NumPy wrote it, and anything else is refused.
"""

import io
import pickle
from typing import Any

import numpy as np


class PickleRefusedError(Exception):
    """The pickle is damaged, names something it has no business with, or holds no batch."""


class _Dtype:
    """Stands in for numpy.dtype."""

    def __init__(self, code: Any, *_flags: Any) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else code

    def __setstate__(self, _state: Any) -> None:
        """Byte order and field layout: meaningless for single bytes, the only dtype accepted."""


class _Array:
    """Stands in for numpy.ndarray."""

    shape: Any = None
    dtype: Any = None
    content: Any = None

    def __setstate__(self, state: Any) -> None:
        _version, self.shape, self.dtype, self.by_columns, self.content = state

    def to_uint8(self) -> np.ndarray:
        """The array, once it is sure to be whole rows of bytes."""
        if not (isinstance(self.dtype, _Dtype) and self.dtype.code in ("u1", "|u1", "uint8")):
            raise PickleRefusedError("its pixels are no bytes")
        if not (isinstance(self.shape, tuple) and len(self.shape) == 2 and self.by_columns in (False, 0)):
            raise PickleRefusedError("its pixels are not in rows")
        if not isinstance(self.content, bytes):
            raise PickleRefusedError("its pixels are missing")
        return np.frombuffer(self.content, dtype=np.uint8).reshape(self.shape)


def _new_array(*_arguments: Any) -> _Array:
    """Stands in for numpy's _reconstruct: an empty array, filled by __setstate__."""
    return _Array()


def _array_from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Stands in for numpy's _frombuffer, used from pickle protocol 5 on."""
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", bytes(content)))
    return array


def _latin1_bytes(text: Any, encoding: Any) -> bytes:
    """Stands in for codecs.encode, by which Python 3 writes bytes under the old protocols."""
    if not (isinstance(text, str) and encoding in ("latin1", b"latin1")):
        raise PickleRefusedError("it encodes something that is no bytes")
    return text.encode("latin1")


_STAND_INS = {
    "ndarray": _Array,
    "dtype": _Dtype,
    "_reconstruct": _new_array,
    "_frombuffer": _array_from_buffer,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # numpy.core.multiarray, numpy._core.numeric, ...: NumPy has moved these names more than once.
        if module.partition(".")[0] == "numpy" and name in _STAND_INS:
            return _STAND_INS[name]
        if (module, name) == ("_codecs", "encode"):
            return _latin1_bytes
        raise PickleRefusedError(f"it wants to use {module}.{name}")


def read_pickled_batch(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Labels, int64 [R], and pixels, uint8 [R, 3072], of one batch file.

    Raises:
        PickleRefusedError: with the reason, worded to follow "..., ".
    """
    try:
        # Python 2 wrote the official files: its strings come back as bytes.
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except PickleRefusedError:
        raise
    except Exception as error:  # a damaged pickle can raise anything at all
        raise PickleRefusedError(f"its pickle is damaged: {error}") from None
    if not isinstance(batch, dict):
        raise PickleRefusedError("it is no dictionary")
    labels = batch.get(b"labels", batch.get("labels"))
    pixels = batch.get(b"data", batch.get("data"))
    if not (isinstance(labels, list) and all(type(label) is int for label in labels)):
        raise PickleRefusedError("it has no list of labels (CIFAR-100 calls them fine_labels)")
    if not isinstance(pixels, _Array):
        raise PickleRefusedError("it has no array of pixels")
    try:
        return np.array(labels, dtype=np.int64), pixels.to_uint8()
    except (ValueError, TypeError, OverflowError) as error:
        raise PickleRefusedError(f"its numbers do not fit: {error}") from None
