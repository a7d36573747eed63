"""Script: publish a folder over an old one, killed at each step in turn; print what is found.

``python killed_publication.py FOLDER exchange|two-renames`` forks a writer for each step: every
operation on files that Python audits. It prints ``old`` or ``new`` for each, or what is wrong.
"""

import os
import signal
import sys
from itertools import count
from pathlib import Path

from twotower.data import atomic
from twotower.data.atomic import atomic_folder

OPERATIONS = frozenset({"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "ctypes.dlsym"})
FILES = ("manifest.json", "large", "inner/deep")


def write(target: Path, content: str) -> None:
    with atomic_folder(target) as temporary:
        (temporary / "inner").mkdir()
        for name in FILES:
            (temporary / name).write_text(content * 1000)


def read(target: Path) -> str:
    """``old`` or ``new``; what is wrong where it is neither, whole."""
    try:
        contents = {(target / name).read_text() for name in FILES}
    except OSError as error:
        return f"{type(error).__name__}"
    return {"old" * 1000: "old", "new" * 1000: "new"}.get("|".join(contents), "mixed")


def killed_writer(target: Path, step: int) -> bool:
    """Publish ``new`` in a process that is killed at the given step; False where it ended first."""
    child = os.fork()
    if child == 0:
        steps = count()

        def hook(event: str, _: object) -> None:
            if event in OPERATIONS and next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        write(target, "new")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status):
        raise SystemExit(f"the writer failed at step {step}")
    return os.WIFSIGNALED(status)


def main(folder: Path, way: str) -> None:
    if way == "two-renames":
        atomic._exchange_in_one_step = lambda *_: False  # a file system that cannot exchange
    target = folder / "bundle"
    for step in count():
        write(target, "old")
        if not killed_writer(target, step):
            break
        found = read(target)
        write(target, "old")  # the next run
        left = sorted(path.name for path in folder.iterdir())
        print(step, found, read(target), *left)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
