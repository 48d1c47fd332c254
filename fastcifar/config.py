"""The configuration of a run: sections of plain values, and where each value came from.

Precedence: flag > --set section.key=value > environment (FASTCIFAR_SECTION_KEY) > recipe > default.
"""

import dataclasses
import difflib
import math
import os
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from fastcifar.augment.policy import AugmentPolicy
from fastcifar.errors import UsageError

DEFAULT_RECIPE = "speed"
ENVIRONMENT_PREFIX = "FASTCIFAR_"
OTHER_VARIABLES = {"FASTCIFAR_CACHE_DIR", "FASTCIFAR_RUNS_DIR", "FASTCIFAR_ALLOCATOR"}
"""Variables that are no settings of a run; every other one with the prefix must be."""


def _require(holds: bool, key: str, value: object, allowed: str) -> None:
    if not holds or (isinstance(value, float) and not math.isfinite(value)):
        raise UsageError(f"{key} = {value!r} is out of range", f"allowed: {allowed}")


@dataclass(frozen=True)
class DataConfig:
    """Which images are used."""

    dataset: str = "cifar10"  # cifar10 | shapes10 (built in, needs no files)
    dir: str = ""  # folder or archive with CIFAR-10; empty: ./data, then the cache
    offline: bool = False  # never touch the network
    holdout: int = 0  # train images set aside and evaluated instead of the test images

    def __post_init__(self) -> None:
        _require(self.dataset in ("cifar10", "shapes10"), "data.dataset", self.dataset, "cifar10, shapes10")
        _require(self.holdout >= 0, "data.holdout", self.holdout, "0 or more images")


@dataclass(frozen=True)
class LoaderConfig:
    """How batches are made."""

    kind: str = "auto"  # auto | resident | workers
    workers: int = 2  # processes of the workers loader

    def __post_init__(self) -> None:
        _require(self.kind in ("auto", "resident", "workers"), "loader.kind", self.kind, "auto, resident, workers")
        _require(0 <= self.workers <= 256, "loader.workers", self.workers, "0 to 256 processes")


@dataclass(frozen=True)
class ModelConfig:
    """Which network is trained."""

    name: str = "c1c2c3c40-speed"
    whiten_stem: bool = True  # freeze the first convolution to whiten patches of the training images


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD with Nesterov momentum; biases and batch-norm parameters form a group of their own."""

    learning_rate: float = 2.0  # peak of the schedule, as SGD applies it to the batch mean
    momentum: float = 0.9
    weight_decay: float = 5e-4  # of convolution and linear weights; biases and batch-norm have none
    bias_lr_scale: float = 16.0  # learning rate of biases and batch-norm over that of the weights

    def __post_init__(self) -> None:
        _require(self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "above 0")
        _require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "0 to below 1")
        _require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        _require(self.bias_lr_scale > 0, "optimizer.bias_lr_scale", self.bias_lr_scale, "above 0")


@dataclass(frozen=True)
class ScheduleConfig:
    """How long a run is, and how learning rate and image size change on the way."""

    epochs: int = 10
    warmup: float = 0.2  # share of the run in which the learning rate rises to its peak
    final_lr: float = 0.0  # learning rate at the end, as a share of the peak
    image_sizes: tuple[tuple[float, int], ...] = ((0.0, 32),)  # (from this share of the epochs on, pixels)

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "schedule.epochs", self.epochs, "1 or more")
        _require(0 <= self.warmup < 1, "schedule.warmup", self.warmup, "0 to below 1")
        _require(0 <= self.final_lr <= 1, "schedule.final_lr", self.final_lr, "0 to 1")
        starts = [start for start, _ in self.image_sizes]
        _require(
            bool(starts) and starts[0] == 0 and starts == sorted(set(starts)) and starts[-1] < 1,
            "schedule.image_sizes",
            self.image_sizes,
            "pairs [share, pixels] whose shares start at 0 and rise to below 1",
        )
        _require(
            all(8 <= size <= 64 for _, size in self.image_sizes),
            "schedule.image_sizes",
            self.image_sizes,
            "sizes of 8 to 64 pixels",
        )

    def image_size(self, epoch: int) -> int:
        """Side in pixels of the training images in an epoch (counted from 0)."""
        share = epoch / self.epochs
        return next(size for start, size in reversed(self.image_sizes) if share >= start - 1e-9)


@dataclass(frozen=True)
class TrainingConfig:
    """What a run optimises, how often, and when it ends."""

    batch_size: int = 512
    seed: int = 0
    runs: int = 1  # seeds seed, seed + 1, ...
    label_smoothing: float = 0.1
    ema_decay: float = 0.98  # of the weights' moving average, a step; 0: evaluate the raw weights
    target: float = 0.0  # percent; a run stops at the first evaluation that reaches it; 0: none
    evaluate_from: float = 0.0  # share of the epochs before which nothing is evaluated
    log_every: int = 20  # steps between two looks at the loss (each waits for the device)

    def __post_init__(self) -> None:
        _require(self.batch_size >= 1, "training.batch_size", self.batch_size, "1 or more")
        _require(0 <= self.seed < 2**63, "training.seed", self.seed, "0 to 2^63 - 1")
        _require(self.runs >= 1, "training.runs", self.runs, "1 or more")
        _require(0 <= self.label_smoothing < 1, "training.label_smoothing", self.label_smoothing, "0 to below 1")
        _require(0 <= self.ema_decay < 1, "training.ema_decay", self.ema_decay, "0 to below 1")
        _require(0 <= self.target <= 100, "training.target", self.target, "0 to 100 percent")
        _require(0 <= self.evaluate_from <= 1, "training.evaluate_from", self.evaluate_from, "0 to 1")
        _require(self.log_every >= 1, "training.log_every", self.log_every, "1 or more steps")


@dataclass(frozen=True)
class RuntimeConfig:
    """On what and how the arithmetic runs; runtime.py says what is used of it, and why."""

    device: str = "auto"  # auto | cpu | cuda | cuda:N
    amp: bool = True  # mixed precision where it pays
    amp_dtype: str = "auto"  # auto (bf16) | bf16 | fp16 (with a gradient scaler)
    compile: bool = False  # torch.compile
    threads: int = 0  # CPU threads; 0: as many as the process may use
    deterministic: bool = False  # algorithms that repeat to the bit, where torch has them
    strict: bool = False  # what was asked for and cannot be had is an error

    def __post_init__(self) -> None:
        kinds = ("auto", "bf16", "fp16")
        _require(self.amp_dtype in kinds, "runtime.amp_dtype", self.amp_dtype, ", ".join(kinds))
        _require(0 <= self.threads <= 1024, "runtime.threads", self.threads, "0 to 1024")


@dataclass(frozen=True)
class Config:
    """A whole run. Every section is frozen; `to_dict` and `config_from_dict` round-trip."""

    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentPolicy = field(default_factory=AugmentPolicy)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Sections of plain values, ready for JSON."""
        return dataclasses.asdict(self)


SECTIONS: dict[str, type] = {f.name: typing.get_type_hints(Config)[f.name] for f in dataclasses.fields(Config)}
KEY_TYPES: dict[str, Any] = {
    f"{section}.{key}": hint for section, cls in SECTIONS.items() for key, hint in typing.get_type_hints(cls).items()
}


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
