"""Column mapping: columns named by the caller, or recognised by common names."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from pydantic import field_validator, model_validator

from twotower.config import Config
from twotower.data import columns
from twotower.data.columns import folded
from twotower.errors import InputError

LOG_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    columns.USER_ID: (
        "user_id", "user", "uid", "reviewer_id", "customer_id", "customer", "visitor_id",
        "member_id", "account_id", "client_id", "buyer_id", "person_id", "profile_id",
        "household_key", "household_id", "viewer_id", "customer_user_id", "user_pseudo_id",
        "anonymous_id", "username", "profile_name", "customer_email", "user_email", "email",
        "customer_no", "customer_number", "customer_code", "cust_id", "client_no", "user_hash",
        "user_key", "user_name", "member", "buyer", "client", "account", "visitor", "viewer",
        "person", "shopper_id", "shopper", "subscriber_id", "listener_id", "listener", "player_id",
        "player", "reader_id", "reader", "learner_id", "student_id", "guest_id", "contact_id",
        "loyalty_id", "household", "steam_id", "cookie_id",
        "customer_user", "kunde", "kunden_id", "kunden_nr", "kundennummer", "nutzer", "nutzer_id",
        "benutzer", "benutzer_id", "id_client", "utilisateur", "id_utilisateur", "cliente",
        "cliente_id", "id_cliente", "usuario", "usuario_id", "id_usuario", "utente", "id_utente",
        "klant", "klant_id", "klantnummer",
    ),
    columns.ITEM_ID: (
        "item_id", "item", "iid", "parent_asin", "asin", "movie_id", "product_id", "business_id",
        "article_id", "sku", "stock_code", "isbn", "book_id", "track_id", "song_id", "anime_id",
        "gmap_id", "news_id", "venue_id", "game_id", "recipe_id", "content_id", "artist_id",
        "video_id", "app_id", "beer_id", "place_id", "poi_id", "hotel_id", "restaurant_id",
        "job_id", "joke_id", "course_id", "show_id", "post_id", "photo_id", "paper_id",
        "listing_id", "variant_sku", "item_sku", "line_item_sku", "item_no", "item_number",
        "item_code", "item_uri", "product_no", "product_number", "product_code", "product_sku",
        "product_key", "article_no", "article_number", "ean", "gtin", "upc", "offer_id", "ad_id",
        "track_uri", "spotify_track_uri", "film_id", "episode_id", "program_id", "podcast_id",
        "property_id", "accommodation_id", "document_id", "doc_id", "page_id", "question_id",
        "problem_id", "exercise_id", "lesson_id", "dish_id", "food_id", "meal_id", "wine_id",
        "title_id",
        "artikel", "artikel_id", "artikel_nr", "artikelnummer", "produkt", "produkt_id",
        "produktnummer", "produit", "produit_id", "id_produit", "id_article", "producto",
        "producto_id", "id_producto", "produto", "produto_id", "id_produto", "prodotto",
        "id_prodotto", "articolo", "id_articolo", "productnummer",
    ),
    columns.RATING: (
        "rating", "score", "stars", "overall", "book_rating", "star_rating", "review_rating",
        "user_rating", "review_score", "user_score", "rate", "review_overall",
        "bewertung", "sterne", "puntuacion", "calificacion", "valoracion",
        "avaliacao", "valutazione", "beoordeling",
    ),
    columns.TIMESTAMP: (
        "timestamp", "time", "ts", "datetime", "time_ms", "timestamp_ms", "date",
        "unix_review_time", "event_time",
        "event_timestamp", "utc_timestamp", "event_date", "created_at", "occurred_at",
        "review_time", "review_timestamp", "review_date", "invoice_date", "order_date",
        "order_time", "purchase_date", "purchased_at", "transaction_date", "transaction_time",
        "transaction_dt", "date_created", "date_added", "viewed_at", "played_at", "t_dat",
        "unix_timestamp", "unix_time", "date_time", "event_ts", "event_datetime",
        "server_time", "log_time", "visit_time", "click_time", "clicked_at", "watched_at",
        "listened_at", "visited_at", "bought_at", "ordered_at", "rated_at", "reviewed_at",
        "checkin_time", "purchase_time", "purchase_timestamp", "order_timestamp",
        "order_purchase_timestamp", "inserted_at", "logged_at", "start_time", "started_at",
        "paid_at", "processed_at", "completed_at", "placed_at", "post_date", "datum", "zeit",
        "zeitpunkt", "zeitstempel", "bestelldatum", "kaufdatum", "kaufzeit", "date_commande",
        "date_achat", "horodatage", "fecha", "fecha_hora", "fecha_compra", "fecha_pedido",
        "data_compra", "data_pedido", "data_ora", "data_ordine", "data_acquisto", "tijdstip",
        "besteldatum",
    ),
    columns.ORDER: ("order", "position"),
    columns.EVENT: (
        "event", "event_type", "event_name", "action", "behavior", "behaviour", "kind",
        "behavior_type", "behaviour_type", "action_type", "interaction_type", "event_kind",
        "action_name", "activity", "activity_type", "interaction",
    ),
    columns.QUANTITY: (
        "quantity", "qty", "line_item_quantity", "item_quantity", "order_quantity", "units",
        "product_qty", "menge", "anzahl", "quantite", "cantidad", "quantidade", "quantita",
        "aantal",
    ),
    columns.WEIGHT: (),
}  # fmt: skip
"""Common names of log columns; the first one found is used.

Case, accents, blanks, dashes, points and underscores are ignored (``userId`` is ``user_id``), and
so is a prefix before a slash (``review/userId``). If a needed column is not found, keys of nested
objects are tried too (``properties.product_id``). English names come first, then German, French,
Spanish, Portuguese, Italian and Dutch ones.
"""

_NEEDED: Final = (columns.USER_ID, columns.ITEM_ID, columns.TIMESTAMP)
"""Columns that are also looked for in nested objects."""
_TELLING: Final = 6
"""Minimum letters of a common name for a longer name ending in it to mean the same."""

CATALOGUE_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    columns.ITEM_ID: LOG_NAMES[columns.ITEM_ID] + ("id",),
    columns.TITLE: (
        "line_item_name", "title", "name", "movie_title", "item_name", "product_title",
        "product_name", "prod_name", "book_title", "item_title", "track_name", "track_title",
        "song_name", "song_title", "game_title", "game_name", "app_name", "anime_title",
        "show_title", "video_title", "article_title", "article_name", "headline", "recipe_name",
        "course_title", "course_name", "job_title", "business_name", "venue_name",
        "restaurant_name", "hotel_name", "place_name", "beer_name", "wine_name", "primary_title",
        "original_title", "display_name",
        "titel", "bezeichnung", "artikelbezeichnung", "artikelname", "produktname", "titre",
        "libelle", "nom", "nom_produit", "nombre", "nombre_producto", "titulo", "nome",
        "nome_produto", "titolo", "naam",
    ),
    columns.DESCRIPTION: (
        "description", "text", "summary", "detail_desc", "overview", "abstract",
        "product_description", "item_description", "long_description", "short_description",
        "synopsis", "plot", "body", "content",
        "beschreibung", "artikelbeschreibung", "descriptif", "descripcion", "descricao",
        "descrizione", "omschrijving",
    ),
    columns.PRICE: (
        "price", "unit_price", "list_price", "sale_price", "retail_price", "product_price",
        "item_price", "current_price", "regular_price", "price_final", "final_price",
        "preis", "verkaufspreis", "prix", "prix_vente", "precio", "preco", "prezzo", "prijs",
    ),
    columns.CATEGORY: (
        "category", "main_category", "categories", "genre", "genres", "class", "product_type_name",
        "product_category", "category_name", "product_category_name", "item_category", "department",
        "department_name", "product_type", "product_group_name", "subcategory", "section", "topic",
        "topics", "tags", "cuisine", "cuisines",
        "kategorie", "warengruppe", "produktgruppe", "artikelgruppe", "categorie", "rubrique",
        "categoria", "familia",
    ),
    columns.AVERAGE_RATING: ("average_rating", "avg_rating", "stars"),
    columns.RATING_COUNT: ("rating_count", "rating_number", "num_ratings", "review_count"),
    columns.IMAGE: (
        "image", "image_url", "img_url", "im_url", "image_link", "image_src", "picture",
        "picture_url", "photo_url", "thumbnail", "thumbnail_url", "cover_url", "poster_url",
    ),
    columns.FEATURES: ("features", "bullet_points"),
    columns.STORE: ("store", "brand", "brand_name", "manufacturer", "vendor",
        "marke", "hersteller", "marque", "fabricant", "marca", "fabricante", "merk"),
    columns.RELEASED: (
        "released", "release_date", "release_year", "released_at", "date_first_available", "listed",
        "launch_date", "launched_at", "publication_date", "publication_year", "year_of_publication",
        "publish_date", "published_at", "air_date", "date_release", "date_released",
        "published_time", "publish_time", "upload_date", "upload_dt", "year",
    ),
}  # fmt: skip
"""Common names of catalogue columns."""

LOG_FIELDS: Final = {
    columns.USER_ID: "user", columns.ITEM_ID: "item", columns.RATING: "rating",
    columns.TIMESTAMP: "time", columns.ORDER: "order", columns.EVENT: "event",
    columns.QUANTITY: "quantity", columns.WEIGHT: "weight",
}  # fmt: skip
"""Canonical log column → field of `ColumnMapping`."""
_OF_FIELD: Final = {field: column for column, field in LOG_FIELDS.items()} | {
    "catalogue_item": columns.ITEM_ID
}
"""The reverse, and the field of a catalogue's item."""


class Columns:
    """Columns of one file: the ones that are read, and the others."""

    def __init__(
        self,
        canonical: dict[str, str],
        present: Iterable[str],
        late: Mapping[str, str] | None = None,
        ignore: Sequence[str] = (),
        also: Sequence[str] = (),
    ) -> None:
        self.canonical = canonical
        """Canonical column → the file's column."""
        self.present = list(present)
        """Names of all columns of the file known so far."""
        self.keys = set(self.present)
        self.late: dict[str, int] = {}
        """Columns that first appear in the middle of the file → the line where they do."""
        self._late = late or {}
        self._ignore = ignore
        self._also = also

    def of_same_file(self, canonical: dict[str, str]) -> "Columns":
        """Other columns of the same file; columns found while reading are shared by both."""
        other = Columns(canonical, (), self._late, self._ignore, self._also)
        other.present, other.keys, other.late = self.present, self.keys, self.late
        return other

    @property
    def may_grow(self) -> bool:
        """Whether names yet to be seen could fill canonical columns that are still missing."""
        return not set(self._late.values()) <= self.canonical.keys()

    def add(self, names: Iterable[str], line: int) -> bool:
        """Add names that first appear on ``line``; true if a new column is now read."""
        before = len(self.canonical)
        for name in names:
            if name in self.keys:
                continue
            self.keys.add(name)
            self.present.append(name)
            column = None if name in self._ignore else self._late.get(folded(name))
            if column is not None and column not in self.canonical:
                self.canonical[column] = name
                self.late[name] = line
        return len(self.canonical) > before

    @property
    def read(self) -> dict[str, str]:
        """The file's columns for display; a time in several columns is joined by ``+``."""
        shown = dict(self.canonical)
        parts = [shown.pop(part) for part in columns.TIME_PARTS if part in shown]
        if parts:
            shown[columns.TIMESTAMP] = " + ".join([shown[columns.TIMESTAMP], *parts])
        return shown

    @property
    def ignored(self) -> list[str]:
        """Columns of the file that are not read."""
        read = {*self.canonical.values(), *self._also}
        outer = {name: name.partition(".")[0] for name in self.present if "." in name}
        nested = {name for name, whole in outer.items() if whole in self.keys}
        read |= nested | {outer[name] for name in read & nested}
        return [name for name in self.present if name not in read]


class ColumnMapping(Config):
    """Column names of a source. Columns left out are recognised by common names.

    Attributes
    ----------
    user, item, rating, time, order
        Columns of the log. Give ``time`` or ``order``, not both: ``order`` is for logs with the
        order of a user's interactions but not their times. If date and time of day are in
        several columns, ``time`` lists their names, the date first.
    catalogue_item, title, description, price, category, average_rating, rating_count, image
        Columns of the catalogue.
    event
        Kind of interaction (view, purchase …), filtered by `ReadOptions.events` and weighted by
        `EventRules`.
    quantity
        Number of units; negative for a return, which removes the user's earlier events with the
        item.
    weight
        Weight of an event; negative weights subtract.
    features, store
        Further item text of the catalogue: bullet points, and the brand or seller.
    released
        Release date of an item, or a number that grows with time.
    """

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    time: str | tuple[str, ...] | None = None
    order: str | None = None
    event: str | None = None
    quantity: str | None = None
    weight: str | None = None
    catalogue_item: str | None = None
    title: str | None = None
    description: str | None = None
    price: str | None = None
    category: str | None = None
    average_rating: str | None = None
    rating_count: str | None = None
    image: str | None = None
    features: str | None = None
    store: str | None = None
    released: str | None = None

    @field_validator("time")
    @classmethod
    def _one_or_several(cls, time: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if not isinstance(time, tuple):
            return time
        most = 1 + len(columns.TIME_PARTS)
        if not 1 <= len(time) <= most or len(set(time)) != len(time):
            raise ValueError(f"time is a column, or up to {most} different ones: date, time of day")
        return time if len(time) > 1 else time[0]

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        if self.time is not None and self.order is not None:
            raise ValueError(
                f"time and order are both given ({self.time!r} and {self.order!r}); "
                "give the column that puts a user's interactions in order"
            )
        return self

    def with_lists(self, present: Sequence[str], lists: Sequence[str] | None) -> Self:
        """The mapping of a log with exploded lists: their elements are items if no column is.

        >>> ColumnMapping().with_lists(["user", "basket"], ["basket"]).item
        'basket'
        """
        usual = set(map(folded, LOG_NAMES[columns.ITEM_ID]))
        found = [name for name in lists or () if name in present]
        if self.item is not None or not found or not usual.isdisjoint(map(folded, present)):
            return self
        return self.model_copy(update={"item": found[0]})

    @property
    def names_catalogue(self) -> dict[str, str]:
        """Catalogue columns that were named, by field."""
        log = set(LOG_FIELDS.values())
        return {
            field: name
            for field, name in self.model_dump().items()
            if name is not None and field not in log
        }

    def log_columns(
        self,
        path: Path,
        present: Sequence[str],
        *,
        ignore: Sequence[str] = (),
        needs_order: bool = False,
        events: bool = False,
        catalogue: Sequence[str] = (),
    ) -> Columns:
        """The columns of a log.

        Columns in ``ignore`` are not read. ``events`` requires an event column. ``needs_order``
        adds the time to the error about other missing columns, if there is no time or order.
        Among several item columns, one that the ``catalogue`` has too is preferred; as a last
        resort, the item is a column of unknown name that both tables have.

        Raises
        ------
        InputError
            If a named column is absent or duplicated, or columns are not recognised (all are
            reported at once).
        """
        named = {column: getattr(self, field) for column, field in LOG_FIELDS.items()}
        fields = dict(LOG_FIELDS)
        if isinstance(self.time, tuple):
            parts = dict(zip((columns.TIMESTAMP, *columns.TIME_PARTS), self.time, strict=False))
            named |= parts
            fields |= dict.fromkeys(parts, "time")
        known = {**LOG_NAMES, columns.ITEM_ID: _item_names(present, catalogue)}
        if not events and self.event is None:
            del named[columns.EVENT]
        found = _resolve(path, present, named, known, fields, ignore)
        if columns.TIMESTAMP in found and columns.ORDER in found:
            del found[columns.TIMESTAMP if self.order is not None else columns.ORDER]
        needed = (columns.USER_ID, columns.ITEM_ID, *((columns.EVENT,) if events else ()))
        missing = [LOG_FIELDS[column] for column in needed if column not in found]
        if missing and needs_order and not {columns.TIMESTAMP, columns.ORDER} & set(found):
            missing.append("time")
        _require(missing, path, present)
        return Columns(found, present, _late(LOG_NAMES, (columns.RATING,)), ignore)

    def catalogue_columns(
        self,
        path: Path,
        present: Sequence[str],
        *,
        ignore: Sequence[str] = (),
        log_item: str | None = None,
    ) -> Columns:
        """The columns of a catalogue; an item column named as in the log is preferred.

        Raises
        ------
        InputError
            If a named column is absent or duplicated, or the item column is not recognised.
        """
        named = {columns.ITEM_ID: self.catalogue_item} | {
            name: getattr(self, name)
            for name in (*columns.CATALOGUE, *columns.CATALOGUE_EXTRA, columns.RELEASED)
            if name != columns.ITEM_ID
        }
        fields = {name: name for name in named} | {columns.ITEM_ID: "catalogue_item"}
        known = dict(CATALOGUE_NAMES)
        if log_item is not None:
            known[columns.ITEM_ID] = (log_item, *known[columns.ITEM_ID])
        found = _resolve(path, present, named, known, fields, ignore)
        if columns.ITEM_ID not in found:
            _require(["catalogue_item"], path, present)
        rest = tuple(name for name in known if name != columns.ITEM_ID)
        return Columns(found, present, _late(known, rest), ignore)


def items_in_log(ignored: Sequence[str]) -> list[str]:
    """Unread log columns that may describe items; none if the log holds reviews instead."""
    usual = {
        folded(name)
        for column, names in CATALOGUE_NAMES.items()
        if column in (columns.TITLE, columns.PRICE, columns.CATEGORY, columns.STORE)
        for name in names
    }
    of_review = {folded(name) for name in ("text", "review", "review_text", "summary", "comment")}
    if any(folded(name) in of_review for name in ignored):
        return []
    return [name for name in ignored if folded(name) in usual]


def _item_names(present: Sequence[str], catalogue: Sequence[str]) -> tuple[str, ...]:
    """Candidate names of the item column, those in both log and catalogue first.

    The last resort is a column of any other name, if it is the only such column that both tables
    have.
    """
    log, items = ({folded(name) for name in names} for names in (present, catalogue))
    both = log & items
    known = {
        folded(name)
        for usual in (LOG_NAMES, CATALOGUE_NAMES)
        for names in usual.values()
        for name in names
    }
    unknown = both - known
    names = sorted(LOG_NAMES[columns.ITEM_ID], key=lambda name: folded(name) not in both)
    return (*names, *(unknown if len(unknown) == 1 else ()))


def _late(usual: Mapping[str, tuple[str, ...]], late: Sequence[str]) -> dict[str, str]:
    """Common name → canonical column, for columns that may first appear in mid-file."""
    return {folded(name): column for column in reversed(late) for name in usual[column]}


def _resolve(
    path: Path,
    present: Sequence[str],
    named: Mapping[str, str | None],
    usual: Mapping[str, tuple[str, ...]],
    fields: Mapping[str, str],
    ignore: Sequence[str],
) -> dict[str, str]:
    absent = [name for name in named.values() if name is not None and name not in present]
    if absent:
        subject = f"column {absent[0]!r}" if len(absent) == 1 else f"columns {_listed(absent)}"
        raise InputError(f"{path} has no {subject}", f"it has {_listed(present)}; name one of them")
    left = [name for name in present if name not in ignore]
    by_folded, by_leaf = folded_names(left), _folded_leaves(left)
    found = {}
    for column, name in named.items():
        known = first_usual(usual[column], by_folded) if name is None else name
        if known is None and column in _NEEDED:
            known = first_usual(usual[column], by_leaf)
        if known is not None:
            if (count := list(present).count(known)) > 1:
                raise InputError(
                    f"{path} has {count} columns named {known!r}",
                    f"rename all but the {fields[column].replace('_', ' ')} column",
                )
            found[column] = known
    return found


def folded_names(names: Iterable[str]) -> dict[str, str]:
    """`folded` form → name; the first of equal ones wins."""
    return {folded(name): name for name in reversed(list(names))}


def _folded_leaves(names: Sequence[str]) -> dict[str, str]:
    """Folded inner key → full name of nested keys: ``productid`` → ``properties.product_id``."""
    nested = [name for name in names if "." in name and name.partition(".")[0] in names]
    return {folded(name.partition(".")[2]): name for name in reversed(nested)}


def first_usual(usual: Iterable[str], by_folded: Mapping[str, str]) -> str | None:
    """The first of some common names that a table has, in the table's spelling."""
    return next((by_folded[key] for key in map(folded, usual) if key in by_folded), None)


def named_alike(names: Iterable[str], field: str) -> str | None:
    """The first name that ends in a common name of the log column of a `ColumnMapping` field.

    >>> named_alike(["brewery_id", "beer_beerid", "click_article_id"], "item")
    'beer_beerid'
    """
    usual = map(folded, LOG_NAMES[_OF_FIELD[field]])
    endings = tuple(name for name in usual if len(name) >= _TELLING)
    return next((name for name in names if folded(name).endswith(endings)), None)


def _require(missing: Sequence[str], path: Path, present: Sequence[str]) -> None:
    if not missing:
        return
    labels = [field.replace("_", " ") for field in missing]
    listed = labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
    kind = "column" if len(labels) == 1 else "columns"
    # Without a user column, a session often stands in for the user; only the caller can know.
    sessions = [name for name in present if folded(name) in ("session", "sessionid")]
    alike = {field: named_alike(present, field) for field in missing}
    if "user" in alike:
        alike["user"] = alike["user"] or next(iter(sessions), None)
    likely = {field: name or "…" for field, name in alike.items()}
    mapping = ", ".join(f"{field}={name!r}" for field, name in likely.items())
    keys = ", ".join(f"{field!r}: {name!r}" for field, name in likely.items())
    options = " ".join(f"--column {field}={name}" for field, name in likely.items())
    pronoun = "it" if len(labels) == 1 else "them"
    order = " (or order, where it has places and no times)" if "time" in missing else ""
    if not present:
        raise InputError(
            f"{path} is empty, or holds nothing that can be read", "give a file with rows"
        )
    catalogue = "catalogue_item" in missing
    raise InputError(
        f"cannot determine the {listed} {kind} of {path}, it has {_listed(present)}",
        f"name {pronoun}: ColumnMapping({mapping}), in from_frames columns={{{keys}}}{order}"
        + (", or read no catalogue: Declaration(catalogue='none')" if catalogue else ""),
        cli_fix=f"name {pronoun}: {options}{order}"
        + (", or read no catalogue: --catalogue none" if catalogue else ""),
    )


def _listed(names: Sequence[str], most: int = 20) -> str:
    listed = ", ".join(repr(name[:40]) for name in names[:most]) or "no columns"
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")
