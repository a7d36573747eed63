"""Sequence two-tower: a hybrid of a history encoder and implicit ALS, without a user table.

The item tower maps an item's id and text to one unit vector. The user tower reads the item vectors
of a history and predicts the next item at every position. Each item vector is concatenated with
the item's least-squares factor, each user vector with the fold-in of the same history. Both scores
are dot products, and so is their sum: one vector per item, one per user, one index.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from itertools import combinations
from typing import Any, ClassVar, Final, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twotower.data import Histories, Queries
from twotower.data.schema import Side
from twotower.errors import InputError
from twotower.factors.als import fit_both_factors, fold_in
from twotower.factors.attributes import AttributeRegression
from twotower.factors.cold_items import ColdItems
from twotower.factors.fold_in import FoldIn, FoldInInfo
from twotower.factors.scorer import FactorScorer
from twotower.factors.text_smoothing import Nearness, mean_of
from twotower.features import ITEM_FEATURES, RELEASE_WAVES, ItemFeatures
from twotower.features.declared_columns import ColumnEncoders, Encoded
from twotower.features.gaps import query_gaps
from twotower.models.base import (
    Batch,
    Embeddings,
    RetrievalModule,
    ServedEncoders,
    ServedTowers,
    TeacherVectors,
    evaluating,
    half_squared_norm,
    split_items,
    wanted_items,
)
from twotower.models.column_vectors import INPUTS, ColumnVectors, RequestContext, examples
from twotower.models.export import exported
from twotower.models.projection import TextComponents, score_projections
from twotower.models.sequence_towers import (
    Gaps,
    ReadColumns,
    SequenceConfig,
    SequenceItemTower,
    SequenceUserTower,
)
from twotower.models.towers import hide_ids
from twotower.types import Array, BoolArray, FloatArray

logger = logging.getLogger(__name__)

_ENCODE_ROWS = 1024
_HIDDEN_USERS: Final = 0.1
"""Share of training sequences with the user's columns hidden, to learn missing columns."""
_PROJECTION_USERS = 20_000
FACTOR_WEIGHTS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Coarse grid of weights of the least-squares part."""
MOST_FACTOR_WEIGHT: Final = 64.0
"""Largest weight tried; its reciprocal is the smallest."""
_REFINED: Final = 3
"""Refinement rounds that try weights on both sides of the best one."""


class SequenceTower(RetrievalModule):
    """The trainable module of the sequence two-tower.

    Row 0 of the id table is the unknown id (or the padding); index ``i`` is row ``i + 1``.
    """

    example_source: ClassVar[str] = "sequences"
    bounds_cold_items: ClassVar[bool] = True
    item_ids: Tensor
    item_content: Tensor
    has_text: Tensor
    factors: Tensor
    next_factors: Tensor
    factor_weight: Tensor
    tower_weight: Tensor
    cold_scales: Tensor
    cold_scale: Tensor
    user_map: Tensor
    item_map: Tensor
    reads_gaps: Tensor

    def __init__(
        self,
        config: SequenceConfig,
        text: FloatArray,
        features: ItemFeatures,
        release: FloatArray,
        trained: BoolArray,
        columns: ReadColumns | None = None,
        train: Histories | None = None,
        *,
        timed: bool = False,
    ) -> None:
        """Make an untrained model.

        Parameters
        ----------
        text
            ``(num_items, t)`` unit text vectors.
        features
            Fitted item features.
        release
            ``(num_items, RELEASE_WAVES)`` of a fitted `ReleaseOrder`.
        trained
            ``(num_items,)`` whether an item has a training event. Other items are embedded with
            the unknown id and excluded from the fit of the text components.
        columns
            The declared columns of items and users, or None.
        train
            The training part, needed with user columns: vectors of users without a history are
            predicted by a regression on those columns.
        timed
            Whether the user tower reads the time between events.
        """
        super().__init__()
        self.config = config
        self.num_items = len(text)
        self.in_order = config.in_order
        self.item_embedding = nn.Embedding(self.num_items + 1, config.embedding_dim)
        nn.init.normal_(self.item_embedding.weight, std=config.init_std)
        components = TextComponents.fit(text[trained], config.text_components)
        self.read_columns, self._train = columns, train or Histories.from_lists([])
        self._item_inputs = self._kept("item", None if columns is None else columns.items)
        self._user_inputs = self._kept("user", None if columns is None else columns.users)
        of_items = of_users = of_context = None
        if columns is not None and columns.item_encoders and config.reads("items"):
            width = config.text_hidden_dim
            of_items = ColumnVectors(columns.item_encoders, columns.items, width)
        if columns is not None and columns.user_encoders and config.reads("users"):
            width = config.embedding_dim
            of_users = ColumnVectors(columns.user_encoders, columns.users, width)
        self.item_tower = SequenceItemTower(config, components, of_items)
        if columns is not None and columns.context_encoders and config.reads("events"):
            of_context = RequestContext(
                columns.context_encoders,
                columns.contexts,
                columns.context_slots,
                config.embedding_dim,
            )
        self.user_tower = SequenceUserTower(config, of_users, of_context)
        self.gaps: Gaps | None = None
        if timed:
            self.gaps = Gaps(config.embedding_dim)
            self.register_buffer("reads_gaps", torch.ones((), dtype=torch.bool))
        ids = np.append(0, np.arange(1, self.num_items + 1) * trained)
        self.register_buffer("item_ids", torch.from_numpy(ids), persistent=False)
        content = self.item_tower.content(
            *(torch.from_numpy(array) for array in (text, features.values, release))
        )
        varying = (content != content[:1]).any(dim=0).to(content.dtype)
        self.item_tower.varying.copy_(varying)
        content = content * varying
        described = text.any(axis=1) | (of_items is not None)
        has_text = torch.from_numpy(np.append(False, described))
        self.register_buffer("has_text", has_text, persistent=False)
        padded = F.pad(content, (0, 0, 1, 0))  # row 0 is padding
        self.register_buffer("item_content", padded, persistent=False)
        width = 0 if config.factors is None else config.factors.embedding_dim
        # The first table folds in histories, the second scores items.
        self.register_buffer("factors", torch.zeros(self.num_items, width))
        self.register_buffer("next_factors", torch.zeros(self.num_items, width))
        self.register_buffer("factor_weight", torch.ones(()))
        self.register_buffer("tower_weight", torch.ones(()))
        scales = [config.cold_items.tower_scale, config.cold_items.factor_scale]
        self.register_buffer("cold_scales", torch.tensor(scales))
        self.register_buffer("cold_scale", torch.ones(()))
        # Zero until fitted: training and its validations do without the projection.
        shape = (config.embedding_dim, config.index_dim or 0)
        self.register_buffer("user_map", torch.zeros(shape))
        self.register_buffer("item_map", torch.zeros(shape))
        self._with_factors = True
        self._text, self._release = text, release
        self.trained = trained
        self._cold = np.flatnonzero(~trained)
        self._cold_in_place = True
        self._nearest = self._candidates(self._cold)

    def _kept(self, side: str, encoded: Encoded | None) -> tuple[str, ...]:
        """Register encoded columns as buffers (data, not weights); return the buffers' names."""
        names = () if encoded is None else tuple(f"{side}_{name}" for name in INPUTS)
        for name, array in zip(names, encoded or (), strict=True):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)
        return names

    def _columns(self, tower: nn.Module, names: tuple[str, ...], rows: Tensor) -> list[Tensor]:
        """A tower's column inputs for 1-based rows; empty if it reads no columns."""
        if tower.columns is None:
            return []
        return [getattr(self, name)[rows] for name in names]

    @property
    def _column_parts(self) -> dict[Side, Any]:
        """The towers' modules that read declared columns, by side."""
        parts: dict[Side, nn.Module | None] = {
            "items": self.item_tower.columns,
            "users": self.user_tower.columns,
            "events": self.user_tower.context,
        }
        return {side: part for side, part in parts.items() if part is not None}

    @_column_parts.setter
    def _column_parts(self, parts: Mapping[Side, Any]) -> None:
        self.item_tower.columns = parts.get("items")
        self.user_tower.columns = parts.get("users")
        self.user_tower.context = parts.get("events")

    @property
    def column_sides(self) -> tuple[Side, ...]:
        """Sides whose declared columns the towers read."""
        return tuple(self._column_parts)

    @property
    def history_length(self) -> int:
        """Number of most recent items that the user tower reads."""
        return self.config.history_length

    def before_fit(
        self, train: Histories, seed: int, teachers: Mapping[str, TeacherVectors]
    ) -> None:
        """Fit the least-squares part."""
        del teachers
        self.fit_factors(train, seed)

    def before_step(self, step: int) -> None:
        """Raise the item dropout along its schedule."""
        steps = self.config.item_dropout_steps
        risen = min(step / steps, 1.0) if steps else 1.0
        self.item_tower.item_dropout.share = risen * self.config.item_dropout

    def after_fit(
        self, train: Histories, validate: Callable[[RetrievalModule], float]
    ) -> dict[str, Any]:
        """Fit the projection, then choose gaps, factor weight and columns on validation."""
        self.fit_projection(train)
        if not (train.lengths >= 2).any():
            self._leave_out_towers()
            return {}
        chosen = self.choose_gaps(validate) | self.weigh_factors(validate)
        before = self.column_sides
        chosen |= self.choose_columns(validate)
        return chosen if self.column_sides == before else chosen | self.weigh_factors(validate)

    def after_refit(self, train: Histories, evaluated: Self | None) -> None:
        """Refit the projection; copy weights, scales and gap use from the evaluated module."""
        self.fit_projection(train)
        if evaluated is None:
            if not (train.lengths >= 2).any():
                self._leave_out_towers()
            return
        self.tower_weight.copy_(evaluated.tower_weight)
        self.factor_weight.copy_(evaluated.factor_weight)
        self.cold_scales.copy_(evaluated.cold_scales)
        self.cold_scale.copy_(evaluated.cold_scale)
        if self.gaps is not None:
            self.reads_gaps.copy_(evaluated.reads_gaps)

    def choose_gaps(self, validate: Callable[[RetrievalModule], float]) -> dict[str, Any]:
        """Keep reading the time between events only if that improves the validation metric.

        Returns
        -------
        Under ``gaps``, the metric of the towers alone ``with`` and ``without`` gaps, and whether
        gaps are ``read``; empty for a model trained without gaps.
        """
        if self.gaps is None:
            return {}
        found = {}
        with self.without_cold_items(), self.towers_alone():
            for name, read in (("with", True), ("without", False)):
                self.reads_gaps.fill_(read)
                found[name] = validate(self)
        read = found["with"] > found["without"]
        self.reads_gaps.fill_(read)
        return {"gaps": {"read": read, **found}}

    def choose_columns(self, validate: Callable[[RetrievalModule], float]) -> dict[str, Any]:
        """Keep reading the declared columns of the combination of sides that validates best.

        Returns
        -------
        Under ``columns``, the metric of each combination that was ``tried``, and the sides that
        are ``read``, the fewest in a tie; empty if there is nothing to choose.
        """
        parts = self._column_parts
        if self.config.columns != "chosen" or not parts:
            return {}
        found: dict[tuple[Side, ...], float] = {}
        with self.without_cold_items():
            for number in range(len(parts) + 1):
                for read in combinations(parts, number):
                    self._column_parts = {side: parts[side] for side in read}
                    found[read] = validate(self)
        best = max(found, key=lambda read: found[read])
        self._column_parts = {side: parts[side] for side in best}
        tried = {" + ".join(read) or "none": metric for read, metric in found.items()}
        return {"columns": {"read": list(best), "tried": tried}}

    def _leave_out_towers(self) -> None:
        """Score by the least-squares part alone: the towers had nothing to train on."""
        if self.config.factors is None:
            raise InputError(
                "no user has two training interactions, which a sequence model without a "
                "least-squares part learns from",
                "train mf or lightgcn, or prepare the data with a smaller k-core",
            )
        logger.warning(
            "no user has two training interactions, so that there is no sequence to learn from: "
            "the model scores by its least-squares part alone"
        )
        self.tower_weight.fill_(0.0)

    def fit_factors(self, train: Histories, seed: int) -> None:
        """Factorise the training interactions, if the model has a least-squares part."""
        config, smoothing = self.config.factors, self.config.smoothing
        if config is None:
            return
        events = np.bincount(train.items, minlength=self.num_items)
        smooth = None
        if smoothing is not None:
            nearest = smoothing.nearest(self._text, self._release, events)
            smooth = partial(smoothing.smoothed, nearest=nearest, events=events)
        read, scored = fit_both_factors(train, self.num_items, config, seed, smooth)
        self.factors.copy_(torch.from_numpy(read))
        if self.config.start_from_factors:
            self._start_from(torch.from_numpy(read))
        self.next_factors.copy_(torch.from_numpy(scored))

    @torch.no_grad()
    def _start_from(self, factors: Tensor) -> None:
        """Initialise each item's id embedding in the direction of its factor ``(num_items, f)``.

        Columns are in descending order of their norm, hence the leading ones are used.
        """
        leading = factors[:, : self.config.embedding_dim]
        leading = F.pad(leading, (0, self.config.embedding_dim - leading.shape[1]))
        length = self.config.init_std * self.config.embedding_dim**0.5
        known = leading.any(dim=1)
        table = self.item_embedding.weight[1:]
        table[known] = length * F.normalize(leading[known], dim=-1)

    @property
    def projected(self) -> bool:
        """Whether the towers' vectors are projected before scoring."""
        return bool(self.item_map.any())

    @torch.no_grad()
    def fit_projection(self, train: Histories) -> None:
        """Fit the projection on a sample of training users, if ``index_dim`` is set."""
        if self.config.index_dim is None:
            return
        drawn = np.random.default_rng(0).permutation(len(train))[:_PROJECTION_USERS]
        rows = np.sort(drawn).astype(np.int32)
        towers = self.history_table()
        users = self._encode(Queries(rows, train.select(rows)), towers)
        fitted = score_projections(users, towers[1:].cpu().numpy(), self.config.index_dim)
        self.user_map.copy_(torch.from_numpy(fitted.user))
        self.item_map.copy_(torch.from_numpy(fitted.item))

    def weigh_factors(self, validate: Callable[[RetrievalModule], float]) -> dict[str, Any]:
        """Set the weight of the least-squares part to the one that validates best.

        Tries a coarse grid, then weights between the best one and its neighbours. At the ends of
        the grid one part nearly decides the score alone, so the model is no worse than either.
        Cold-start items are left out: otherwise a weight that keeps them out of the lists would
        look better. Their exposure is bounded afterwards.

        Returns
        -------
        ``factor_weight``; the metric of each weight tried, as ``factor_weights``; and the metric
        of the ``towers_alone``. Empty for a model without a least-squares part.
        """
        if self.config.factors is None:
            return {}
        found: dict[float, float] = {}

        def best() -> float:
            return max(found, key=lambda weight: found[weight])

        def attempt(weight: float) -> None:
            self.factor_weight.fill_(weight)
            found[weight] = validate(self)

        with self.without_cold_items():
            for weight in (1 / MOST_FACTOR_WEIGHT, *FACTOR_WEIGHTS, MOST_FACTOR_WEIGHT):
                attempt(weight)
            for _ in range(_REFINED):
                weights, center = sorted(found), best()
                place = weights.index(center)
                for beside in weights[max(place - 1, 0) : place] + weights[place + 1 : place + 2]:
                    if not 2 / 3 < center / beside < 3 / 2:
                        attempt((center * beside) ** 0.5)
            self.factor_weight.fill_(best())
            with self.towers_alone():
                alone = validate(self)
        return {
            "factor_weight": best(),
            "factor_weights": {f"{weight:.4g}": found[weight] for weight in sorted(found)},
            "towers_alone": alone,
        }

    def forward(self, batch: Batch) -> Embeddings:
        """Embed each distinct item of the batch once, then run the user tower on the histories."""
        read = batch.histories.flatten()
        wanted = torch.cat([read, wanted_items(batch) + 1])
        rows, places = torch.unique(wanted, return_inverse=True)
        vectors = self.embed_items(rows)[places]
        history, items = torch.split(vectors, [len(read), len(wanted) - len(read)])
        history = history.reshape(*batch.histories.shape, -1)
        if self.gaps is not None:
            history = self.gaps(history, batch.gaps)
        states = self.user_tower.states(
            history, *self._columns_of_sequences(batch), contexts=batch.contexts
        )
        return Embeddings.of(
            batch,
            states.flatten(0, 1)[batch.positions],  # (B, d)
            *split_items(items, batch),
            half_squared_norm(len(rows), self.item_embedding(self.item_ids[rows])),
        )

    def _columns_of_sequences(self, batch: Batch) -> list[Tensor]:
        """Column inputs of the user of each of ``S`` histories, found through its examples."""
        users = batch.users.new_zeros(len(batch.histories))
        users[batch.positions // batch.histories.shape[1]] = batch.users + 1
        users = hide_ids(users, _HIDDEN_USERS, self.training)
        return self._columns(self.user_tower, self._user_inputs, users)

    def embed_items(self, rows: Tensor) -> Tensor:
        """Unit vectors ``(n, d)`` of 1-based rows ``(n,)``; training hides ids at random."""
        known = self.item_ids[rows]
        hidden = hide_ids(known, self.config.id_dropout, self.training)
        ids = torch.where(self.has_text[rows], hidden, known)
        return self.item_tower.from_content(
            self.item_embedding(ids),
            self.item_content[rows],
            *self._columns(self.item_tower, self._item_inputs, rows),
        )

    @torch.no_grad()
    def history_table(self) -> Tensor:
        """``(num_items + 1, d)`` item vectors that the user tower reads; row 0 is padding."""
        rows = torch.arange(self.num_items + 1, device=self.item_content.device)
        with evaluating(self):
            return torch.cat([self.embed_items(part) for part in torch.split(rows, 4096)])

    def fold_in(self) -> FoldIn | None:
        """Fold-in for the unweighted least-squares part of user vectors; None without factors."""
        if self.config.factors is None:
            return None
        return fold_in(self.factors.cpu().numpy(), self.config.factors)

    @contextmanager
    def without_cold_items(self) -> Iterator[None]:
        """Context in which cold-start items have zero vectors, which keeps them out of lists."""
        self._cold_in_place = False
        try:
            yield
        finally:
            self._cold_in_place = True

    @property
    def cold_items(self) -> ColdItems:
        """Cold-item settings with the fitted scales, times the factor that bounds exposure."""
        tower, factor = (self.cold_scale * self.cold_scales).tolist()
        return self.config.cold_items.vary(tower_scale=tower, factor_scale=factor)

    @property
    def has_factors(self) -> bool:
        """Whether there is a least-squares part."""
        return self.config.factors is not None

    @property
    def exposure(self) -> float:
        """See `ColdItems.exposure`."""
        return self.config.cold_items.exposure

    @property
    def cost(self) -> float:
        """See `ColdItems.cost`."""
        return self.config.cold_items.cost

    def _candidates(self, rows: Array) -> Array:
        """``(m, neighbours)`` trained items nearest to each of ``rows``, excluding ``rows``."""
        candidates = self.trained.copy()
        candidates[rows] = False
        text, release = self._text, self._release
        return self.config.cold_items.nearest(
            text[rows], text, candidates, Nearness(release[rows], release)
        )

    @torch.no_grad()
    def cold_parts(self, rows: Array) -> tuple[FloatArray, FloatArray]:
        """Unscaled vectors that items ``(m,)`` would have without training events.

        Returns
        -------
        towers
            ``(m, k)`` tower vectors, projected if the model projects.
        factors
            ``(m, f)`` factors borrowed from trained items other than ``rows``.
        """
        places = torch.from_numpy(rows).to(self.item_content.device) + 1
        unknown = self.item_embedding(torch.zeros_like(places))
        with evaluating(self):
            towers = self.item_tower.from_content(
                unknown,
                self.item_content[places],
                *self._columns(self.item_tower, self._item_inputs, places),
            )
        compared = towers @ self.item_map if self.projected else towers
        factors = mean_of(self.next_factors.cpu().numpy(), self._candidates(rows))
        return compared.cpu().numpy(), factors

    @contextmanager
    def towers_alone(self) -> Iterator[None]:
        """Context in which the scorer leaves out the least-squares part."""
        self._with_factors = False
        try:
            yield
        finally:
            self._with_factors = True

    @torch.no_grad()
    def scorer(self) -> FactorScorer:
        """A scorer with ``(num_items, d + f)`` item vectors and matching user vectors."""
        towers = self.history_table()
        maker = self.fold_in() if self._with_factors else None
        weight, tower_weight = float(self.factor_weight), np.float32(self.tower_weight)
        user_map = self.user_map.cpu().numpy() if self.projected else None

        def encode(queries: Queries) -> FloatArray:
            vectors = tower_weight * self._encode(queries, towers)
            if user_map is not None:
                vectors = vectors @ user_map
            if maker is not None:
                vectors = np.hstack([vectors, weight * maker(queries.histories)])
            without = np.flatnonzero(queries.histories.lengths == 0)
            if described is not None and len(without):
                rows = queries.users[without].astype(np.int64) + 1
                vectors[without] = regression()(described.take(rows))
            return vectors

        items = self._scored_items(towers, with_factors=maker is not None)
        described = None
        if self.read_columns is not None and self.read_columns.user_encoders:
            described = self.read_columns.users
        regression = cache(partial(self._regression, items))  # lazily: few scorers need it
        width = (self.item_map if self.projected else towers).shape[1]
        names = self._context_names
        of_time = () if self.read_columns is None else self.read_columns.time_columns
        derived = tuple(name for name in names if name in of_time)
        return FactorScorer(items, encode, names, width, derived)

    @property
    def _context_names(self) -> tuple[str, ...]:
        """Declared columns of the log that the user tower reads."""
        if self.read_columns is None or self.user_tower.context is None:
            return ()
        return tuple(self.read_columns.context_encoders.encoders)

    def _regression(self, items: FloatArray) -> AttributeRegression:
        """Regression to vectors of users without a history, given item vectors ``(I, d)``."""
        columns = self.read_columns
        assert columns is not None
        users = columns.users.take(np.arange(1, len(columns.users.codes)))
        return AttributeRegression.fit(users, columns.user_encoders.rows, self._train, items)

    def _scored_items(self, towers: Tensor, *, with_factors: bool) -> FloatArray:
        """``(num_items, d + f)`` item vectors for scoring."""
        compared = towers[1:] @ self.item_map if self.projected else towers[1:]
        if not with_factors:
            items = compared.cpu().numpy().copy()
            items[self._cold] *= float(self.cold_scale) if self._cold_in_place else 0
            return items
        items = torch.cat([compared, self.next_factors], dim=1).cpu().numpy()
        if not self._cold_in_place:
            items[self._cold] = 0
        else:
            items[self._cold] = self.cold_items.vectors(
                compared.cpu().numpy()[self._cold], self._nearest, self.next_factors.cpu().numpy()
            )
        return items

    @torch.no_grad()
    def _encode(self, queries: Queries, towers: Tensor) -> FloatArray:
        histories = queries.histories
        users = torch.from_numpy(queries.users.astype(np.int64) + 1).to(towers.device)
        vectors = np.empty((len(histories), towers.shape[1]), dtype=np.float32)
        # Group histories of similar length: a batch is as wide as its longest one.
        order = np.argsort(histories.lengths, kind="stable")
        for start in range(0, len(order), _ENCODE_ROWS):
            rows = order[start : start + _ENCODE_ROWS]
            items, lengths = histories.select(rows).padded(self.config.history_length)
            width = max(int(lengths.max()), 1)
            history = towers[torch.from_numpy(items[:, :width]).long().to(towers.device)]
            columns = self._columns(self.user_tower, self._user_inputs, users[rows])
            columns += self._context_of(queries, rows)
            if self.gaps is not None and self.reads_gaps:
                codes = torch.from_numpy(query_gaps(queries.select(rows), width))
                with evaluating(self):
                    history = self.gaps(history, codes.to(towers.device))
            with evaluating(self):
                encoded = self.user_tower(
                    history, torch.from_numpy(lengths).to(towers.device), *columns
                )
            vectors[rows] = encoded.cpu().numpy()
        return vectors

    def _context_of(self, queries: Queries, rows: Array) -> list[Tensor]:
        """Context inputs of the user tower for some queries; empty if it reads no context."""
        if self.user_tower.context is None:
            return []
        contexts = np.zeros(len(rows), np.int64)
        if queries.contexts is not None:
            contexts = queries.contexts[rows].astype(np.int64) + 1
        with evaluating(self):
            return self.user_tower.context.inputs(
                torch.from_numpy(contexts).to(self.item_content.device)
            )

    def export(self, num_users: int) -> ServedTowers:
        """Both towers as ONNX models, and the tables that they read.

        The user tower has inputs ``history (B, L, d)`` and ``lengths (B,)``; if it reads the time
        between events, ``gaps (B, L)``, codes of `twotower.features.gaps`; if it reads user
        columns, ``codes (B, S)``, ``weights (B, S)`` and ``dense (B, D)``; and if it reads the
        request context, the same with the prefix ``context_``. It ends with the projection or the
        tower weight, if any. The item tower has inputs ``item``, ``text``, ``features`` and
        ``release``, and those of its columns. Its output is not projected: the user tower reads
        it in histories.
        """
        config, factors = self.config, self.config.factors
        user_example = {
            "history": torch.zeros(1, 2, config.embedding_dim),
            "lengths": torch.ones(1, dtype=torch.int64),
        }
        item_example = {
            "item": torch.zeros(1, config.embedding_dim),
            "text": torch.zeros(1, self.item_tower.text.input_dim),
            "features": torch.zeros(1, len(ITEM_FEATURES)),
            "release": torch.zeros(1, RELEASE_WAVES),
        }
        tower: nn.Module = self.user_tower
        if self.gaps is not None and self.reads_gaps:
            user_example["gaps"] = torch.zeros(1, 2, dtype=torch.int64)
            tower = _Timed(tower, self.gaps)
        columns = self.read_columns
        if columns is not None and self.item_tower.columns is not None:
            item_example |= examples(columns.items)
        if columns is not None and self.user_tower.columns is not None:
            user_example |= examples(columns.users)
        if columns is not None and self.user_tower.context is not None:
            user_example |= examples(columns.contexts, "context_")
        weight = float(self.tower_weight)
        if self.projected:
            tower = _Mapped(tower, weight * self.user_map)
        elif weight != 1:
            tower = _Mapped(tower, weight * torch.eye(config.embedding_dim))
        table = self.history_table().cpu().numpy()
        table[0] = 0
        return ServedTowers(
            user_tower=exported(tower, user_example),
            item_tower=exported(self.item_tower, item_example),
            user_table=np.zeros((num_users + 1, 0), dtype=np.float32),  # no user ids
            unknown_id=self.item_embedding.weight[0].detach().cpu().numpy(),
            history_length=config.history_length,
            history_table=table,
            history_is_vector=True,
            vector_projection=self.item_map.cpu().numpy() if self.projected else None,
            factors=None if factors is None else self.factors.cpu().numpy(),
            fold_in=None
            if factors is None
            else FoldInInfo(
                dim=factors.embedding_dim,
                weight=float(self.factor_weight),
                confidence=factors.fold_in_confidence,
                recency=factors.recency,
                regularisation=factors.history_penalty,
                cold_items=self.cold_items,
            ),
            cold_scale=1.0 if factors is not None else float(self.cold_scale),
            exposure=self.exposure,
            columns=None
            if columns is None
            else ServedEncoders(
                ColumnEncoders({}) if self.item_tower.columns is None else columns.item_encoders,
                columns.user_encoders,
                columns.users,
                self._regression(self.scorer().item_vectors()) if columns.user_encoders else None,
                ColumnEncoders({}) if self.user_tower.context is None else columns.context_encoders,
            ),
        )


class _Timed(nn.Module):
    """A user tower with the codes of `Gaps` as its third input."""

    def __init__(self, tower: nn.Module, gaps: Gaps) -> None:
        super().__init__()
        self.tower, self.gaps = tower, gaps

    def forward(self, history: Tensor, lengths: Tensor, gaps: Tensor, *others: Tensor) -> Tensor:
        vectors: Tensor = self.tower(self.gaps(history, gaps), lengths, *others)
        return vectors


class _Mapped(nn.Module):
    projection: Tensor

    def __init__(self, tower: nn.Module, projection: Tensor) -> None:
        super().__init__()
        self.tower = tower
        self.register_buffer("projection", projection)

    def forward(self, *inputs: Tensor) -> Tensor:
        vectors: Tensor = self.tower(*inputs)
        return vectors @ self.projection
