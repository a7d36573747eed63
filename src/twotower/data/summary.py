"""Text summary of a prepared data set: rows read, rejected, ignored and removed."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from twotower.data.rejects import fix_of

YEAR: Final = 31_536_000_000
"""Milliseconds of 1970."""
_MANY: Final = 12
"""Maximum number of ignored columns listed."""


def summary_lines(summary: Mapping[str, Any], *, cli: bool = False) -> list[str]:
    """`Dataset.summary` as a few lines of text, with examples and the options to change it.

    ``cli`` names command-line options instead of Python ones.
    """
    return [
        *_log(summary, cli),
        *_ids(summary, cli),
        *_ratings(summary, cli),
        *_unused_values(summary, cli),
        *_times(summary, cli),
        *_catalogue(summary, cli),
        *_users(summary, cli),
        *_reduced(summary, cli),
        *summary.get("notes", ()),
    ]


def _log(summary: Mapping[str, Any], cli: bool) -> Iterator[str]:
    read, files = summary["read"], ", ".join(summary["files"][:5])
    more = len(summary["files"]) - 5
    yield f"log: {read:,} rows read of {files}" + (f" and {more} more files" if more > 0 else "")
    if "joined" in summary:
        yield f"each row has the columns of its row in {', '.join(summary['joined'])}"
    if "format" in summary:
        option = "--as NAME" if cli else "format='NAME'"
        yield f"format: {summary['format']} ({option} reads it as another)"
    if "not_read" in summary:
        option = "--users, --catalogue" if cli else "users=, catalogue="
        yield (
            f"not read, beside it: {', '.join(summary['not_read'][:_MANY])} ({option} read tables "
            "of users and items)"
        )
    if "columns" in summary:
        yield from _columns("log", summary["columns"], cli)
    if "items_in_log" in summary:
        names = ", ".join(map(repr, summary["items_in_log"]))
        option = "--catalogue log" if cli else "catalogue='log'"
        yield f"there is no catalogue; {option} makes one of {names}, if they describe the items"
    encodings = summary.get("encodings", {})
    for name, found in encodings.items():
        option = "--encoding" if cli else "ReadOptions(encoding=…):"
        yield (
            f"{name}: {found['rows']:,} of {found['of']:,} rows are not {found['read_as']}; "
            f"save it as UTF-8, or pass {option} {found['likely']}"
        )
    hint = (summary.get("unknown_items") or {}).get("hint")
    yield from _rejected(summary["rejected"], summary.get("examples", {}), read, cli, hint)


def _ids(summary: Mapping[str, Any], cli: bool) -> Iterator[str]:
    """Ids that look like placeholders, or that may stand for several users or items."""
    if "heaviest_user" in summary:
        user = summary["heaviest_user"]
        option = "--missing" if cli else "ReadOptions(missing=…):"
        yield (
            f"user {user['user_id']!r} has {_share(user['share'])} of the interactions; if it "
            f"is a placeholder, pass {option} {user['user_id']!r}"
        )
    if "scientific_ids" in summary:
        ids = summary["scientific_ids"]
        yield (
            f"{ids['count']:,} ids are like {ids['example']!r}: a spreadsheet has shortened them, "
            "and different ones may now be one; export them as text"
        )
    if "alike_ids" in summary:
        ids = summary["alike_ids"]
        first, other = ids["example"]
        yield (
            f"{ids['count']:,} ids are there twice, in two Unicode forms or with invisible marks, "
            f"such as {first!a} and {other!a}, and count as two; write them alike"
        )
    for what, ids in summary.get("case_variants", {}).items():
        first, other = ids["example"]
        yield (
            f"{what} whose ids differ in upper and lower case alone: {ids['count']:,}, such as "
            f"{first!r} and {other!r}; they count as different, so write them alike if they are not"
        )


def _ratings(summary: Mapping[str, Any], cli: bool) -> Iterator[str]:
    if "without_rating" in summary:
        yield f"{summary['without_rating']:,} interactions have no rating, and are kept without"
    if "ratings" in summary:
        low, high = summary["ratings"]
        if low in (-1, 0) and high > 1 and "unrated" not in summary.get("options", {}):
            option = "--unrated" if cli else "ReadOptions(unrated=…):"
            yield f"ratings begin at {low:g}; if that means none, pass {option} {low:g}"
        if not 0 <= low <= high <= 5 and "rating_scale" not in summary.get("options", {}):
            option = "--rating-scale 1,10" if cli else "ReadOptions(rating_scale=(1, 10))"
            yield f"ratings run from {low:g} to {high:g}; bound them with {option}"


def _unused_values(summary: Mapping[str, Any], cli: bool) -> Iterator[str]:
    """Lists that were read as single values, and 0/1 labels that do not exclude any rows."""
    if "lists" in summary:
        column, example = summary["lists"]["column"], summary["lists"]["example"]
        option = f"--explode {column}" if cli else f"ReadOptions(explode=({column!r},))"
        yield (
            f"the values of {column!r} look like lists, such as {example[:80]!r}; {option} makes "
            "each element a row"
        )
    for column in summary.get("zeros", ()):
        least = "--min-rating 1" if cli else "ReadOptions(min_rating=1)"
        named = f"--column rating={column} " if cli else f"ColumnMapping(rating={column!r}) and "
        option = least if column == summary["columns"]["read"].get("rating") else named + least
        yield f"{column!r} is 0 or 1, and rows of 0 count as interactions; {option} leaves them out"


def _times(summary: Mapping[str, Any], cli: bool) -> Iterator[str]:
    if "times" not in summary:
        return
    times, early = summary["times"], summary.get("times_in_1970", 0)
    begin, end = (datetime.fromtimestamp(time / 1000, UTC) for time in times)
    in_days = summary.get("options", {}).get("time_unit") == "d"  # days of no date, from 1
    if early and times[1] < YEAR and not in_days:
        unit = "--time-unit" if cli else "ReadOptions(time_unit=…)"
        order = "--column order=…" if cli else "ColumnMapping(order=…)"
        likely = ""
        if "likely_unit" in summary:
            likely = " {}, in which they would begin on {}".format(*summary["likely_unit"])
        yield (
            f"all times lie in 1970, from {begin:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S}: is "
            f"the unit another ({unit}{likely}), or is it a place in an order ({order})?"
        )
    else:
        yield f"times run from {begin:%Y-%m-%d} to {end:%Y-%m-%d}"
        if early:
            yield (
                f"{early:,} interactions lie in 1970: is 0 a missing time? they count as the oldest"
            )
    if "date_and_clock" in summary:
        date, clock = summary["date_and_clock"]
        option = (
            f"--column time={date},{clock}" if cli else f"ColumnMapping(time=({date!r}, {clock!r}))"
        )
        yield f"the times are dates alone, and {clock!r} has times of day; {option} reads both"


def _catalogue(summary: Mapping[str, Any], cli: bool) -> Iterator[str]:
    catalogue = summary.get("catalogue")
    if catalogue is None:
        return
    yield f"catalogue: {catalogue['read']:,} rows read of {catalogue['file']}"
    if "columns" in catalogue:
        yield from _columns("catalogue", catalogue["columns"], cli)
    examples = catalogue.get("examples", {})
    yield from _rejected(catalogue["rejected"], examples, catalogue["read"], cli, None)
    for reason, count in catalogue["repaired"].items():
        column, fault = reason.split(": ", 1)
        example = f", such as {examples[reason]!r}" if reason in examples else ""
        option = _repair_option(column, fault, cli)
        yield (
            f"{column}: {count:,} of {catalogue['read']:,} {fault}{example}, left empty"
            + (f"; {option}" if option else "")
        )
    if catalogue.get("empty"):
        yield f"no row of the catalogue has a value of {', '.join(catalogue['empty'])}"
    if len(catalogue.get("currencies", ())) > 1:
        yield (
            f"prices are in several currencies ({', '.join(catalogue['currencies'][:8])}), "
            "and are compared as they stand"
        )
    unknown = summary.get("unknown_items")
    if unknown:
        done = "kept without a row of it" if unknown["kept"] else "rejected"
        yield (
            f"{unknown['items']:,} items are not in the catalogue: {unknown['interactions']:,} "
            f"interactions ({_share(unknown['share'])} of the log) {done}"
        )


def _users(summary: Mapping[str, Any], cli: bool) -> Iterator[str]:
    users = summary.get("user_table")
    if users is None:
        return
    yield (
        f"users: {users['read']:,} rows read of {users['file']}, with {', '.join(users['columns'])}"
    )
    rejected = users.get("rejected", {})
    yield from _rejected(rejected, users.get("examples", {}), users["read"], cli, None)
    problems = {
        "without_id": "rows without an id", "repeated": "rows of a user that is there already",
        "missing": "users of the log are not in it",
    }  # fmt: skip
    for key, description in problems.items():
        if users[key]:
            yield f"users: {users[key]:,} {description}"


def _repair_option(column: str, fault: str, cli: bool) -> str | None:
    if column == "released":
        return "--time-format '%d.%m.%Y'" if cli else "ReadOptions(time_format='%d.%m.%Y')"
    if fault == "not a number":
        return "--decimal-comma" if cli else "ReadOptions(decimal_comma=True)"
    if column == "average_rating":
        return "--rating-scale 0,10" if cli else "ReadOptions(rating_scale=(0, 10))"
    return None


def _reduced(summary: Mapping[str, Any], cli: bool) -> Iterator[str]:
    if "returns" in summary:
        back = summary["returns"]
        yield (
            f"{back['events']:,} returns and other negative events took {back['taken_away']:,} "
            f"earlier ones away; {back['not_recommended']:,} items are not recommended again to "
            "the users who returned them"
        )
    if "kinds" in summary:
        counts = ", ".join(f"{kind} {count:,}" for kind, count in summary["kinds"].items() if count)
        yield f"kinds of events kept: {counts}"
    if summary["repeats"]:
        kept = "target kind or strongest" if "kinds" in summary else "earliest"
        option = "--keep-repeats" if cli else "PrepareSettings(keep_repeats=True)"
        yield (
            f"{summary['repeats']:,} repeats of a user and an item dropped, the {kept} kept; "
            f"{option} keeps them"
        )
    core, before = summary["k_core"], summary.get("before_k_core", {})
    if core["users_removed"] or core["items_removed"]:
        option = "--k-core 0" if cli else "PrepareSettings(k_core=0)"
        removed = ", ".join(
            f"{core[f'{what}_removed']:,} {what}"
            + (f" ({_share(core[f'{what}_removed'] / before[what])})" if before.get(what) else "")
            for what in ("users", "items", "interactions")
        )
        fix = f"{option} keeps all"
        if "smaller_cores" in summary:
            smaller = {int(k): left for k, left in summary["smaller_cores"].items()}
            fix = cores_in_words(smaller, "--k-core " if cli else "k_core=")
        yield f"the {core['k']}-core removed {removed}; {fix}"
    listed = (summary.get("catalogue") or {}).get("items", 0)
    if listed > summary["items"]:
        left = listed - summary["items"]
        option = "--k-core 0" if cli else "PrepareSettings(k_core=0)"
        yield (
            f"{left:,} of the catalogue's {listed:,} items ({_share(left / listed)}) are left out: "
            f"no interaction with them is kept; {option} keeps all"
        )


def cores_in_words(left: Mapping[int, int], option: str) -> str:
    """How many interactions smaller cores leave, and the option that selects one.

    >>> cores_in_words({4: 8606, 2: 14014, 0: 14130}, "--k-core ")
    'choose --k-core 4, which leaves 8,606 interactions, 2 (14,014) or 0 (all)'
    >>> cores_in_words({0: 3000}, "--k-core ")
    'choose --k-core 0, which leaves all'
    """
    first, *rest = (f"{k} ({left[k]:,})" if k else "0 (all)" for k in left)
    k = next(iter(left))
    first = f"{option}{k}, which leaves " + (f"{left[k]:,} interactions" if k else "all")
    listed = [first, *rest]
    return "choose " + " or ".join([", ".join(listed[:-1]), listed[-1]] if rest else listed)


def _rejected(
    counts: Mapping[str, int], examples: Mapping[str, str], read: int, cli: bool, hint: str | None
) -> Iterator[str]:
    for reason, count in counts.items():
        example = f", first {examples[reason]}" if reason in examples else ""
        is_encoding = reason.startswith("bad ")  # said once for each file
        fix = None if is_encoding else fix_of(reason, cli=cli)
        line = f"rejected {count:,} ({_share(count / max(read, 1))}): {reason}{example}"
        if hint is not None and reason.endswith("not in the catalogue"):
            line += f"; {hint}"
        yield line + (f"; {fix}" if fix else "")


def _columns(table: str, found: Mapping[str, Any], cli: bool) -> Iterator[str]:
    read = ", ".join(
        name if name == source else f"{name}={source}" for name, source in found["read"].items()
    )
    ignored: Sequence[str] = found["ignored"]
    line = f"{table} columns read: {read}"
    if ignored:
        names = ", ".join(map(repr, ignored[:_MANY]))
        names += f" and {len(ignored) - _MANY} more" if len(ignored) > _MANY else ""
        option = "--column NAME=COLUMN" if cli else "ColumnMapping(NAME='COLUMN')"
        line += f"; ignored: {names} ({option} reads another"
        line += ", and 'twotower inspect' proposes features)" if cli else ")"
    yield line
    for name, place in found.get("late", {}).items():
        yield f"{table} column {name!r} first appears on line {place:,}"


def _share(share: float) -> str:
    """In percent; neither 0% nor 100% unless it is.

    >>> _share(0.0004), _share(0.034), _share(0.5), _share(0.9997), _share(1)
    ('<0.1%', '3.4%', '50%', '>99.9%', '100%')
    """
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{share:.1%}" if share < 0.1 or 0.99 <= share < 1 else f"{share:.0%}"
