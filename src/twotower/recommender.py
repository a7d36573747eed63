"""`Recommender`: fit, evaluate, recommend, save and load, with external ids throughout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, Unpack, overload

import polars as pl

from twotower.data import Dataset, columns
from twotower.data.frames import id_list, id_text
from twotower.errors import InputError
from twotower.inference.batch import (
    SCHEMA,
    Unknown,
    check_unknown,
    recommendation_tables,
)
from twotower.inference.business_rules import BusinessRules, read_rules
from twotower.inference.filters import ANY, Filters
from twotower.inference.options import OptionFields, RecommendOptions
from twotower.inference.pipeline import Pipeline, Recommendation
from twotower.machine import settle_threads

if TYPE_CHECKING:
    from twotower.training.fit import Trained
    from twotower.training.variant import Variant

UserId: TypeAlias = str | int
ItemId: TypeAlias = str | int
SEEDS: Final = 2**63
"""Number of valid seeds, from 0."""
Column: TypeAlias = Any
"""A column of ids: a NumPy array, or a Series of polars, pandas or Arrow."""


class Recommender:
    """A trained two-tower with its index, or a bundle of one.

    Loading and recommending need no torch; fitting and evaluating do.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        dataset: Dataset | None = None,
        *,
        evaluated: Trained | None = None,
        shipped: Trained | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._dataset = dataset
        self._evaluated = evaluated
        self._shipped = shipped

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        model: str | Variant = "two-tower",
        *,
        seed: int = 0,
        text_encoder: str = "minilm",
        refit: bool = True,
        epochs: int | None = None,
        minutes: float | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Train a two-tower and index its items.

        Parameters
        ----------
        dataset
            A prepared data set. Without a validation part nothing is chosen, and there is no
            second stage.
        model
            Name of a two-tower variant (``twotower.workflow.variants.VARIANTS``), or a
            `Variant` of your own.
        seed
            Decides initial weights, batches and dropout.
        text_encoder
            ``minilm`` (extra ``text``) or ``hashing``; a `Variant` brings its own.
        refit
            Whether recommendations come from the model refit on all interactions, with the
            settings chosen on validation; `evaluate` measures the one fitted on the training part.
        epochs
            Most epochs; None leaves it to early stopping.
        minutes
            Most minutes of training, the search for settings included; None trains until early
            stopping. A refit takes up to as long again.
        checkpoint
            Folder of checkpoints; an interrupted fit resumes from there.
        progress
            Whether a line about the work and the time left is printed every ten seconds, to
            standard error.

        Raises
        ------
        InputError
            An unknown model, one without towers, a seed that is none, or no torch.
        """
        if not isinstance(dataset, Dataset):
            raise InputError(
                f"fit takes a Dataset, got a {type(dataset).__name__}",
                "make one: Dataset.from_frames(table), or prepare('a file or folder')",
            )
        if find_spec("torch") is None:
            raise InputError(
                "fitting needs the package torch, which is not installed",
                "run pip install 'twotower[train,text]'",
            )
        if not isinstance(seed, Integral) or not 0 <= seed < SEEDS:
            raise InputError(f"seed must be a whole number from 0 to {SEEDS - 1:,}, got {seed!r}")
        if not isinstance(text_encoder, str):
            raise InputError(
                f"text_encoder must be the name of one, got {text_encoder!r}",
                "pass 'minilm' or 'hashing'",
            )
        settle_threads()  # heeded where the caller has not imported torch yet
        from twotower.training.variant import Variant
        from twotower.workflow.bundling import check_servable, shipped_contents
        from twotower.workflow.models import named_variant, train_variant
        from twotower.workflow.progress import LineReporter, Silent
        from twotower.workflow.reranking import fitted_blend

        if not isinstance(model, str | Variant):
            raise InputError(
                f"model must be the name of a model or a Variant, got {model!r}",
                "pass 'two-tower'",
            )
        name = model if isinstance(model, str) else "custom"
        variant = named_variant(model, text_encoder) if isinstance(model, str) else model
        check_servable(name, variant)
        variant = variant.with_epochs(epochs).within(minutes)
        reporter = LineReporter() if progress else Silent()
        trained = train_variant(
            variant, dataset, name=name, seed=int(seed), reporter=reporter,
            checkpoint=None if checkpoint is None else Path(checkpoint),
        )  # fmt: skip
        contents, shipped = shipped_contents(
            name, trained, dataset, refit=refit, reporter=reporter,
            reranker=fitted_blend(trained, dataset, reporter),
        )  # fmt: skip
        return cls(Pipeline(contents), dataset, evaluated=trained, shipped=shipped)

    def with_rules(self, rules: BusinessRules | str | Path | None) -> Self:
        """The same under business rules, or those of a file: pinned, boosted, buried and blocked
        items. None for no rules.

        Raises
        ------
        InputError
            Where the file is wrong, or a rule names a category or column that no item has.
        """
        given = read_rules(Path(rules)) if isinstance(rules, str | Path) else rules
        if given is not None and not isinstance(given, BusinessRules):
            raise InputError(
                f"rules must be BusinessRules or a file of them, got a {type(given).__name__}",
                "pass the path of a .toml or .json file",
            )
        return type(self)(
            self._pipeline.with_rules(given),
            self._dataset,
            evaluated=self._evaluated,
            shipped=self._shipped,
        )

    def evaluate(self) -> dict[str, float]:
        """Full-ranking test metrics, ``{"HR@10": …, "NDCG@10": …}``.

        Raises
        ------
        InputError
            On a loaded recommender: a bundle holds no test part.
        """
        from twotower.evaluation.protocols import FULL, evaluate

        if self._evaluated is None or self._dataset is None:
            raise InputError(
                "a loaded bundle holds no test part", "evaluate the recommender that was fitted"
            )
        found = evaluate(self._evaluated.module.scorer(), self._dataset, protocols=(FULL,))
        return {metric: found.mean(FULL, metric) for metric in found.metrics}

    @overload  # a text is a sequence too, but the id of one user
    def recommend(  # type: ignore[overload-overlap]
        self,
        user_id: UserId | None = None,
        history: Sequence[str] | Column = (),
        k: int = 10,
        *,
        text: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        time: int | str | datetime | None = None,
        unknown: Literal["popular", "fail"] | None = None,
        **options: Unpack[OptionFields],
    ) -> list[Recommendation]: ...

    @overload
    def recommend(
        self,
        user_id: Sequence[UserId] | Column,
        history: Sequence[str] | Column = (),
        k: int = 10,
        *,
        text: str | None = None,
        context: Mapping[str, Any] | None = None,
        unknown: Unknown | None = None,
        **options: Unpack[OptionFields],
    ) -> pl.DataFrame: ...

    def recommend(
        self,
        user_id: Any = None,
        history: Any = (),
        k: int = 10,
        *,
        text: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        time: int | str | datetime | None = None,
        unknown: Unknown | None = None,
        **options: Unpack[OptionFields],
    ) -> list[Recommendation] | pl.DataFrame:
        """Items for a known user, a cold-start user who just looked at ``history``, or many users.

        Parameters
        ----------
        user_id
            Id of a known user, None, or many: a list, an array or a column of any library.
        history
            Ids of the items just browsed, oldest first: a list, an array or a column. Not with
            many users.
        k
            Items to return, fewer only where fewer exist.
        text
            Search text, read as the items whose titles match it best. Not with many users.
        attributes
            Declared columns of the user, ``{"age": 34, "country": "DE"}``, in place of those of
            the data set. With a model that reads them they are enough for a cold-start user. Not
            with many users.
        context
            Declared columns of the log for this request, ``{"device": "phone", "hour": 18}``, with
            a model that reads them. Of many users the same for all.
        time
            When the request is made, by default now: milliseconds since 1970-01-01 UTC, or a
            datetime or ISO 8601 text with an offset. Context that derives from the time is that of
            then. Not with many users.
        unknown
            What an unknown user without a history gets: ``popular`` items, an error (``fail``, the
            default for one user), or, with many users, no rows (``skip``). The default for many is
            ``popular``.
        options
            ``filters`` (which items may be recommended: `twotower.inference.Filters`),
            ``exclude_seen`` (leave out items of the history, stored or given; None, the default:
            unless users come back to items in the log), ``rerank``
            (order ``candidates``, 1,000, by the second stage; None, the default: where validation
            was the better for it) and ``reasons`` (True: say
            why; tables never do). See `twotower.inference.RecommendOptions`.

        Returns
        -------
        list of Recommendation
            For one user.
        polars.DataFrame
            For many: ``user_id``, ``rank`` (from 1), ``item_id``, ``title``, ``score`` and
            ``source``, which is ``model`` or ``popular``. Items are searched exactly.

        Raises
        ------
        InputError
            At an unknown user without a history (unless ``unknown`` says otherwise), an unknown
            item, category, attribute or context, words that describe no item, an empty request, a
            time without an offset, ``k`` that is no whole number above 0, fewer candidates than
            ``k``, or ``rerank`` where there is no re-ranker.
        """
        unexpected = options.keys() - OptionFields.__annotations__.keys()
        if unexpected:
            raise InputError(
                f"recommend has no option {sorted(unexpected)[0]!r}",
                f"besides user_id, history, k, text, attributes, context, time and unknown it "
                f"takes {', '.join(OptionFields.__annotations__)}",
            )
        _check_text(text)
        if unknown is not None:
            check_unknown(unknown)
        if user_id is None or isinstance(user_id, str | bytes) or not isinstance(user_id, Iterable):
            if unknown == "skip":
                raise InputError(
                    "unknown='skip' is for many users", "pass a list of ids, or unknown='popular'"
                )
            known_as = None if user_id is None else id_text(user_id, "user_id")
            request = self._pipeline.request(
                known_as, id_list(history), text, attributes, context, time
            )
            if unknown == "popular":
                chosen = RecommendOptions(k, strict=False, **options)
                return self._pipeline.answers([request], chosen)[0].items
            return self._pipeline.recommend_batch([request], RecommendOptions(k, **options))[0]
        given = {
            "history": id_list(history), "text": text is not None, "attributes": attributes,
            "time": time is not None,
        }  # fmt: skip
        for name, value in given.items():
            if value:
                raise InputError(
                    f"many users take no {name}", "recommend for each with its own, or without"
                )
        tables = recommendation_tables(
            self._pipeline,
            id_list(user_id, "user_id"),
            RecommendOptions(k, **options),
            unknown=unknown or "popular",
            context=context,
        )
        found = [pl.DataFrame(pl.from_arrow(table)) for table, _ in tables]
        empty = pl.DataFrame(pl.from_arrow(SCHEMA.empty_table()))
        rows = pl.concat([empty, *found])
        items = self._pipeline.items
        titles = [items.titles.rows[items.row(item)] for item in rows[columns.ITEM_ID]]
        titled = rows.with_columns(pl.Series(columns.TITLE, titles, dtype=pl.String))
        return titled.select(
            columns.USER_ID, "rank", columns.ITEM_ID, columns.TITLE, "score", "source"
        )

    def similar_items(
        self, item_id: ItemId, k: int = 10, *, filters: Filters = ANY
    ) -> list[Recommendation]:
        """Items nearest to ``item_id`` in the model's space."""
        return self._pipeline.similar_items(id_text(item_id, "item_id"), k, filters=filters)

    def search(self, text: str, k: int = 10, *, filters: Filters = ANY) -> list[Recommendation]:
        """Items whose titles hold the words of ``text`` or, where the model can tell, mean it."""
        if text is None:
            raise InputError("text must be words, got None", "pass words of titles")
        _check_text(text)
        return self._pipeline.search(text, k, filters=filters)

    def save(self, folder: str | Path) -> Path:
        """Write the bundle, all or nothing."""
        from twotower.workflow.bundling import write_bundle

        if self._shipped is None:
            raise InputError("this recommender was loaded from a bundle", "copy that folder")
        write_bundle(Path(folder), self._pipeline.contents, self._shipped)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """From a bundle's folder; `ArtefactError` where it is broken."""
        return cls(Pipeline.load(Path(folder)))


def _check_text(text: str | None) -> None:
    if text is not None and not isinstance(text, str):
        raise InputError(f"text must be words, got {text!r}", f"pass {str(text)!r}")
