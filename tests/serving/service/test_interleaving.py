"""Team-draft interleaving: who stands where, and that it favours neither list."""

import numpy as np
import pytest

from twotower.evaluation.sequential import Arm, difference, preference
from twotower.inference.answers import Recommendation
from twotower.service.interleaving import team_draft


def listed(ids: str, pinned: str = "") -> list[Recommendation]:
    return [
        Recommendation(one, None, 1.0, rank, rule="pinned" if one in pinned else None)
        for rank, one in enumerate(ids, start=1)
    ]


def drafted(a, b, k: int, tosses: str = "") -> tuple[str, str]:
    """Items and teams, where the tosses are won by the teams named, then by ``a``."""
    left = iter(tosses)
    items, teams = team_draft(a, b, k, lambda: next(left, "a") == "a")
    assert [one.rank for one in items] == [*range(1, len(items) + 1)]
    return "".join(one.item_id for one in items), teams


@pytest.mark.parametrize(
    ("a", "b", "k", "tosses", "items", "teams"),
    [
        ("uvwx", "uvwx", 4, "aa", "uvwx", "abab"),
        ("uvwx", "uvwx", 4, "ba", "uvwx", "baab"),
        ("uvwx", "xyzu", 4, "ab", "uxyv", "abba"),
        ("uvwx", "xyzu", 5, "ba", "xuvyw", "baaba"),
        ("uv", "xyzw", 4, "aa", "uxvy", "abab"),
        ("u", "xyz", 4, "aa", "uxyz", "ab--"),  # after the end of a list none is preferred
        ("", "xyz", 2, "", "xy", "--"),
        ("", "", 3, "", "", ""),
        ("uv", "uv", 5, "ab", "uv", "ab"),
    ],
)
def test_lists_take_turns(a, b, k, tosses, items, teams) -> None:
    assert drafted(listed(a), listed(b), k, tosses) == (items, teams)


def test_pinned_items_keep_their_places_and_speak_for_neither() -> None:
    a, b = listed("upvw", pinned="p"), listed("xpyz", pinned="p")
    assert drafted(a, b, 4, "aa") == ("upxv", "a-ba")
    assert drafted(listed("up", pinned="p"), listed("u"), 4, "b") == ("up", "b-")
    assert drafted(listed("u"), listed("xq", pinned="q"), 4) == ("ux", "ab")
    assert drafted(listed("", pinned=""), listed(""), 4) == ("", "")
    assert drafted(listed("p", pinned="p")[:1], listed("xy"), 3) == ("pxy", "---")


def test_both_lists_have_as_many_places() -> None:
    rng = np.random.default_rng(1)
    letters = "abcdefghijkl"
    for _ in range(200):
        a, b = ("".join(rng.permutation([*letters])[:8]) for _ in range(2))
        items, teams = drafted(listed(a), listed(b), 8, "".join(rng.choice(["a", "b"], 8)))
        assert len({*items}) == 8
        assert teams.count("a") == teams.count("b") == 4


LIKED = np.where(np.arange(200) < 8, 6.0, 1.0)
"""How much shoppers like each item."""


def looked_at(best: tuple[int, int], seed: int, most: int) -> tuple[int, int]:
    """Shoppers until interleaving, and until a split, prefers a list; negative for the first one.

    Each list has the ``best`` of the items that are liked, and others, in any order. A shopper
    takes one item, or goes without, by multinomial logit; some seldom take any.
    """
    rng = np.random.default_rng(seed)
    found = [0, 0]
    won, arms = {"a": 0, "b": 0, "-": 0}, {"a": [0, 0], "b": [0, 0]}

    def taken(items: np.ndarray, outside: float) -> int | None:
        sums = np.cumsum(LIKED[items])
        place = int(np.searchsorted(sums, rng.random() * (sums[-1] + outside)))
        return place if place < len(items) else None

    for shopper in range(1, most + 1):
        lists = [
            rng.permutation([*range(count), *rng.choice(np.arange(8, 200), 8 - count, False)])
            for count in best
        ]
        outside = rng.lognormal(2.0, 1.0)
        a, b = ([Recommendation(str(item), None, 0.0, 1) for item in items] for items in lists)
        items, teams = team_draft(a, b, 8, lambda: rng.random() < 0.5)
        place = taken(np.array([int(one.item_id) for one in items]), outside)
        if place is not None:
            won[teams[place]] += 1
        arm = "ab"[rng.random() < 0.5]
        arms[arm][0] += 1
        arms[arm][1] += taken(lists["ab".index(arm)], outside) is not None
        if shopper % 20:
            continue
        verdicts = (
            preference(won["a"], won["b"], won["-"]).better,
            difference(Arm(*arms["a"]), Arm(*arms["b"])).better,
        )
        for method, better in enumerate(verdicts):
            if better is not None and not found[method]:
                found[method] = shopper if better == "b" else -shopper
        if all(found):
            break
    return found[0], found[1]


def test_a_better_list_is_found_with_far_fewer_shoppers_than_by_a_split() -> None:
    needed = np.array([looked_at((3, 5), seed, 5_000) for seed in range(9)])
    assert (needed >= 0).all()
    needed[needed == 0] = 5_000  # or more
    assert 5 * np.median(needed[:, 0]) <= np.median(needed[:, 1])


def test_equal_lists_are_not_called_different() -> None:
    needed = [looked_at((4, 4), seed, 400)[0] for seed in range(20)]
    assert sum(one != 0 for one in needed) <= 1
