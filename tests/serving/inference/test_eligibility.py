import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twotower.inference.eligibility import EligibilityMask


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
    eligible = EligibilityMask.of(mask)
    assert eligible.count == eligible.min_count == mask.sum()
    assert eligible.rows().tolist() == np.flatnonzero(mask).tolist()
    eligible = eligible.without(seen)
    assert len(eligible) == len(mask)
    assert eligible.min_count <= truth.sum()
    everything = np.arange(len(mask))
    assert eligible.contains(everything[::-1]).tolist() == truth[::-1].tolist()
    assert eligible.rows(first).tolist() == [row for row in np.flatnonzero(truth) if row >= first]
