"""Scoring plan: passes over the scores that answer several protocols at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from twotower.data import Dataset, Histories, Part, Queries
from twotower.errors import InputError
from twotower.evaluation.beyond_accuracy import LIST_LENGTH
from twotower.evaluation.negatives import sample_negatives
from twotower.evaluation.ranking import Candidates, check_lists
from twotower.evaluation.registry import Protocol, by_name, segment_names
from twotower.evaluation.tasks import Task, TaskData
from twotower.types import IndexArray, OffsetArray

Negatives: TypeAlias = Callable[[Queries, Histories, int], IndexArray]
"""``(queries, targets, num_items)`` → ``(queries, count)`` negatives."""


@dataclass(frozen=True, slots=True)
class Report:
    """Metrics reported under one name: of which candidates, over which queries."""

    name: str
    among: str
    rows: OffsetArray


@dataclass(frozen=True, slots=True)
class ScoringPass:
    """One pass over the scores."""

    task: TaskData
    """Queries, targets and seen items."""
    candidates: dict[str, Candidates]
    """Name → candidates of the targets."""
    reports: tuple[Report, ...]
    """Reports made from the ranks."""
    lists: tuple[str, ...]
    """Protocols that report on the lists of the best `LIST_LENGTH` items."""


def plan(
    dataset: Dataset,
    protocols: Sequence[str],
    *,
    part: Part = Part.TEST,
    negatives: Negatives = sample_negatives,
    leave_out: Callable[[str, InputError], object] | None = None,
) -> list[ScoringPass]:
    """The passes that answer the protocols, the same for every model.

    Parameters
    ----------
    negatives
        Draws sampled negatives.
    leave_out
        Called with each protocol that this data set has no queries or too few items for, which is
        then left out; None raises. Where all would be left out the last error is raised instead.

    Raises
    ------
    InputError
        An unknown protocol, or one that the data set cannot answer.
    """
    groups: dict[Task, dict[str, Protocol]] = {}
    for name, protocol in by_name(protocols).items():
        groups.setdefault(protocol.task, {})[name] = protocol
    passes = []
    left_out: list[tuple[str, InputError]] = []
    for task, members in groups.items():
        data: TaskData | None = None
        reports: list[Report] = []
        lists: list[str] = []
        candidates: dict[str, Candidates] = {}
        for name, protocol in members.items():
            try:
                data = data or task(dataset, part)
                found = _candidates(data, protocol, dataset, negatives)
            except InputError as error:
                if leave_out is None:
                    raise
                left_out.append((name, error))
                continue
            candidates[protocol.among] = found
            reports += _reports(name, protocol, data)
            if protocol.lists:
                lists.append(name)
        if data is not None and (reports or lists):
            passes.append(ScoringPass(data, candidates, tuple(reports), tuple(lists)))
    if not passes and left_out:
        raise left_out[-1][1]
    if leave_out is not None:
        for name, reason in left_out:
            leave_out(name, reason)
    return passes


def _candidates(
    data: TaskData, protocol: Protocol, dataset: Dataset, negatives: Negatives
) -> Candidates:
    """Candidates of the targets; `InputError` where the catalogue is too small."""
    size = len(dataset.items)
    if protocol.lists:
        check_lists(data.seen, size, LIST_LENGTH)
    if protocol.among != "sampled":
        return protocol.among
    # Negatives exclude the whole history, even if the model gets only part of it.
    return negatives(Queries(data.queries.users, data.seen), data.targets, size)


def _reports(name: str, protocol: Protocol, data: TaskData) -> list[Report]:
    """A segment that holds no query is not reported."""
    reports = []
    if protocol.whole:
        reports.append(Report(name, protocol.among, np.arange(len(data.queries))))
    if protocol.segments is not None:
        lengths = data.queries.histories.lengths
        for segment, (low, high) in segment_names(protocol.segments).items():
            inside = (lengths >= low) & (lengths <= (lengths.max() if high is None else high))
            if inside.any():
                reports.append(Report(segment, protocol.among, np.flatnonzero(inside)))
    return reports
