"""Where the values of a configuration come from.

Precedence: flag > --set section.key=value > environment (FASTCIFAR_SECTION_KEY) > recipe > default.
"""

import difflib
import os
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from fastcifar.config import KEY_TYPES, SECTIONS, Config
from fastcifar.errors import UsageError

DEFAULT_RECIPE = "speed"
ENVIRONMENT_PREFIX = "FASTCIFAR_"
OTHER_VARIABLES = {"FASTCIFAR_CACHE_DIR", "FASTCIFAR_RUNS_DIR", "FASTCIFAR_ALLOCATOR"}
"""Variables that are no settings of a run; every other one with the prefix must be."""


@dataclass(frozen=True)
class ResolvedConfig:
    """A configuration with the origin of each value.

    Attributes:
        recipe: name of the recipe, or the path it was read from.
        sources: `section.key` -> "flag --x", "--set", "environment X", "recipe NAME" or "default".
    """

    config: Config
    recipe: str
    sources: dict[str, str]

    def asked_by_name(self, key: str) -> bool:
        """Whether the user (rather than the recipe or a default) chose the value of `section.key`."""
        return not self.sources[key].startswith(("recipe", "default"))

    def to_dict(self) -> dict[str, Any]:
        return {"recipe": self.recipe, "config": self.config.to_dict(), "sources": self.sources}


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("fastcifar") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def resolve(
    recipe: str = DEFAULT_RECIPE,
    flags: Mapping[str, tuple[str, Any]] | None = None,
    settings: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
) -> ResolvedConfig:
    """Merge all origins into one validated configuration.

    Args:
        recipe: a packaged recipe's name or the path of a TOML file.
        flags: `section.key` -> (flag as the user typed it, value); a value of None was not given.
        settings: `section.key=value` strings of --set, the value in TOML (a bare word is a string).
        environment: defaults to the process environment.

    Raises:
        UsageError: an unknown recipe, key or value, named together with what would be right.
    """
    layers = _Layers({}, dict.fromkeys(KEY_TYPES, "default"))
    for key, value in _flatten(_read_recipe(recipe), f"recipe {recipe}").items():
        layers.override(key, value, f"recipe {recipe}")
    for key, name, text in _environment_settings(os.environ if environment is None else environment):
        layers.override(key, _parse_value(text, KEY_TYPES[key]), f"environment {name}")
    layers.override_by_hand(flags or {}, settings)
    return ResolvedConfig(_build(layers.values), recipe, layers.sources)


def apply_overrides(
    resolved: ResolvedConfig, flags: Mapping[str, tuple[str, Any]], settings: Iterable[str]
) -> ResolvedConfig:
    """A resolved configuration with further flags and --set strings on top; arguments as in `resolve`."""
    layers = _Layers(_flatten(resolved.config.to_dict(), "configuration"), dict(resolved.sources))
    layers.override_by_hand(flags, settings)
    return ResolvedConfig(_build(layers.values), resolved.recipe, layers.sources)


def config_from_dict(sections: Mapping[str, Mapping[str, Any]], origin: str) -> Config:
    """The inverse of `Config.to_dict`, validated; `origin` names the file in an error."""
    values = {key: _coerce(key, value, origin) for key, value in _flatten(sections, origin).items()}
    return _build(values)


@dataclass
class _Layers:
    """Values and sources under construction; what comes later overrides what came before."""

    values: dict[str, Any]
    sources: dict[str, str]

    def override(self, key: str, value: Any, source: str) -> None:
        self.values[key] = _coerce(key, value, source)
        self.sources[key] = source

    def override_by_hand(self, flags: Mapping[str, tuple[str, Any]], settings: Iterable[str]) -> None:
        for setting in settings:
            key, separator, text = setting.partition("=")
            key = key.strip()
            if not separator:
                raise UsageError(f"--set {setting}: no value", "write --set section.key=value")
            _check_key(key, "--set")
            self.override(key, _parse_value(text.strip(), KEY_TYPES[key]), "--set")
        for key, (flag, value) in flags.items():
            if value is not None:
                self.override(key, value, f"flag {flag}")


def _build(values: Mapping[str, Any]) -> Config:
    return Config(
        **{
            section: cls(**{key.split(".")[1]: value for key, value in values.items() if key.split(".")[0] == section})
            for section, cls in SECTIONS.items()
        }
    )


def _read_recipe(recipe: str) -> dict[str, Any]:
    try:
        if recipe in recipe_names():
            return tomllib.loads((resources.files("fastcifar") / "recipes" / f"{recipe}.toml").read_text())
        if recipe.endswith(".toml") and Path(recipe).is_file():
            return tomllib.loads(Path(recipe).read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {recipe} is not valid TOML: {error}", "mend the line it names") from None
    except OSError as error:
        raise UsageError(f"recipe {recipe} cannot be read: {error.strerror}", "check its permissions") from None
    names = recipe_names()
    raise UsageError(f"unknown recipe {recipe!r}", _suggest(recipe, names) + "or the path of a .toml file")


def _flatten(sections: Mapping[str, Any], origin: str) -> dict[str, Any]:
    flat = {}
    for section, keys in sections.items():
        if not isinstance(keys, Mapping):
            raise UsageError(f"{origin}: {section} stands outside a section", f"sections: {', '.join(SECTIONS)}")
        for key, value in keys.items():
            _check_key(f"{section}.{key}", origin)
            flat[f"{section}.{key}"] = value
    return flat


def _environment_settings(environment: Mapping[str, str]) -> list[tuple[str, str, str]]:
    found = []
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX) and name not in OTHER_VARIABLES and environment[name]:
            key = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("_", ".", 1)
            _check_key(key, f"environment variable {name}")
            found.append((key, name, environment[name]))
    return found


def _check_key(key: str, origin: str) -> None:
    if key not in KEY_TYPES:
        raise UsageError(f"{origin}: unknown key {key!r}", _suggest(key, KEY_TYPES) + "`--dry-run` lists all keys")


def _suggest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(word, names, n=3)
    if close:
        return f"did you mean {' or '.join(close)}? "
    return f"known: {', '.join(names)}; " if len(names) <= 16 else ""


def _parse_value(text: str, hint: Any) -> Any:
    """Read a value as TOML; where a string is wanted, or it is not TOML, take the text as it stands."""
    if hint is str:
        return text.strip("\"'")
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _coerce(key: str, value: Any, origin: str) -> Any:
    """Bring a parsed value to the key's declared type without guessing (1 is a float, 1.5 is no int)."""
    hint = KEY_TYPES[key]
    if hint is float and type(value) is int:
        return float(value)
    if hint is bool and type(value) is str and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if typing.get_origin(hint) is tuple:
        try:
            pairs = tuple((float(start), int(size)) for start, size in value)
            if any(size != whole for (_, size), (_, whole) in zip(value, pairs, strict=True)):
                raise ValueError("a size is no whole number")
            return pairs
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"{origin}: {key} = {value!r}", "write pairs: [[0.0, 16], [0.5, 32]]") from None
    if type(value) is not hint:
        raise UsageError(f"{origin}: {key} = {value!r}", f"it takes a {hint.__name__}")
    return value
