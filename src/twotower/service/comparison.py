"""Online comparison of two bundles: A/B split, interleaving or shadow; users and outcomes."""

import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from twotower.data.events import EventRules, event_weight
from twotower.inference.pipeline import Pipeline
from twotower.service.live import ShownCounts
from twotower.service.recommendation_id import Arm, RecommendationId
from twotower.service.shadow import Shadow
from twotower.service.snapshot import Snapshot
from twotower.service.state import Event, StateStore, StateUnavailableError
from twotower.service.state.live import Credit, Outcomes, Split, add_shown
from twotower.service.state.shadow import add_counts

if TYPE_CHECKING:
    from twotower.service.service import Service


class Assigned(NamedTuple):
    """The bundle or bundles that answer a user."""

    snapshot: Snapshot
    """Snapshot of the answering bundle."""
    arm: Arm = ""
    unit: str = ""
    """The user's arm and unit of the comparison; empty without one."""
    other: Snapshot | None = None
    """The bundle whose list is mixed in, if bundles are interleaved."""


class Comparison(NamedTuple):
    """The running comparison, its other bundle, and a shadow's counts; all None without one.

    Kept as one immutable value, so that no request mixes up the bundles of two comparisons.
    """

    split: Split | None = None
    challenger: "Service | None" = None
    shadow: Shadow | None = None

    def assigned(self, current: Snapshot, user_id: str | None) -> Assigned:
        """The bundle or bundles that answer a user today; ``current`` is the one in service.

        A user keeps the same assignment for a day (UTC). A request without a user is its own unit.
        """
        if self.split is None or self.challenger is None or self.shadow is not None:
            return Assigned(current)
        unit, is_within = _drawn(self.split, current, user_id)
        if self.split.mode == "interleave":
            both = Assigned(current, "i", unit, self.challenger.current)
            return both if is_within else Assigned(current)
        if is_within:
            return Assigned(self.challenger.current, "b", unit)
        return Assigned(current, "a", unit)

    def shadowed(self, current: Snapshot, user_id: str | None) -> tuple[Shadow, Snapshot] | None:
        """The shadow that also answers a user today, and its snapshot; None without one."""
        if self.split is None or self.challenger is None or self.shadow is None:
            return None
        _, is_within = _drawn(self.split, current, user_id)
        return (self.shadow, self.challenger.current) if is_within else None

    def answering(self, pipeline: Pipeline) -> list[Pipeline]:
        """The pipelines whose answers users see, the one in service first."""
        if self.challenger is None or self.shadow is not None:
            return [pipeline]
        return [pipeline, self.challenger.pipeline]

    def outcomes(self, rules: EventRules | None, events: Sequence[Event]) -> Outcomes | None:
        """Outcomes of events for the running comparison; negative events do not count."""
        split = self.split
        if split is None or split.name is None or split.mode == "shadow":
            return None
        units: dict[str, str] = {}
        credits: list[Credit | None] = []
        for event in events:
            about = RecommendationId.read(event.recommendation_id)
            credits.append(None)
            if about is None or not about.unit.startswith(f"{split.revision}-"):
                continue
            worth = event_weight(rules, event.kind, event.rating, event.quantity)
            if worth is None or worth <= 0:
                continue
            if about.arm in ("a", "b"):
                units[about.unit] = about.arm
            elif (team := about.team(event.position)) is not None:
                credits[-1] = Credit(about.unit, team)
        return Outcomes(split.revision, units, credits)

    def write(self, store: StateStore, shown: ShownCounts) -> None:
        """Write the counts of shown and shadow answers since the last write."""
        revision = 0 if self.split is None else self.split.revision
        counts, units = shown.take()
        if counts:
            try:
                store.write(add_shown, counts, revision, units)
            except StateUnavailableError:
                shown.put_back(counts, units)
                raise
        if self.shadow is None:
            return
        compared = self.shadow.take()
        if compared.requests:
            try:
                store.write(add_counts, revision, compared)
            except StateUnavailableError:
                self.shadow.put_back(compared)
                raise

    def close(self) -> None:
        """Release the other bundle."""
        if self.challenger is not None:
            self.challenger.close()
        if self.shadow is not None:
            self.shadow.thread.close()

    def described(self) -> dict[str, Any]:
        """The bundle and the mode, for logs; empty without a comparison."""
        return {} if self.split is None else {"bundle": self.split.name, "mode": self.split.mode}


def _drawn(split: Split, current: Snapshot, user_id: str | None) -> tuple[str, bool]:
    """A user's experiment unit for today, and whether it falls in the other bundle's share."""
    day = int(time.time()) // 86_400
    who = secrets.token_hex(8) if user_id is None else user_id
    drawn = current.forgotten.digest(f"{split.revision}/{day}/{who}")[:32]
    return f"{split.revision}-{drawn}", int(drawn[:8], 16) < split.share * 2**32
