"""Published counts of public data sets; skipped where the data is not available."""

from pathlib import Path

import pytest

from twotower.data.prepare import prepare
from twotower.data.settings import PrepareSettings
from twotower.data.splits import Given

ALL = PrepareSettings(k_core=0)


def test_video_games_histories(real_data: Path) -> None:
    dataset = prepare(real_data / "video-games-2023", settings=ALL)
    assert (len(dataset.users), len(dataset.items)) == (98_906, 26_354)
    assert len(dataset.interactions.items) == 638_666
    assert dataset.summary["repeats"] == 21_027
    assert dataset.catalogue["released"].null_count() == 31  # books, and the like
    assert dataset.summary["parts"] == {"train": 445_742, "validation": 96_462, "test": 96_462}


@pytest.mark.parametrize("k_core", [0, 5])
def test_gowalla_keeps_the_split_of_its_files(real_data: Path, k_core: int) -> None:
    as_given = PrepareSettings(k_core=k_core, split=Given(validation=0))
    dataset = prepare(real_data / "gowalla", settings=as_given)
    assert (len(dataset.users), len(dataset.items)) == (29_858, 40_981)
    assert dataset.summary["parts"] == {"train": 810_128, "validation": 0, "test": 217_242}


def test_gowalla_validates_on_a_part_of_its_training_file(real_data: Path) -> None:
    dataset = prepare(real_data / "gowalla", settings=ALL)
    assert dataset.summary["parts"] == {"train": 729_115, "validation": 81_013, "test": 217_242}


def test_movielens(real_data: Path) -> None:
    dataset = prepare(real_data / "ml-100k", settings=ALL)
    assert (len(dataset.users), len(dataset.items)) == (943, 1_682)
    assert len(dataset.interactions.items) == 100_000
    assert dataset.catalogue["title"][0] == "Toy Story"
    assert dataset.catalogue["released"][0] == 1995
    assert dataset.catalogue["released"].null_count() == 2  # "V", and "unkonwn"
    times = dataset.interactions.timestamps
    assert times is not None
    assert times.min() == 874_724_710_000


def test_amazon_raw(real_data: Path) -> None:
    dataset = prepare(real_data / "amazon-reviews-2023-raw", settings=ALL)
    assert dataset.summary["read"] == 2_767
    assert len(dataset.items) == 2_616
    # Three reviews were added verbatim, without their products.
    assert dataset.summary["rejected"] == {"item_id: not in the catalogue": 3}
