"""Settings: their schemas are built at first use, whichever thread is first."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from pydantic import Field

from twotower import Filters
from twotower.config import Config
from twotower.data.declaration import Declaration
from twotower.data.readers.mapping import ColumnMapping
from twotower.data.schema import Schema
from twotower.data.settings import PrepareSettings
from twotower.errors import InputError
from twotower.inference.business_rules import BusinessRules


class Inner(Config):
    a: int = Field(1, ge=0)


@pytest.mark.parametrize("_round", range(20))
def test_threads_that_use_a_class_first_share_its_schema(_round: int) -> None:
    class Settings(Inner):
        b: float = Field(2.0, gt=0)
        inner: Inner = Inner()

    together = Barrier(8)

    def made(b: float) -> float:
        together.wait()
        return Settings(a=3, b=b).b

    values = [1.0 + place for place in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(made, values)) == values


class Outer(Config):
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] = Field(default_factory=dict)
    plain: int = Field(0, alias="raw")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"innner": 1}, "innner: unknown key, got 1; did you mean inner? it is one of inner, "),
        ({"plain": 1}, "plain: unknown key, got 1; it is one of inner, several, by_name, raw"),
        ({"inner": {"x": 1}}, "inner.x: unknown key, got 1; it is one of a"),
        ({"several": [{}, {"b": 1}]}, "several.1.b: unknown key, got 1; it is one of a"),
        ({"by_name": {"raw": {"b": 1}}}, "by_name.raw.b: unknown key, got 1; it is one of a"),
        ({"inner": {"a": -1}}, "inner.a: Input should be greater than or equal to 0, got -1"),
    ],
)
def test_what_does_not_fit_is_one_line_with_the_known_keys(values: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        Outer(**values)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Filters, {"max_prize": 9}, "max_prize: unknown key, got 9; did you mean max_price? "),
        (Filters, {"max_price": "9"}, "max_price: Input should be a valid number, got '9'"),
        (Filters, {"where": {"age": {"least": 9}}}, "where.age.least: unknown key, got 9; it is"),
        (BusinessRules, {"pins": ()}, "pins: unknown key, got (); did you mean pin? it is one of"),
        (PrepareSettings, {"k_core": -1}, "k_core: Input should be greater than or equal to 0"),
        (
            PrepareSettings,
            {"split": {"kind": "random", "tset": 0.1}},
            "split.random.tset: unknown key, got 0.1; did you mean test? it is one of kind, ",
        ),
        (ColumnMapping, {"usr": "a"}, "usr: unknown key, got 'a'; did you mean user? "),
        (Declaration, {"read": {"sep": ";"}}, "read.sep: unknown key, got ';'; it is one of form"),
        (Schema, {"items": {"brand": "brands"}}, "items.brand.kind: Input should be 'number', "),
    ],
)
def test_what_users_build_is_refused_in_one_line(
    kind: type[Config], values: dict, message: str
) -> None:
    with pytest.raises(InputError) as error:
        kind(**values)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_settings_within_settings_are_validated_as_a_whole() -> None:
    """Not one by one, which would take the path to what is wrong away."""
    assert not Outer.__pydantic_custom_init__
