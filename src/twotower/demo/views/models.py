"""Models page: quality, ablation and training figures from results files."""

from collections.abc import Sequence
from typing import Final

import streamlit as st

from twotower.bundle.manifest import TrainingInfo
from twotower.demo import cards, charts, training
from twotower.demo.figures import Figures, best_first, figures_of, own_places
from twotower.demo.loaded_bundle import LoadedBundle
from twotower.demo.settings import DemoSettings
from twotower.demo.study_charts import best_in_words, draw_steps, drawn_lines, models_by
from twotower.evaluation.registry import FULL, SAMPLED
from twotower.reporting.charts import (
    curves_chart,
    differences_chart,
    gates_chart,
    models_chart,
    newcomers_chart,
    sampled_against_full_chart,
    time_chart,
)
from twotower.reporting.product_names import product_name
from twotower.reporting.sentences import verdicts_in_words
from twotower.reporting.study_results import QUALITY, StudyFigures

_TABLES: Final = {
    FULL: (
        "Full ranking",
        "The item that came next is ranked among all items that the user has not seen. HR@10 is "
        "the share of users for whom it is among the first ten.",
    ),
    SAMPLED: (
        "Among 100 sampled items",
        "The item that came next is ranked among 100 random items. The figures are much larger: "
        "compare them with other sampled figures only.",
    ),
    "full-unmasked": (
        "Full ranking, seen items included",
        "The user's seen items stay in the ranking.",
    ),
    "new-items": ("New items", "Targets are items held out of training."),
    "new-users": ("New users", "Users held out of training."),
    "known-users": ("Known users", "The same protocol for users in training."),
}


def show(loaded: LoadedBundle, settings: DemoSettings) -> None:
    """Draw the page."""
    st.html(
        cards.hero(
            "How good is it?",
            "Each model ranks the held-out item that came next for a user. All figures are read "
            "from results files.",
        )
    )
    found = figures_of(loaded, settings)
    for path, reason in found.broken.items():
        st.warning(
            f"{cards.plain(f'{path.name} cannot be read and is left out: {reason}')}",
            icon=":material/warning:",
        )
    studies = [study for study in found.studies() if _ranked(found, study)]
    # Validation figures are shown only where there are no others.
    studies = [study for study in studies if "validation" not in study[1]] or studies
    dataset = _dataset(loaded, [dataset for dataset, _ in studies])
    if dataset is not None:
        _show_studies(loaded, found, studies, dataset)
    _how_trained(loaded)


def _show_studies(
    loaded: LoadedBundle, found: Figures, studies: Sequence[tuple[str, str]], dataset: str
) -> None:
    if dataset == loaded.manifest.info.dataset:
        found = found.own_first(dataset, own_places(loaded.folder))
        studies = [study for study in studies if found.of(*study)]
    for number, study in enumerate(study for study in studies if study[0] == dataset):
        if number:
            st.divider()
            st.header(f"Split: {cards.plain(study[1])}")
            st.markdown("Another training: compare these figures with each other only.")
        _show_study(best_first(StudyFigures.of(found.of(*study))), f"study-{number}")


def _dataset(loaded: LoadedBundle, measured: Sequence[str]) -> str | None:
    """The bundle's own data set or, where the visitor asks for it, another one."""
    info = loaded.manifest.info
    others = [name for name in dict.fromkeys(measured) if name != info.dataset]
    shown: str | None = info.dataset if info.dataset in measured else None
    if others and st.toggle("Figures of another data set", key="others"):
        shown = st.selectbox("Data set", others, key="study")
        st.info(
            f"These are figures of {cards.plain(str(shown))}, not of this bundle's data set "
            f"{cards.plain(info.dataset)}.",
            icon=":material/info:",
        )
    elif shown is not None:
        st.markdown(f"Data set of this bundle: **{cards.plain(shown)}**")
    elif info.metrics:
        st.markdown(f"Data set of this bundle: **{cards.plain(info.dataset)}**")
        st.html(cards.facts({name: f"{value:.4f}" for name, value in info.metrics.items()}))
        st.caption(
            f"What was measured of {cards.plain(product_name(info.model))} before it was bundled. "
            "Intervals and other models: `twotower evaluate --json results.json`, beside the "
            "bundle."
        )
    else:
        st.info(
            "No results were found of this bundle's data set "
            f"{cards.plain(info.dataset)}. Measure some with "
            "`twotower evaluate --json results.json` and put the file beside the bundle, or give "
            "it with `--results FILE`.",
            icon=":material/folder_off:",
        )
    return shown


@st.fragment  # choosing lines in one study does not redraw the others
def _show_study(figures: StudyFigures, key: str) -> None:
    _tables(figures, key)
    drawn = drawn_lines(figures, key)
    draw_steps(figures, drawn, key)
    if {"new-users", "known-users"} <= set(figures.protocols("")):
        st.header("Users held out of training")
        charts.draw(
            charts.adapted(newcomers_chart(figures)), f"{key}-newcomers",
            what=f"{QUALITY} of each model for known and for new users",
            reading="New users come with their history and are other users than the known ones: a "
            "small difference may be theirs.",
        )  # fmt: skip
    _study(figures, key)
    _training(figures, drawn, key)
    for absent in figures.absent:
        st.caption(cards.plain(f"{absent.model} was not measured: {absent.reason}."))
    _sources(figures)


def _how_trained(loaded: LoadedBundle) -> None:
    """The learning curve of the bundle's own model, and what validation chose for it."""
    info, second = loaded.manifest.info, loaded.pipeline.contents.reranker
    found, trained = training.choices(info, getattr(second, "helps", None)), info.training
    if not found and trained is None:
        return
    st.divider()
    st.header("How this bundle's model was trained")
    if info.fitted_on == "all":
        st.markdown(
            "Of the model that was evaluated. The one in the bundle repeats it on all "
            "interactions: as many epochs, and what validation chose here."
        )
    if trained is not None and trained.epochs:
        st.html(cards.facts(training.facts(trained)))
    if trained is not None and len(trained.epochs) > 1:
        _learning_curve(trained)
    if found:
        st.header("What validation chose")
        rows = [[*choice] for choice in found]
        st.html(cards.table(["choice", "taken", "NDCG@10 on validation"], rows))
    weights = training.weight_curve(info)
    if weights:
        charts.draw(
            charts.curve(
                [*weights], [*weights.values()],
                x="weight of the least-squares part", y="NDCG@10 on validation",
            ),
            "own-weights",
            what="Validation by the weight of the least-squares part beside the towers: "
            + ", ".join(f"{weight:g} {value:.4f}" for weight, value in weights.items()),
            reading="On the left the towers decide almost alone, on the right the least-squares "
            "part. Where the line is highest in between, each knows what the other does not. The "
            "axis of weights is logarithmic.",
        )  # fmt: skip


def _learning_curve(trained: TrainingInfo) -> None:
    validated = {
        number: epoch.validation
        for number, epoch in enumerate(trained.epochs)
        if epoch.validation is not None
    }
    charts.draw(
        charts.learning([epoch.loss for epoch in trained.epochs], validated, trained.best),
        "own-epochs",
        what="Loss and validation by epoch: "
        + ", ".join(
            f"epoch {number} {epoch.loss:.3f}"
            + ("" if epoch.validation is None else f", NDCG@10 {epoch.validation:.4f}")
            for number, epoch in enumerate(trained.epochs, start=1)
        ),
        reading="Of the towers alone. The large point is the epoch whose weights were kept. Loss "
        "that falls while validation no longer rises is what training stops for.",
    )


def _ranked(found: Figures, study: tuple[str, str]) -> bool:
    return any(row.protocol in _TABLES for file in found.of(*study) for row in file.rows)


def _tables(figures: StudyFigures, key: str) -> None:
    shown = {name: words for name, words in _TABLES.items() if figures.protocols(name)}
    for tab, (protocol, (_, words)) in zip(
        st.tabs([title for title, _ in shown.values()]), shown.items(), strict=True
    ):
        with tab:
            st.markdown(words)
            if QUALITY in {row.metric for row in figures.rows if row.protocol == protocol}:
                st.html(cards.lead(best_in_words(figures.by_model(protocol, QUALITY))))
                charts.draw(
                    charts.adapted(models_chart(figures, protocol)),
                    f"{key}-models-{protocol}",
                    what=f"{QUALITY} of each model with its 95% interval, {protocol}",
                    reading="A point is a model, its bar the 95% interval. Where two bars do not "
                    "overlap, the difference is significant.",
                )
            st.html(_table(figures, protocol))
            st.caption(
                "Below each figure its 95% interval over users. Bold is the best, where its "
                "interval lies above all others'."
            )


def _table(figures: StudyFigures, protocol: str) -> str:
    metrics = dict.fromkeys(
        row.metric
        for row in figures.rows
        if row.protocol == protocol and not row.metric.startswith("seed-sd-")
    )
    return models_by({metric: figures.by_model(protocol, metric) for metric in metrics})


def _study(figures: StudyFigures, key: str) -> None:
    differences = figures.compared()
    if differences:
        st.header("Ablation: what each part is worth")
        st.html(cards.lead(verdicts_in_words(figures, differences)))
        charts.draw(
            charts.adapted(differences_chart(figures)), f"{key}-ablation",
            what="Difference of each variant to its parent, with its 95% interval",
            reading="Each line compares a model with its parent. Right of zero it is better; a "
            "hollow point means that chance may explain the difference.",
        )  # fmt: skip
    if any(row.protocol == "gates" for row in figures.rows):
        st.header("Gate weights of the towers")
        charts.draw(
            charts.adapted(gates_chart(figures)), f"{key}-gates",
            what="Weights of the parts of each tower",
            reading="Mean share of each part in a tower's vector.",
        )  # fmt: skip


def _training(figures: StudyFigures, drawn: StudyFigures, key: str) -> None:
    if any(name.startswith("epoch-") for name in figures.protocols("epoch-")):
        st.header("Training curves")
        charts.draw(
            charts.adapted(curves_chart(drawn)), f"{key}-curves",
            what="Validation quality by epoch, a line a model",
            reading="Validation quality after each epoch. Training stops where it no longer rises.",
        )  # fmt: skip
    timed = figures.by_model("timing", "training-seconds")
    ranked = figures.by_model(FULL, QUALITY)
    if len(timed.keys() & ranked.keys()) > 1:
        st.header("Training time")
        charts.draw(
            charts.adapted(time_chart(figures)), f"{key}-cost",
            what="Quality of each model against its seconds of training",
            reading="Up is better, left is cheaper.",
        )  # fmt: skip
    elif timed:
        st.caption("Training time: " + cards.plain(", ".join(
            f"{model} {row.value:,.0f} s" for model, row in timed.items())) + ".")  # fmt: skip
    if len(ranked.keys() & figures.by_model(SAMPLED, QUALITY).keys()) > 1:
        st.header("Sampled against full ranking")
        charts.draw(
            charts.adapted(sampled_against_full_chart(figures)), f"{key}-sampled-against-full",
            what="Quality under sampled ranking against quality under full ranking",
            reading="Further up is better among all items, further right among 100 sampled ones. "
            "The two can order models differently; full ranking is what a service does.",
        )  # fmt: skip


def _sources(figures: StudyFigures) -> None:
    with st.expander("Provenance of these figures", icon=":material/receipt_long:"):
        rows: list[Sequence[str]] = [
            [meta.command, meta.commit or "–", meta.machine, meta.started] for meta in figures.metas
        ]
        st.html(cards.table(["command", "commit", "machine", "started"], rows))
