import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twotower.inference.eligibility import OpenItems


@given(
    mask=st.lists(st.booleans(), min_size=1, max_size=30),
    seen=st.lists(st.integers(0, 29), max_size=40),
    first=st.integers(0, 30),
)
def test_it_is_the_mask_without_what_was_seen(mask, seen, first) -> None:
    mask = np.array(mask)
    seen = np.array([one for one in seen if one < len(mask)], dtype=np.int32)
    truth = mask.copy()
    truth[seen] = False
    open_items = OpenItems.of(mask)
    assert open_items.count == open_items.at_least == mask.sum()
    assert open_items.rows().tolist() == np.flatnonzero(mask).tolist()
    open_items = open_items.without(seen)
    assert len(open_items) == len(mask)
    assert open_items.at_least <= truth.sum()
    everything = np.arange(len(mask))
    assert open_items.have(everything[::-1]).tolist() == truth[::-1].tolist()
    assert open_items.rows(first).tolist() == [row for row in np.flatnonzero(truth) if row >= first]
