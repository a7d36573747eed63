"""``python -m twotower.data.sample FOLDER``: write the sample, and its covers if asked."""

import argparse
from pathlib import Path

from twotower.data.sample.folder import write_sample
from twotower.data.sample.tables import SEED


def main() -> None:
    """Parse the arguments, write the folder, print its path."""
    parser = argparse.ArgumentParser(
        prog="python -m twotower.data.sample",
        description="Generate the synthetic game store: interactions.parquet and items.parquet.",
    )
    parser.add_argument("folder", type=Path, help="folder to write to; made where it is absent")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument("--covers", action="store_true", help="draw the cover images as well")
    arguments = parser.parse_args()
    print(write_sample(arguments.folder, seed=arguments.seed, covers=arguments.covers))


if __name__ == "__main__":
    main()
