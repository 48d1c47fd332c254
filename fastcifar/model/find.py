"""A network by the name that a user gives: one of ours, or any that Python can import."""

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from fastcifar.errors import UsageError
from fastcifar.model.others_code import others_code
from fastcifar.model.registry import build_model

FORMS = "package.module:Class or path/to/file.py:Class"


def find_network(name: str, classes: int | None = None) -> nn.Module:
    """The network of that name, freshly built.

    Args:
        name: of the registry; else `package.module:Class` with the current folder on the path, or
            `path/to/file.py:Class`: a class or function that is called without arguments, or a network itself.
        classes: of a registered network, 10 unless given.

    Raises:
        UsageError: there is no such network, or it cannot be imported or built.
    """
    if ":" not in name:
        return _registered(name, 10 if classes is None else classes)
    if classes is not None:
        raise UsageError(f"--classes is for fastcifar's own networks, not for {name}", "leave it out")
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        raise UsageError(f"{name}: the name of a module or a class is missing", f"write {FORMS}")
    is_file = place.endswith(".py")
    with _on_path(Path(place).resolve().parent if is_file else Path.cwd()):
        module = _from_file(Path(place)) if is_file else _from_path(place)
        return _built(_attribute(module, place, attribute), name)


def _registered(name: str, classes: int) -> nn.Module:
    if name.endswith(".py"):
        raise UsageError(f"{name}: which network in it?", f"name it as {name}:Class")
    try:
        return build_model(name, classes)
    except UsageError as error:
        raise UsageError(f"{name}: no such network", f"{error.hint.rstrip('?')}, or {FORMS}") from None


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"{path}: no such file", f"write {FORMS}")
    # Not the file's own name, lest a file json.py take the place of a module that others import.
    name = f"file_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # A dataclass, for one, looks its module up by name while the file runs.
    sys.modules[name] = module
    with others_code(f"{path} cannot be imported", path):
        specification.loader.exec_module(module)
    return module


def _from_path(name: str) -> ModuleType:
    with others_code(f"{name} cannot be imported"):
        return importlib.import_module(name)


def _attribute(module: ModuleType, place: str, dotted: str) -> Any:
    found: Any = module
    for part in dotted.split("."):
        if not hasattr(found, part):
            networks = [
                key for key, value in vars(module).items() if inspect.isclass(value) and issubclass(value, nn.Module)
            ]
            hint = f"networks in it: {', '.join(networks)}" if networks else f"write {FORMS}"
            raise UsageError(f"{place} has no {dotted}", hint)
        found = getattr(found, part)
    return found


def _built(found: Any, name: str) -> nn.Module:
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise UsageError(f"{name} is no network", "name an nn.Module, or a function that returns one")
    with contextlib.suppress(ValueError):  # Some built-in callables have no signature.
        try:
            inspect.signature(found).bind()
        except TypeError as error:
            hint = "name a function without arguments that returns the network"
            raise UsageError(f"{name} needs arguments: {error}", hint) from None
    with others_code(f"{name} cannot be built"):
        built = found()
    if not isinstance(built, nn.Module):
        raise UsageError(f"{name} returned {type(built).__name__}, no network", "it has to return an nn.Module")
    return built


@contextlib.contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """Modules beside the user's own are found, too."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
