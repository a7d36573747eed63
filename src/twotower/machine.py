"""Cores and memory that the machine or its container allows this process; thread settings."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from twotower.errors import InputError

GROUPS: Final = Path("/sys/fs/cgroup")
OWN_GROUPS: Final = Path("/proc/self/cgroup")

GB: Final = 10**9
LIMIT: Final = "TWOTOWER_MEMORY_GB"
"""Environment variable: memory that training may take, in place of what the machine has."""
SPINS: Final = "1000"
"""Turns that a waiting thread of GNU's OpenMP takes before it sleeps: a few microseconds."""


def settle_threads() -> None:
    """Set what OpenMP reads, before PyTorch is imported; what the user has set stays.

    Threads of PyTorch meet at the end of each operation. By default those that wait spin: where
    another program keeps a core busy, the thread that waits holds the core that the other one
    needs, and training is several times slower than with a single thread. Threads that sleep
    while they wait cost about a tenth of the speed on an idle machine.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    cores = _usable_cores()
    if cores < bound_cores():  # PyTorch counts the machine's cores, also in a container with few
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def usable_cores() -> int:
    """Cores to work on: ``OMP_NUM_THREADS`` where it is set, else what this process may use.

    Those are the cores that it is bound to, or fewer where its container has a limit (rounded up).
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) > 0 else _usable_cores()


def control_groups(
    kind: str, *, root: Path = GROUPS, own: Path = OWN_GROUPS
) -> Iterator[tuple[Path, bool]]:
    """Folders of the control groups that limit this process, innermost first.

    Parameters
    ----------
    kind
        ``memory`` or ``cpu``.
    root, own
        Where the groups are mounted, and the file that names those of this process.

    Yields
    ------
    Each folder, and whether it is of version 1, whose files have other names.
    """
    with suppress(OSError):
        for line in own.read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds and kind not in kinds.split(","):
                continue
            inner = Path(path.lstrip("/"))
            for part in (inner, *inner.parents):
                yield (root / kind if kinds else root) / part, bool(kinds)


def _usable_cores(*, root: Path = GROUPS, own: Path = OWN_GROUPS) -> int:
    groups = control_groups("cpu", root=root, own=own)
    limits = [_cores_of(group, is_first_version=first) for group, first in groups]
    return min([bound_cores(), *(limit for limit in limits if limit)])


def bound_cores() -> int:
    """Cores that this process may run on, a container's limit not counted."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cores_of(group: Path, *, is_first_version: bool) -> int | None:
    """Cores that a group may use; None for no limit, which is ``max`` or -1 in its files."""
    with suppress(OSError, ValueError):
        if is_first_version:
            quota = int((group / "cpu.cfs_quota_us").read_text())
            period = int((group / "cpu.cfs_period_us").read_text())
        else:
            quota, period = map(int, (group / "cpu.max").read_text().split())
        if quota > 0 and period > 0:
            return math.ceil(quota / period)
    return None


def available_memory() -> int | None:
    """Bytes that this process may still take; None where that is not known.

    The least of what the machine has without swapping and what each control group that the process
    is in, such as that of a container, leaves.
    """
    if LIMIT in os.environ:
        try:
            return int(float(os.environ[LIMIT]) * GB)
        except ValueError:
            raise InputError(
                f"{LIMIT} must be a number of gigabytes, got {os.environ[LIMIT]!r}",
                f"set it to a number, such as {LIMIT}=12, or unset it",
            ) from None
    left = [*_of_machine(), *_of_groups(GROUPS, OWN_GROUPS)]
    return min(left, default=None)


def _of_machine() -> Iterator[int]:
    kilobytes = number_after(Path("/proc/meminfo"), "MemAvailable:")
    if kilobytes is not None:
        yield kilobytes * 1024
    elif "SC_PHYS_PAGES" in os.sysconf_names:  # not Linux
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_groups(root: Path, own: Path) -> Iterator[int]:
    """What the control groups of a process leave, version 2 or 1, up to the root."""
    for group, is_first_version in control_groups("memory", root=root, own=own):
        yield from _left(
            group,
            *(
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                if is_first_version
                else ("memory.max", "memory.current", "inactive_file")
            ),
        )


def _left(group: Path, most: str, used: str, cache: str) -> Iterator[int]:
    with suppress(OSError, ValueError):  # "max", or a group without a limit
        limit, taken = int((group / most).read_text()), int((group / used).read_text())
        yield limit - taken + (number_after(group / "memory.stat", cache) or 0)


def number_after(path: Path, name: str) -> int | None:
    """The number after a word at the beginning of a line of a file, None where it has none."""
    with suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            if words and words[0] == name:
                return int(words[1])
    return None
