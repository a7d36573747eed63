"""A virtual environment for each library, from a file of pinned releases."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = Path(__file__).parent / "requirements"


class InstallError(Exception):
    """A library cannot be installed; the message is pip's last word."""


def interpreter(name: str | None, folder: Path) -> Path:
    """The Python of an environment, which is made where there is none of these requirements.

    Parameters
    ----------
    name
        Of the file in ``requirements/``; None is this environment.
    folder
        Where environments are.

    Raises
    ------
    InstallError
        Where pip fails.
    """
    if name is None:
        return Path(sys.executable)
    requirements = REQUIREMENTS / f"{name}.txt"
    place = folder.absolute() / name  # what it runs may stand in another folder
    python, mark = place / "bin" / "python", place / "requirements.sha256"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == wanted:
        return python
    print(f"install {name} into an environment of its own", flush=True)
    shutil.rmtree(place, ignore_errors=True)
    _call([sys.executable, "-m", "venv", str(place)])
    _call([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)])
    mark.write_text(wanted)
    return python


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line or "rror:" in line]
        last = (lines or done.stderr.splitlines() or ["no output"])[-1]
        raise InstallError(f"cannot be installed: {last.strip()}")
