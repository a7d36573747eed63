"""Hyperparameter search space: settings of a variant by dotted name, and their values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from twotower.config import Config, first_problem, refusal
from twotower.errors import InputError
from twotower.training.variant import Variant


class Categorical(Config):
    """One of several values."""

    kind: Literal["choice"] = "choice"
    path: str
    """Dotted name of a setting of the variant, such as ``training.batch_size``."""
    values: tuple[bool | int | float | str, ...] = Field(min_length=1)
    also: tuple[str, ...] = ()
    """Settings that must have the same value."""


class Range(Config):
    """A number from an interval."""

    kind: Literal["range"] = "range"
    path: str
    low: float
    high: float
    log: bool = False
    """Whether to sample on a logarithmic scale."""

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be above 0 where log is set, got {self.low}")
        return self


Parameter = Annotated[Categorical | Range, Field(discriminator="kind")]
SearchSpace = tuple[Parameter, ...]

SPACE: Final[SearchSpace] = (
    Range(path="training.learning_rate", low=1e-4, high=1e-2, log=True),
    Categorical(path="training.batch_size", values=(256, 512, 1024, 2048, 8192)),
    Categorical(path="model.embedding_dim", values=(32, 64, 128)),
    Categorical(path="model.layers", values=(1, 2, 3, 4)),
    Range(path="model.user_tower.id_dropout", low=0.0, high=0.8),
    Range(path="model.item_tower.id_dropout", low=0.0, high=0.8),
    Categorical(path="model.item_tower.text_dim", values=(32, 64, 128)),
    Categorical(path="model.user_tower.history.length", values=(10, 20, 50)),
    Range(path="loss.temperature", low=0.03, high=1.0, log=True),
    Range(path="loss.regularisation", low=1e-5, high=1e-1, log=True),
    Categorical(path="negatives.count", values=(1, 2, 4, 8)),
    Range(path="negatives.power", low=0.0, high=1.0),
    Categorical(path="training.batch_positions", values=(512, 1024, 2048, 4096)),
    Categorical(path="training.average", values=(0.99, 0.995, 0.998, 0.999)),
    Categorical(
        path="model.embedding_dim", values=(32, 64, 128, 192), also=("model.history.hidden_dim",)
    ),
    Categorical(path="model.history.length", values=(20, 50, 100, 200)),
    Categorical(path="model.history.layers", values=(1, 2, 3)),
    Range(path="model.history.dropout", low=0.0, high=0.5),
    Range(path="model.dropout", low=0.0, high=0.5),
    Range(path="model.id_dropout", low=0.0, high=0.5),
    Range(path="model.item_dropout", low=0.0, high=0.5),
    Categorical(path="model.start_from_factors", values=(False, True)),
    Categorical(path="model.factors.embedding_dim", values=(128, 224, 320)),
    Range(path="model.cold_items.exposure", low=0.01, high=0.2, log=True),
    Categorical(path="negatives.sampled.count", values=(512, 1024, 2048, 4096)),
)
"""Default search space; a variant is searched over the settings that it has. The settings of a
least-squares part that are chosen in every training are not among them."""
_PREDICTIONS: Final = "training.batch_positions"
"""Of a variant that has it, a batch is that many predictions, and ``batch_size`` is not read."""


def space_of(variant: Variant) -> SearchSpace:
    """The settings of `SPACE` that a variant has and that may change, alone or with others."""
    found: dict[str, Parameter] = {}
    for parameter in SPACE:
        if not _missing(parameter, variant) and _fits(parameter, variant):
            found.setdefault(parameter.path, parameter)
    if _PREDICTIONS in found:
        found.pop("training.batch_size", None)
    return tuple(found.values())


def settings_of(space: SearchSpace, values: Mapping[str, Any]) -> dict[str, Any]:
    """All settings that values of a space change: see `Categorical.also`."""
    settings = dict(values)
    for parameter in space:
        if isinstance(parameter, Categorical) and parameter.path in values:
            settings |= dict.fromkeys(parameter.also, values[parameter.path])
    return settings


def _missing(parameter: Parameter, variant: Variant) -> list[str]:
    """Settings of a parameter that a variant does not have."""
    paths = [parameter.path]
    if isinstance(parameter, Categorical):
        paths += parameter.also
    return [path for path in paths if value_of(variant, path) is None]


def _fits(parameter: Parameter, variant: Variant) -> bool:
    try:
        for value in _ends(parameter):
            changed(variant, settings_of((parameter,), {parameter.path: value}))
    except InputError:
        return False
    return True


def _ends(parameter: Parameter) -> tuple[Any, ...]:
    if isinstance(parameter, Categorical):
        return parameter.values
    return parameter.low, parameter.high


def read_space(path: Path, variant: Variant) -> SearchSpace:
    """A space from a JSON list, such as ``[{"kind": "range", "path": …}]``.

    Raises
    ------
    InputError
        Where it is malformed, or names a setting that the variant lacks.
    """
    try:
        space = TypeAdapter(SearchSpace).validate_json(path.read_bytes())
    except ValidationError as error:
        raise refusal(error, SearchSpace, f"{path} is not a search space") from error
    for parameter in space:
        missing = _missing(parameter, variant)
        if missing:
            raise InputError(
                f"{path} names {missing[0]!r}, a setting that the variant does not have",
                "list its settings with 'twotower info' of a trained model",
            )
    return space


def read_settings(path: Path) -> Variant:
    """A variant from a JSON file, such as `twotower.study.tuning.tune` writes."""
    try:
        return Variant.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise refusal(error, Variant, f"{path} is not a variant") from error


def value_of(variant: Variant, path: str) -> Any:
    """The value of a setting, or None where the variant has no such setting."""
    value: Any = variant.model_dump(mode="json")
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def changed(variant: Variant, values: Mapping[str, Any]) -> Variant:
    """The variant with some settings replaced by dotted name, validated again.

    Raises
    ------
    InputError
        Where they do not fit each other.
    """
    settings = variant.model_dump(mode="json")
    if "training.epochs" in values:
        settings["training"]["least_steps"] = 0  # the value given takes precedence
    for path, value in values.items():
        *folders, name = path.split(".")
        inner = settings
        for folder in folders:
            inner = inner[folder]
        inner[name] = value
    try:
        return Variant.model_validate(settings)
    except ValidationError as error:
        named = ", ".join(f"{path} {value}" for path, value in values.items())
        raise InputError(
            f"settings do not fit: {named}: {first_problem(error).what}",
            "give the search space values that fit the variant",
        ) from error
