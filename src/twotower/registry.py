"""Registries of exchangeable parts by name: the built-in ones, and entry points of other packages.

Model families, losses, negative samplers, example sources, indexes, encoders, metrics and variants
are found the same way. A package adds its own by an entry point of the group, for example::

    [project.entry-points."twotower.models"]
    item_bias = "my_package:ItemBiasConfig"
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from pydantic import ValidationError

from twotower.config import Config, refusal
from twotower.errors import InputError

Part = TypeVar("Part")
Described = TypeVar("Described", bound=Config)


class Registry(Generic[Part]):
    """Parts of one sort by name, imported when they are first asked for.

    Parameters
    ----------
    group
        Entry point group in which other packages name theirs, for example ``twotower.models``.
    sort
        What the parts are, for messages: ``model``, ``loss``.
    builtin
        Name → ``module:attribute``. A name that is built in cannot be replaced by a package.
    """

    def __init__(self, group: str, sort: str, builtin: Mapping[str, str]) -> None:
        self.group, self.sort = group, sort
        self._builtin = dict(builtin)

    @cached_property
    def _plugins(self) -> dict[str, EntryPoint]:
        return {
            point.name: point
            for point in entry_points(group=self.group)
            if point.name not in self._builtin
        }

    def __iter__(self) -> Iterator[str]:
        """All names, the built-in ones first."""
        yield from self._builtin
        yield from self._plugins

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._plugins

    def find(self, name: str) -> Part:
        """The part of that name.

        Raises
        ------
        InputError
            Where there is none, or the package that offers it cannot be imported.
        """
        if name in self._builtin:
            module, _, attribute = self._builtin[name].partition(":")
            return cast(Part, getattr(import_module(module), attribute))
        if name not in self._plugins:
            raise InputError(f"unknown {self.sort} {name!r}", f"pass one of {', '.join(self)}")
        point = self._plugins[name]
        try:
            return cast(Part, point.load())
        except (ImportError, AttributeError) as error:
            raise InputError(
                f"{self.sort} {name!r}, the entry point {point.value!r} of group {self.group!r}, "
                f"cannot be imported ({error})",
                "mend or uninstall the package that declares it",
            ) from error


class ConfigRegistry(Registry[type[Described]]):
    """Settings classes by their ``kind``; `parse` makes pydantic read a field by it.

    Parameters
    ----------
    base
        What all of them subclass.
    """

    def __init__(
        self, group: str, sort: str, base: type[Described], builtin: Mapping[str, str]
    ) -> None:
        super().__init__(group, sort, builtin)
        self._base = base

    def parse(self, value: Any) -> Described:
        """Settings from a mapping with a ``kind``; an instance stays as it is.

        For pydantic's ``BeforeValidator``.

        Raises
        ------
        ValueError
            Where there is no such kind, or a setting does not fit.
        """
        if isinstance(value, self._base):
            return value
        if not isinstance(value, Mapping) or "kind" not in value:
            raise ValueError(
                f"a {self.sort} needs a 'kind', one of {', '.join(self)}, got {value!r}"
            )
        kind = self.find(value["kind"])
        try:
            return kind.model_validate(value)
        except ValidationError as error:
            raise refusal(error, kind) from error
