import re

import pytest

from twotower.errors import InputError
from twotower.evaluation.registry import (
    FEWEST,
    GROUPS,
    HISTORY_SIZES,
    REGISTRY,
    SEGMENTS,
    by_name,
    segment_names,
)


def test_groups_hold_protocols_and_share_no_name_with_them() -> None:
    assert not GROUPS.keys() & REGISTRY.keys()
    for members in GROUPS.values():
        assert set(members) <= REGISTRY.keys()


def test_names_can_name_files_and_stand_in_tables() -> None:
    prefixes = {p.segments for p in REGISTRY.values() if p.segments}
    names = [*REGISTRY, *GROUPS, *(name for prefix in prefixes for name in segment_names(prefix))]
    assert all(re.fullmatch(r"[\w+-]+", name) for name in names)


def test_segments_cover_all_lengths_once() -> None:
    for length in range(200):
        inside = [low for low, high in SEGMENTS if low <= length and (high or 999) >= length]
        assert len(inside) == 1


def test_every_size_of_the_cold_start_table_is_defined_for_its_users() -> None:
    assert max(size for size in HISTORY_SIZES if size) == FEWEST


def test_names_and_groups_are_found_once_in_their_order() -> None:
    found = by_name(["full", "cold-start", "history-5", "full"])
    assert list(found) == ["full", *GROUPS["cold-start"]]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "^no protocol to evaluate; pass one of full, full-unmasked"),
        (["full", "best"], "^unknown protocol 'best'; pass one of full.*group of them: cold-start"),
    ],
)
def test_bad_names_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        by_name(names)
