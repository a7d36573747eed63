"""Recommendation routes: for a user, for a batch, similar items, search."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import orjson
from fastapi import APIRouter, Path, Query
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from twotower.errors import InputError
from twotower.inference.answers import Answer
from twotower.inference.options import RecommendOptions
from twotower.inference.pipeline import Pipeline
from twotower.inference.requests import Request as PipelineRequest
from twotower.inference.stages import Timings
from twotower.service.api.auth import Scope
from twotower.service.api.context import Context
from twotower.service.api.json_route import JsonRoute
from twotower.service.api.problems import RefusedError, responses
from twotower.service.api.routes import fast, needs, served, unknown_item, within
from twotower.service.api.rules import AddressedTime
from twotower.service.api.schemas import (
    MOST,
    BatchAnswer,
    BatchRequest,
    ItemsAnswer,
    RecommendAnswer,
    RecommendRequest,
    Stage,
    UserQuery,
    Words,
)
from twotower.service.api.shadow import Unseen
from twotower.service.api.traces import trace_stages
from twotower.service.comparison import Assigned
from twotower.service.interleaving import team_draft
from twotower.service.recommendation_id import RecommendationId
from twotower.service.service import Service
from twotower.service.settings import ServeSettings
from twotower.service.shadow import Listed, Shadow
from twotower.service.snapshot import Snapshot
from twotower.service.state.records import Id

router = APIRouter(
    route_class=JsonRoute, prefix="/v1", tags=["recommend"], dependencies=[needs(Scope.READ)]
)

_BLOCK: Final = 64
"""Requests of a batch that are answered before its time is looked at again; fewer where they ask
for more than so many items together:"""
_BLOCK_ITEMS: Final = 4096
_BLOCK_S: Final = 0.004
"""While single requests come, a block of a batch is as many requests as take about so long; the
first is"""
_FIRST_BLOCK: Final = 4

AnyQuery = TypeVar("AnyQuery", bound=UserQuery)
_CONTEXT: Final = Query(
    description="Declared columns of the log for this request, each as NAME=VALUE.",
    max_length=MOST,
    examples=[["device=phone"]],
)
_TIME: Final = Query(
    description="When the items are for, by default now: milliseconds since 1970-01-01 UTC, or ISO "
    "8601 with an offset."
)
K = Annotated[int, Query(ge=1, le=100_000, description="Items to return.")]


# Routes are matched in this order: the most used come first.


@router.post("/recommendations", response_model=RecommendAnswer, responses=responses())
async def recommend(wanted: RecommendRequest, request: Request) -> Response:
    """Recommend items for a user, a history of browsed items, a text, or any combination."""
    shared, service = served(request)
    within("k", wanted.k, shared.settings.max_k)
    within("items of history", len(wanted.history), shared.settings.max_history)
    assigned = service.assigned(wanted.user_id)
    answers = _Answers(shared, service, assigned, _of_body(shared.settings, wanted))
    wanted = _checked(service, wanted)
    query = _request(assigned.snapshot, wanted)
    answers.check_work([query])
    answers = answers.in_time(request)
    if wanted.text is not None:  # an encoder may take milliseconds
        return await shared.run(shared.workers, answers.single, wanted, query)
    return answers.single(wanted, query)


@router.get(
    "/users/{user_id:path}/recommendations",
    response_model=RecommendAnswer,
    responses=responses(404),
)
async def recommend_for_user(
    user_id: Annotated[Id, Path(examples=["U0047"])],
    request: Request,
    k: K = 10,
    rerank: bool | None = None,
    strict: bool = False,
    context: Annotated[list[str] | None, _CONTEXT] = None,
    time: Annotated[AddressedTime | None, _TIME] = None,
) -> Response:
    """Recommend items for a user with known events; popular items for any other user."""
    shared, service = served(request)
    within("k", k, shared.settings.max_k)
    stated = service.accepted(Pipeline.parsed_context, context) if context else None
    wanted = UserQuery(user_id=user_id, context=stated, time=time)
    assigned = service.assigned(user_id)
    snapshot, query = assigned.snapshot, _request(assigned.snapshot, wanted)
    if strict and not snapshot.pipeline.reads(query):
        unknown = user_id not in snapshot.pipeline.contents.users
        raise RefusedError(
            404,
            f"unknown user {user_id!r}"
            if unknown
            else f"nothing is known of user {user_id!r} that the model could read",
            fix="POST /v1/recommendations with a history or words, or leave strict out",
        )
    options = _options(shared.settings, k, rerank, strict=strict)
    answers = _Answers(shared, service, assigned, options)
    return answers.in_time(request).single(wanted, query)


@router.post("/recommendations/batch", response_model=BatchAnswer, responses=responses())
async def recommend_batch(wanted: BatchRequest, request: Request) -> Response:
    """Recommend items for many users at once. With ``strict``, one unknown user fails the batch."""
    shared, service = served(request)
    within("k", wanted.k, shared.settings.max_k)
    within("requests", len(wanted.requests), shared.settings.max_batch)
    for query in wanted.requests:
        within("items of history", len(query.history), shared.settings.max_history)
    assigned = Assigned(service.current)
    answers = _Answers(shared, service, assigned, _of_body(shared.settings, wanted))
    queries = [_request(assigned.snapshot, _checked(service, query)) for query in wanted.requests]
    answers.check_work(queries)
    return await shared.run(shared.batches, answers.batch, queries, request.state.deadline)


@router.get("/items/{item_id:path}/similar", response_model=ItemsAnswer, responses=responses(404))
async def similar_items(
    item_id: Annotated[Id, Path(examples=["G0885"])], request: Request, k: K = 10
) -> Response:
    """Items most similar to an item, by their vectors."""
    shared, service = served(request)
    within("k", k, shared.settings.max_k)
    snapshot = service.current
    pipeline = snapshot.pipeline
    row = pipeline.items.find(item_id)
    if row is None or not pipeline.items.listed[row]:
        raise unknown_item(item_id)
    found = pipeline.similar_items(item_id, k)
    return fast({"model_version": snapshot.manifest.model_version, "items": found})


@router.get("/search", response_model=ItemsAnswer, responses=responses())
async def search(
    q: Annotated[Words, Query(description="Words of a title, or what is wanted.")],
    request: Request,
    k: K = 10,
) -> Response:
    """Search items by words of their titles and, with a text encoder in the bundle, by meaning."""
    shared, service = served(request)
    within("k", k, shared.settings.max_k)
    snapshot = service.current
    found = await shared.run(shared.workers, snapshot.pipeline.search, q, k)
    return fast({"model_version": snapshot.manifest.model_version, "items": found})


def _options(
    settings: ServeSettings, k: int, rerank: bool | None, **chosen: Any
) -> RecommendOptions:
    """Options of a request, with the service's settings as defaults."""
    return RecommendOptions(
        k,
        rerank=settings.rerank if rerank is None else rerank,
        candidates=None if settings.candidates is None else max(settings.candidates, k),
        **chosen,
    )


def _of_body(settings: ServeSettings, body: RecommendRequest | BatchRequest) -> RecommendOptions:
    return _options(
        settings, body.k, body.rerank, filters=body.filters, exclude_seen=body.exclude_seen,
        reasons=body.reasons, strict=body.strict,
    )  # fmt: skip


def _request(snapshot: Snapshot, query: UserQuery) -> PipelineRequest:
    past = () if query.user_id is None else snapshot.past_of(query.user_id)
    if query.attributes is None:
        attributes = snapshot.attributes_of(query.user_id)
    else:
        attributes = snapshot.pipeline.known_attributes(query.attributes)
    context = snapshot.pipeline.known_context(query.context) if query.context else None
    return PipelineRequest(
        query.user_id, query.history, query.text, past, attributes, query.time, context
    )


def _checked(service: Service, query: AnyQuery) -> AnyQuery:
    """The query with its attributes and its context checked."""
    found: dict[str, Any] = {}
    if query.attributes is not None:
        found["attributes"] = service.accepted(Pipeline.checked_attributes, query.attributes)
    if query.context:
        found["context"] = service.accepted(Pipeline.checked_context, query.context)
    return query.model_copy(update=found) if found else query


class _Answers(NamedTuple):
    """Answers one HTTP request, all of it from the same snapshot."""

    shared: Context
    service: Service
    assigned: Assigned
    options: RecommendOptions
    skipped: tuple[Stage, ...] = ()

    def in_time(self, request: Request) -> "_Answers":
        """Answers to a request for one user: batches give way to it, and the second stage is
        skipped if it waited too long for its turn.
        """
        self.shared.turns.last_single = came = request.scope["state"]["came"]
        answering = (self.assigned.snapshot, self.assigned.other)
        if not any(
            snapshot and self.options.reranks(snapshot.pipeline.contents) for snapshot in answering
        ):
            return self
        waited = time.monotonic() - came
        if waited <= self.shared.settings.rerank_wait_s:
            return self
        return self._replace(options=replace(self.options, rerank=False), skipped=("rerank",))

    def check_work(self, queries: Sequence[PipelineRequest]) -> None:
        """Refuse requests that would take too much time or memory."""
        most, k = self.shared.settings.max_work, self.options.k
        if Pipeline.most_work(len(queries), k) <= most:
            return
        work = self.assigned.snapshot.pipeline.work(queries, k)
        if work > most:
            raise RefusedError(
                422,
                f"{len(queries):,} requests with k {k:,} and their histories are "
                f"{work:,} units of work, {most:,} are allowed",
                value=work,
                fix="send fewer requests at once, a smaller k or shorter histories: each "
                "request is k times (the items of its history + 50)",
            )

    def single(self, wanted: UserQuery, query: PipelineRequest) -> Response:
        """The response to one request; ``query`` is its form for the bundle in service.

        Caps apply to a whole answer, so requests with caps are never interleaved. Nor are requests
        that the other bundle cannot answer, such as with a filter on a column that it lacks.
        """
        snapshot, other = self.assigned.snapshot, self.assigned.other
        beside: Answer | None = None
        if other is not None:
            if self.options.filters.has_caps:
                return self._alone(wanted)
            try:
                (beside,) = self._answers(other, [_request(other, wanted)])
            except InputError:
                return self._alone(wanted)
        began = time.perf_counter()
        try:
            (answer,), teams = self._answers(snapshot, [query]), ""
        except InputError:
            if self.assigned.arm != "b":
                raise
            return self._alone(wanted)
        seconds = time.perf_counter() - began
        if beside is not None:
            answer.items, teams = team_draft(answer.items, beside.items, self.options.k)
        about = {"model_version": self._version, "skipped": self.skipped, "teams": teams}
        response = fast({**about, **self._described(query, answer, teams)})
        shadowed = None if self.assigned.arm else self.service.shadowed(wanted.user_id)
        if shadowed is not None:
            shown = Listed.of(snapshot, answer, seconds)
            response.background = self._unseen(*shadowed, wanted, shown)
        return response

    def _alone(self, wanted: UserQuery) -> Response:
        """The response of the bundle in service, not counted in any comparison."""
        current = self.service.current
        query = _request(current, wanted)
        return self._replace(assigned=Assigned(current)).single(wanted, query)

    def _unseen(
        self, shadow: Shadow, other: Snapshot, wanted: UserQuery, shown: Listed
    ) -> BackgroundTask:
        """Have the shadow bundle answer a request too, once the response is sent."""
        options = replace(self.options, strict=False)

        def listed() -> Listed:
            query = _request(other, wanted)
            began = time.perf_counter()
            (answer,) = other.pipeline.answers([query], options)
            return Listed.of(other, answer, time.perf_counter() - began)

        version = other.manifest.model_version
        return BackgroundTask(Unseen(self.shared, shadow, shown, version, listed).after)

    def batch(self, queries: Sequence[PipelineRequest], deadline: float) -> Response:
        """The response to a batch, block by block; `TimeoutError` if that takes too long.

        Each block is serialised at once: as objects, answers take several times the memory. Between
        blocks, single requests go first.
        """
        most = max(1, min(_BLOCK, _BLOCK_ITEMS // self.options.k))
        turns, quick = self.shared.turns, min(most, _FIRST_BLOCK)
        written: list[orjson.Fragment] = []
        while len(written) < len(queries):
            size = most if turns.are_rare else quick
            with turns.block(deadline):
                began = time.monotonic()
                block = queries[len(written) : len(written) + size]
                answers = self._answers(self.assigned.snapshot, block)
                for query, answer in zip(block, answers, strict=True):
                    written.append(orjson.Fragment(orjson.dumps(self._described(query, answer))))
                seconds = (time.monotonic() - began) / len(block)
            quick = max(1, min(most, round(_BLOCK_S / seconds)))
        return fast({"model_version": self._version, "answers": written})

    @property
    def _version(self) -> str:
        return self.assigned.snapshot.manifest.model_version

    def _answers(self, snapshot: Snapshot, queries: Sequence[PipelineRequest]) -> list[Answer]:
        timings: Timings = {}
        pipeline, is_beside = snapshot.pipeline, snapshot is self.assigned.other
        # The other list is mixed into one that obeys `strict`.
        options = replace(self.options, strict=False) if is_beside else self.options
        answers = pipeline.answers(queries, options, timings)
        if self.shared.is_traced:
            trace_stages(timings)
        lengths = [] if is_beside else [len(answer.items) for answer in answers]
        self.shared.metrics.recommended(timings, lengths, pipeline.items.eligibility.count)
        return answers

    def _described(self, query: PipelineRequest, answer: Answer, teams: str = "") -> dict[str, Any]:
        """An answer in response form, with an id; counts it as shown."""
        snapshot, arm, unit, _ = self.assigned
        users, late = snapshot.pipeline.contents.users, snapshot.pipeline.items.late
        is_known = query.user_id is not None and query.user_id in users
        about = RecommendationId(self._version, arm, is_known, unit, teams)
        shown = [item.item_id for item in answer.items]
        new = sum(map(late.__contains__, shown)) if late else 0
        self.service.shown.add(about, shown, new)
        return {
            "recommendation_id": about.new(),
            "user": "known" if is_known else "new",
            "source": answer.source,
            "unknown_items": answer.unknown_items,
            "items": answer.items,
        }
