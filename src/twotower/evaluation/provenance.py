"""Provenance of figures: command, commit, machine, threads, versions; no host name, no paths."""

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from twotower.evaluation.results import Meta
from twotower.machine import bound_cores, usable_cores

PACKAGES = ("twotower", "numpy", "scipy", "torch", "polars", "faiss-cpu")
"""Packages whose version can change a figure."""


def collect_meta(
    started: datetime,
    *,
    command: Sequence[str] | None = None,
    threads: int | None = None,
    packages: Iterable[str] = PACKAGES,
) -> Meta:
    """Describe this run, at its end.

    Parameters
    ----------
    started
        When the run began, with a time zone: ``datetime.now(UTC)``.
    command
        Arguments as on a command line; None takes those of this process.
    threads
        None takes torch's number where torch is loaded, else `usable_cores`.
    packages
        Distributions to name; those that are not installed are left out.
    """
    return Meta(
        command=portable_command(sys.orig_argv if command is None else command),
        commit=_commit(),
        machine=_machine(),
        threads=_threads() if threads is None else threads,
        started=started.astimezone(UTC).isoformat(timespec="seconds"),
        wall_seconds=(datetime.now(UTC) - started).total_seconds(),
        peak_memory_mb=_peak_memory_mb(),
        packages={"python": platform.python_version(), **_versions(packages)},
    )


def portable_command(arguments: Sequence[str]) -> str:
    """The command without this machine's paths.

    The interpreter becomes ``python``; a script of the environment is named alone; a path
    below ``TWOTOWER_DATA`` or the working folder is written relative to it, and any other by
    its last part.
    """
    words = list(arguments)
    if words and Path(words[0]).name.startswith("python"):
        if len(words) > 1 and Path(words[1]).parent == Path(sys.executable).parent:
            words = [Path(words[1]).name, *words[2:]]
        else:
            words[0] = "python"
    return " ".join(_portable(word) for word in words)


def _portable(word: str) -> str:
    option, equals, value = word.partition("=")
    if equals and option.startswith("-"):
        return f"{option}={_portable(value)}"
    if os.sep not in word or "://" in word:
        return word
    path = Path(word).expanduser().resolve()
    data = os.environ.get("TWOTOWER_DATA")
    if data and path.is_relative_to(Path(data).resolve()):
        return str(Path("$TWOTOWER_DATA") / path.relative_to(Path(data).resolve()))
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return path.name


def _commit() -> str | None:
    here = Path(__file__).resolve()
    # An installed copy may lie inside another repository.
    if _git("ls-files", "--error-unmatch", here.name) is None:
        return None
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", ":/")
    return f"{commit}+dirty" if commit and changed else commit


def _git(*arguments: str) -> str | None:
    """Output of git in this package's folder, or None where it fails or there is no git."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).resolve().parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{_processor()}, {bound_cores()} cores, {memory:.0f} GiB memory, {platform.system()}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _threads() -> int:
    torch = sys.modules.get("torch")
    return usable_cores() if torch is None else int(torch.get_num_threads())


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
