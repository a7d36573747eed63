"""Vocabulary of the synthetic store: genres, settings, consoles and product text."""

from typing import Final, NamedTuple


class Genre(NamedTuple):
    """A genre of games: words of its titles, and the goal of the player."""

    name: str
    words: tuple[str, ...]
    goal: str


class Setting(NamedTuple):
    """Where a franchise takes place: words of its titles, and the place in a sentence."""

    name: str
    words: tuple[str, ...]
    place: str


class Platform(NamedTuple):
    """A console generation. Games for it appear from ``first_day`` to before ``end_day``."""

    name: str
    family: int
    first_day: int
    end_day: int


GENRES: Final = (
    Genre("Racing", ("Circuit", "Drift", "Grand Prix", "Overdrive", "Rally", "Turbo"),
          "win every race and tune your car"),
    Genre("Role-Playing", ("Chronicle", "Legacy", "Oath", "Prophecy", "Saga", "Wanderer"),
          "lead a party of heroes and level them up"),
    Genre("Shooter", ("Assault", "Brigade", "Crossfire", "Recoil", "Strike", "Vanguard"),
          "fight through waves of enemies with upgraded weapons"),
    Genre("Puzzle", ("Blocks", "Cipher", "Labyrinth", "Mosaic", "Riddle", "Tiles"),
          "solve clever puzzles one level at a time"),
    Genre("Strategy", ("Conquest", "Dominion", "Empire", "Gambit", "Tactics", "Throne"),
          "build an army and outwit rival commanders"),
    Genre("Sports", ("Champions", "Cup", "League", "Olympiad", "Playoffs", "Tournament"),
          "train your team and lift the trophy"),
    Genre("Simulation", ("Builder", "Farm", "Manager", "Railway", "Tycoon", "Workshop"),
          "run your own business and watch it grow"),
    Genre("Platformer", ("Bounce", "Dash", "Hop", "Leap", "Scamper", "Tumble"),
          "run, jump and collect every star"),
    Genre("Horror", ("Asylum", "Crypt", "Dread", "Nightmare", "Shadows", "Whispers"),
          "survive the night and uncover the truth"),
    Genre("Fighting", ("Arena", "Bout", "Brawl", "Fists", "Knockout", "Showdown"),
          "master combos and defeat every challenger"),
)  # fmt: skip

ACCESSORIES: Final = len(GENRES)
"""Genre number of controllers, headsets and other products that are not games."""

ACCESSORY_KINDS: Final = (
    "Wireless Controller", "Stereo Headset", "Charging Dock", "Carrying Case",
    "Memory Card 256 GB", "HDMI Cable 3 m",
)  # fmt: skip
COLOURS: Final = ("Black", "White", "Crimson", "Teal", "Amber", "Violet")

SETTINGS: Final = (
    Setting("space", ("Comet", "Galaxy", "Nebula", "Orbital", "Starlight"), "among distant stars"),
    Setting("medieval", ("Castle", "Crown", "Dragon", "Knight", "Sword"), "in a medieval kingdom"),
    Setting("ocean", ("Coral", "Kraken", "Pirate", "Reef", "Tidal"), "across a stormy ocean"),
    Setting("jungle", ("Canopy", "Jaguar", "Jungle", "Orchid", "Temple"), "deep in the jungle"),
    Setting("desert", ("Cactus", "Desert", "Dune", "Oasis", "Scorpion"), "under a desert sun"),
    Setting("winter", ("Arctic", "Blizzard", "Frost", "Glacier", "Snow"), "in a frozen north"),
    Setting("city", ("Downtown", "Metro", "Neon", "Rooftop", "Skyline"), "in a city of neon"),
    Setting("robots", ("Android", "Chrome", "Piston", "Mecha", "Robot"), "in an age of robots"),
)

SUBTITLES: Final = (
    "Awakening", "Beyond", "Breaking Point", "Crossroads", "Echoes", "First Light", "Homecoming",
    "Last Stand", "Long Road", "New Dawn", "No Return", "Origins", "Rebirth", "Second Chance",
    "Turning Tide", "Unbound",
)  # fmt: skip

LAST_DAY: Final = 2921
"""2023-12-31, counted from day 0 = 2016-01-01: the day on which the log ends."""
LOG_START: Final = 731
"""2018-01-01: the first day of the log. Games released before it are sold from the start."""

PLATFORMS: Final = (
    Platform("Kestrel 2", 0, 0, 1400),
    Platform("Kestrel 3", 0, 1400, LAST_DAY),
    Platform("Hexagon", 1, 0, 1700),
    Platform("Hexagon Pro", 1, 1700, LAST_DAY),
    Platform("Pocketwing", 2, 0, LAST_DAY),
    Platform("Home Computer", 3, 0, LAST_DAY),
)
FAMILIES: Final = 4
"""A family is a console and its successor; who owns one plays the games of both."""

ODD_TITLES: Final = (
    "",
    "   ",
    "{} ™® — Édition Spéciale «Ñandú»",
    "星の海 {} ✨🎮",
    '{} &amp; "Friends", <b>GOTY</b>',
    "{}\tImport\u00a0Version",
    "ПРИКЛЮЧЕНИЕ {}",
    "{} " + "with a very long list of extras, " * 12 + "and a map",
)
"""What real catalogues contain: nothing, blanks, other scripts, markup, and far too much."""
