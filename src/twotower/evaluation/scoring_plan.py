"""From names of protocols to passes over the scores: protocols that ask the same share one."""

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
from twotower.evaluation.tasks import Ask, Questions
from twotower.types import IndexArray, OffsetArray

Negatives: TypeAlias = Callable[[Queries, Histories, int], IndexArray]
"""Makes ``(queries, count)`` negatives of queries, targets and the size of the catalogue."""


@dataclass(frozen=True, slots=True)
class Report:
    """Ranks that are reported under one name: of which candidates, and of which queries."""

    name: str
    among: str
    rows: OffsetArray


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over the scores.

    Attributes
    ----------
    questions
        What is scored.
    candidates
        Name → what targets are ranked among.
    reports
        What is reported of the ranks.
    lists
        Names under which the best `LIST_LENGTH` items are described.
    """

    questions: Questions
    candidates: dict[str, Candidates]
    reports: tuple[Report, ...]
    lists: tuple[str, ...]


def plan(
    dataset: Dataset,
    protocols: Sequence[str],
    *,
    part: Part = Part.TEST,
    negatives: Negatives = sample_negatives,
    leave_out: Callable[[str, InputError], object] | None = None,
) -> list[Pass]:
    """The passes that answer the protocols, the same for every model.

    Parameters
    ----------
    negatives
        Where sampled negatives come from.
    leave_out
        Told of a protocol that this data set has no queries for, or too few items, which is
        then left out; None raises. An error is raised too where every protocol was left out.

    Raises
    ------
    InputError
        An unknown protocol, or one that the data set cannot answer.
    """
    groups: dict[Ask, dict[str, Protocol]] = {}
    for name, protocol in by_name(protocols).items():
        groups.setdefault(protocol.ask, {})[name] = protocol
    passes = []
    reason: InputError | None = None
    for ask, members in groups.items():
        questions: Questions | None = None
        reports: list[Report] = []
        lists: list[str] = []
        candidates: dict[str, Candidates] = {}
        for name, protocol in members.items():
            try:
                questions = questions or ask(dataset, part)
                found = _candidates(questions, protocol, dataset, negatives)
            except InputError as error:
                if leave_out is None:
                    raise
                leave_out(name, error)
                reason = error
                continue
            candidates[protocol.among] = found
            reports += _reports(name, protocol, questions)
            if protocol.lists:
                lists.append(name)
        if questions is not None and (reports or lists):
            passes.append(Pass(questions, candidates, tuple(reports), tuple(lists)))
    if not passes and reason is not None:
        raise reason
    return passes


def _candidates(
    questions: Questions, protocol: Protocol, dataset: Dataset, negatives: Negatives
) -> Candidates:
    """What the targets are ranked among; `InputError` where the catalogue is too small."""
    size = len(dataset.items)
    if protocol.lists:
        check_lists(questions.seen, size, LIST_LENGTH)
    if protocol.among != "sampled":
        return protocol.among
    # Outside all that the user had, also where the model is told of a part of it.
    return negatives(Queries(questions.queries.users, questions.seen), questions.targets, size)


def _reports(name: str, protocol: Protocol, questions: Questions) -> list[Report]:
    """A segment that holds no query is not reported."""
    reports = []
    if protocol.whole:
        reports.append(Report(name, protocol.among, np.arange(len(questions.queries))))
    if protocol.segments is not None:
        lengths = questions.queries.histories.lengths
        for segment, (low, high) in segment_names(protocol.segments).items():
            inside = (lengths >= low) & (lengths <= (lengths.max() if high is None else high))
            if inside.any():
                reports.append(Report(segment, protocol.among, np.flatnonzero(inside)))
    return reports
