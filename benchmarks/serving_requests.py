"""Real requests for the serving benchmarks: histories of a bundle's own users."""

import numpy as np

from twotower.bundle.contents import BundleContents
from twotower.errors import InputError


def real_histories(
    contents: BundleContents, length: int, count: int, seed: int = 0
) -> list[list[str]]:
    """The newest ``length`` items of ``count`` users who have as many, drawn without repeats.

    Fewer where fewer users have as many; `InputError` where nobody has.
    """
    long_enough = np.flatnonzero(contents.histories.lengths >= length)
    if not len(long_enough):
        raise InputError(f"no user of the bundle has {length} items", "pass a smaller --history")
    drawn = np.random.default_rng(seed).permutation(long_enough)[:count]
    ids = contents.items.ids
    return [
        [ids[item] for item in contents.histories.row(int(user))[-length:].tolist()]
        for user in drawn
    ]
