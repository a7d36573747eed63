"""Bundle manifest: description of the model, and the size and sha256 of every file."""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from twotower.bundle.checked import reading
from twotower.bundle.throttle import Pause, no_pause
from twotower.config import Config
from twotower.data.digest import file_sha256
from twotower.data.events import EventRules
from twotower.data.folders import kind_of, why_not
from twotower.errors import ArtefactError
from twotower.factors.fold_in import FoldInInfo

SCHEMA_VERSION: Final = 2
MANIFEST_FILE: Final = "manifest.json"
SCHEMA_FILE: Final = "schema.json"
"""Present only in bundles with declared columns."""
MOST_HISTORY: Final = 10_000
"""Longest history that a tower may read; every request needs memory for all of it."""
_AGAIN: Final = "save the bundle again, or copy it again whole"

FileName = Annotated[str, Field(pattern=r"^[a-z_]+\.[a-z]+$")]
"""A plain name, so that a manifest cannot point outside its folder."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class EpochInfo(Config):
    """One training epoch."""

    loss: float
    """Mean over its batches."""
    seconds: float = Field(ge=0)
    """Duration of its steps, without validation."""
    validation: float | None = None
    """NDCG@10 of the towers on the validation part; None if not measured."""


class TrainingInfo(Config):
    """How the towers were trained."""

    epochs: tuple[EpochInfo, ...]
    best: int | None = Field(None, ge=0)
    """Position in `epochs` of the best validation, whose weights were kept; None without
    validation."""
    ended: Literal["validation", "time", "epochs"]
    """Why training ended: validation stopped improving, time ran out, or all epochs were done."""


class ModelInfo(Config):
    """Description and provenance of a model."""

    model: str = Field(min_length=1)
    """Short name, as used in results files: ``v9``."""
    config: dict[str, Any]
    """The configuration that the model was trained with."""
    dataset: str
    """Name of the data set."""
    dataset_fingerprint: str
    """sha256 of the ids and interactions that the model was trained on."""
    fitted_on: Literal["train", "all"] = "train"
    """``all`` if the bundle holds a refit on all interactions; ``metrics`` are then those of the
    evaluated model, which was fitted on the training part."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Metrics measured before export: ``{"NDCG@10": 0.05}``."""
    training: TrainingInfo | None = None
    """Training of the evaluated model; None in bundles of earlier releases."""
    text_encoder: str | None = None
    """Name of the encoder of the item texts; None if the model reads no text."""
    history_length: int = Field(ge=0, le=MOST_HISTORY)
    """How many of a history's newest items the user tower reads; 0 if it reads no history."""
    events: EventRules | None = None
    """Declared weights of the kinds of events, which the service applies; None if not declared."""
    rating_scale: tuple[float, float] | None = None
    """Lowest and highest rating that `prepare` was set to accept; None for any."""
    repeats: bool = False
    """Whether users return to items in the log, as when repeats were kept: items of the history
    are then recommended too, unless a request says otherwise."""
    fold_in: FoldInInfo | None = None
    """The least-squares (fold-in) part of the vectors, or None."""


class FileEntry(Config):
    """Size in bytes and sha256 of one file."""

    bytes: int = Field(ge=0)
    sha256: Digest


class Manifest(Config):
    """Everything that `verify` checks a bundle against."""

    schema_version: int
    model_version: str
    """Model name and the first digits of a content hash: equal content, equal version."""
    created: datetime
    info: ModelInfo
    embedding_dim: int = Field(ge=1)
    files: dict[FileName, FileEntry]

    def entry(self, folder: Path, name: str) -> FileEntry:
        """The manifest's entry for a file; `ArtefactError` if it has none."""
        if name not in self.files:
            raise ArtefactError(f"{folder / MANIFEST_FILE} does not list {name}; {_AGAIN}")
        return self.files[name]

    def check(self, folder: Path, name: str, pause: Pause = no_pause) -> None:
        """`ArtefactError` if the file is missing or is not the one that was saved."""
        path, entry = folder / name, self.entry(folder, name)
        if not path.is_file():
            raise ArtefactError(f"{path} is missing; {_AGAIN}")
        size = path.stat().st_size
        if size != entry.bytes:
            raise ArtefactError(
                f"{path} has {size:,} bytes, the manifest says {entry.bytes:,}: it is truncated "
                f"or from another bundle; {_AGAIN}"
            )
        with reading(path):
            digest = file_sha256(path, pause)
        if digest != entry.sha256:
            raise ArtefactError(
                f"{path} does not match the manifest's sha256: it is corrupt or from another "
                f"bundle; {_AGAIN}"
            )


def write_manifest(folder: Path, info: ModelInfo, embedding_dim: int) -> Manifest:
    """List every file now in ``folder``, and seal the manifest with its own sha256."""
    files = {
        path.name: FileEntry(bytes=path.stat().st_size, sha256=file_sha256(path))
        for path in sorted(folder.iterdir())
    }
    digests = {name: entry.sha256 for name, entry in files.items()}
    # Training info, such as its duration, is not content.
    content = _digest(
        {"info": info.model_dump(mode="json", exclude={"training"}), "files": digests}
    )
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        model_version=f"{info.model}-{content[:12]}",
        created=datetime.now(UTC).replace(microsecond=0),
        info=info,
        embedding_dim=embedding_dim,
        files=files,
    )
    fields = manifest.model_dump(mode="json")
    sealed = {**fields, "sha256": _digest(fields)}
    (folder / MANIFEST_FILE).write_text(json.dumps(sealed, indent=2) + "\n", encoding="utf-8")
    return manifest


def verify(folder: Path, required: Iterable[str], pause: Pause = no_pause) -> Manifest:
    """Check that every file of a bundle is present and as it was saved; return the manifest.

    `ArtefactError` names the first file that is missing, truncated, corrupt or from another bundle;
    that may be the manifest itself, also if it has another schema version. A file that the manifest
    does not list is never read and is no error.
    """
    manifest = _read_manifest(folder)
    for name in sorted({*required, *manifest.files}):
        manifest.check(folder, name, pause)
    return manifest


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST_FILE
    if not path.is_file() or kind_of(folder) == "prepared data set":
        raise ArtefactError(why_not(folder, "bundle", "", "save the bundle again"))
    with reading(path, "is not a bundle's manifest"):
        fields = json.loads(path.read_text(encoding="utf-8"))
        version, seal = fields["schema_version"], fields.pop("sha256")
    if seal != _digest(fields):
        raise ArtefactError(f"{path} does not match its own sha256: it was changed; {_AGAIN}")
    if version != SCHEMA_VERSION:
        raise ArtefactError(
            f"{path} has schema version {version}, this release reads {SCHEMA_VERSION}; "
            "save the bundle again with this release"
        )
    with reading(path, "is not a bundle's manifest"):
        return Manifest.model_validate_json(json.dumps(fields))


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
