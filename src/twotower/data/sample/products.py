"""Products of the synthetic store: franchises, their entries on each console, accessories."""

from dataclasses import dataclass

from twotower.data.sample.draws import Draws
from twotower.data.sample.words import (
    ACCESSORIES,
    ACCESSORY_KINDS,
    COLOURS,
    FAMILIES,
    GENRES,
    LAST_DAY,
    PLATFORMS,
    SETTINGS,
    SUBTITLES,
)


@dataclass(frozen=True, slots=True)
class Product:
    """A product: its catalogue columns and its hidden properties."""

    name: str
    """Title without the platform."""
    franchise: int
    """Number of the franchise, -1 for accessories."""
    franchise_name: str | None
    """Two words, a setting's and a genre's; None for accessories."""
    entry: int
    """1 for the first game of a franchise, 2 for its sequel, …; 0 for accessories."""
    genre: int
    setting: int
    """Positions in `GENRES` (or `ACCESSORIES`) and `SETTINGS` (-1 for accessories)."""
    platform: int
    """Position in `PLATFORMS`."""
    released: int
    """Day of release, counted from 2016-01-01."""
    appeal: int
    """Hidden: how many want it, 5 to 350, heavy-tailed."""
    quality: int
    """Hidden: what buyers think of it, 0 to 100."""

    @property
    def family(self) -> int:
        """Number of the console family that it runs on."""
        return PLATFORMS[self.platform].family


def make_products(count: int, draws: Draws) -> list[Product]:
    """``count`` products: accessories for every platform, then franchises until it is full."""
    products = _accessories(draws)
    taken: set[str] = set()
    franchise = 0
    while len(products) < count:
        products.extend(_franchise(franchise, taken, draws))
        franchise += 1
    return products[:count]


def _accessories(draws: Draws) -> list[Product]:
    return [
        Product(
            name=f"{kind} {COLOURS[draws.below(len(COLOURS))]}",
            franchise=-1,
            franchise_name=None,
            entry=0,
            genre=ACCESSORIES,
            setting=-1,
            platform=number,
            released=min(platform.first_day + draws.below(600), LAST_DAY - 100),
            appeal=_heavy_tailed(draws) // 2 + 2,
            quality=draws.between(35, 85),
        )
        for number, platform in enumerate(PLATFORMS)
        for kind in ACCESSORY_KINDS
    ]


def _franchise(number: int, taken: set[str], draws: Draws) -> list[Product]:
    """Every entry of one franchise, on each of its one to three console families."""
    genre, setting = draws.below(len(GENRES)), draws.below(len(SETTINGS))
    name = _new_name(genre, setting, taken, draws)
    families = sorted(draws.shuffled(FAMILIES)[: 1 + draws.below(3)])
    appeal, quality = _heavy_tailed(draws), draws.between(30, 90)
    released = draws.below(LAST_DAY - 300)
    subtitles = draws.shuffled(len(SUBTITLES))
    products: list[Product] = []
    for entry in range(1, draws.between(1, 4) + 1):
        title = name if entry == 1 else f"{name} {entry}"
        if entry > 1 and draws.chance(600):
            title = f"{title}: {SUBTITLES[subtitles[entry]]}"
        entry_quality = min(100, max(0, quality + draws.between(-12, 12)))
        products.extend(
            Product(
                title,
                number,
                name,
                entry,
                genre,
                setting,
                _platform_on(family, released),
                released,
                appeal * draws.between(60, 140) // 100,
                entry_quality,
            )
            for family in families
        )
        released += draws.between(150, 500)
        if released > LAST_DAY - 10:
            break
    return products


def _new_name(genre: int, setting: int, taken: set[str], draws: Draws) -> str:
    """A franchise name that no other has; there are 30 for each genre and setting."""
    while True:
        first, second = SETTINGS[setting].words, GENRES[genre].words
        name = f"{first[draws.below(len(first))]} {second[draws.below(len(second))]}"
        if name not in taken:
            taken.add(name)
            return name


def _heavy_tailed(draws: Draws) -> int:
    """9 to 250: a Pareto tail with exponent 1, in integers."""
    return 6000 // (24 + draws.below(600))


def _platform_on(family: int, day: int) -> int:
    """The generation of a console family that is current on ``day``."""
    return next(
        number
        for number, platform in enumerate(PLATFORMS)
        if platform.family == family and platform.first_day <= day < platform.end_day
    )
