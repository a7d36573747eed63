"""Sentences of the report, generated from the figures."""

from collections.abc import Mapping, Sequence

from twotower.evaluation.registry import FULL, SAMPLED
from twotower.evaluation.results import Difference, Row
from twotower.reporting.study_results import QUALITY, StudyFigures, within_seeds


def verdicts_in_words(figures: StudyFigures, differences: Sequence[Difference]) -> str:
    """How many changes help, hurt or show no difference, and the largest effects."""
    counts = {
        verdict: [found for found in differences if found.verdict == verdict]
        for verdict in ("helps", "hurts", "no difference shown")
    }
    helps, hurts, nothing = counts.values()
    parts = [
        f"Of {_counted(len(differences), 'change')}, {len(helps)} "
        f"{'helps' if len(helps) == 1 else 'help'}, {len(hurts)} "
        f"{'hurts' if len(hurts) == 1 else 'hurt'}, and for {len(nothing)} no difference is shown."
    ]
    if helps:
        best = max(helps, key=lambda found: found.value)
        parts.append(f"The greatest gain is {_named(figures, best)}: {_gain(best)}.")
    if hurts:
        worst = min(hurts, key=lambda found: found.value)
        parts.append(f"The greatest loss is {_named(figures, worst)}: {_gain(worst)}.")
    unsure = [d.model for d in differences if within_seeds(d) and d in (*helps, *hurts)]
    if unsure:
        parts.append(
            f"Of these, {', '.join(unsure)} (†) lie within two standard errors over training "
            "seeds, so that they may not hold for another seed."
        )
    return " ".join(parts)


def agreement_in_words(figures: StudyFigures) -> str:
    """How far sampled and full ranking agree: pairs of models in the same order."""
    full, sampled = (figures.by_model(name, QUALITY) for name in (FULL, SAMPLED))
    models = [model for model in full if model in sampled]
    pairs = [(a, b) for i, a in enumerate(models) for b in models[i + 1 :]]
    alike = sum(
        (full[a].value - full[b].value) * (sampled[a].value - sampled[b].value) > 0
        for a, b in pairs
    )
    best = {
        name: max(models, key=lambda model: of[model].value)
        for name, of in (("full ranking", full), ("sampled negatives", sampled))
    }
    text = f"The two order {alike} of {len(pairs)} pairs of models alike."
    first, second = best.values()
    if first == second:
        return f"{text} {first} is best under both."
    return (
        text + " Best is " + " and ".join(f"{model} by {how}" for how, model in best.items()) + "."
    )


def extremes_in_words(figures: StudyFigures, protocol: str, when: str = "") -> str:
    """The best model of a protocol, and its ratio to popularity."""
    rows = figures.by_model(protocol, QUALITY)
    best = max(rows.values(), key=lambda row: row.value)
    text = f"{when} {best.model} is best".strip() + f", with {QUALITY} {with_interval(best)}"
    if times := times_popularity(rows, best.model):
        text += f", {times:.1f} times popularity"
    return f"{text}, over {_counted(best.users, 'query', 'queries')}."


def with_interval(row: Row) -> str:
    """A figure with its interval, where it has one."""
    interval = "" if row.low is None else f" [{row.low:.4f}, {row.high:.4f}]"
    return f"{row.value:.4f}{interval}"


def times_popularity(rows: Mapping[str, Row], model: str) -> float | None:
    """A model's ratio to popularity; None for popularity itself or if it has no figure."""
    popular = rows.get("popularity")
    if popular is None or popular.value <= 0 or model == "popularity":
        return None
    return rows[model].value / popular.value


def newcomers_in_words(figures: StudyFigures) -> str:
    """Quality for new users as a share of that for known users, by model."""
    known, new = (figures.by_model(name, QUALITY) for name in ("known-users", "new-users"))
    kept = [
        f"{model} {new[model].value / known[model].value:.0%}"
        for model in new
        if model in known and known[model].value > 0
    ]
    return f"Of the quality for known users, new ones get: {', '.join(kept)}."


def costs_in_words(figures: StudyFigures) -> str:
    """The best and the fastest model, with their training times."""
    quality, times = figures.by_model(FULL, QUALITY), figures.by_model("timing", "training-seconds")
    models = [model for model in times if model in quality]
    best = max(models, key=lambda model: quality[model].value)
    fastest = min(models, key=lambda model: times[model].value)
    return (
        f"The best, {best}, trained for {times[best].value:,.0f} s and reaches "
        f"{quality[best].value:.4f}; the fastest, {fastest}, for {times[fastest].value:,.0f} s, "
        f"and reaches {quality[fastest].value:.4f}."
    )


def _named(figures: StudyFigures, found: Difference) -> str:
    change = figures.changes.get(found.model)
    return f"{found.model} ({change})" if change else found.model


def _gain(found: Difference) -> str:
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}] against {found.parent}"


def _counted(count: int, noun: str, plural: str | None = None) -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
