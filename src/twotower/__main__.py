"""``python -m twotower``: the command line."""

from twotower.cli import main

if __name__ == "__main__":
    main()
