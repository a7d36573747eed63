"""Fixtures that every test sees: real data where there is some, toy data, and no network."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from twotower.data import Dataset

pytest.register_assert_rewrite("twotower.testing")

ROOT = Path(__file__).resolve().parents[1]

# Before NumPy, torch or FAISS are imported, and for the processes that tests start: one
# thread each, so that parallel test workers do not compete and sums keep their order.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How fast a busy machine is says nothing of the code.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the public data sets: ``TWOTOWER_DATA``, or one kept beside the checkout."""
    given = os.environ.get("TWOTOWER_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            "real data not found: set TWOTOWER_DATA to the folder with video-games-2023, "
            "gowalla and ml-100k"
        )
    return folder


def _is_local(family: int, address: Any) -> bool:
    if family not in (socket.AF_INET, socket.AF_INET6):
        return True
    host = address[0]
    return host in ("localhost", "::1") or host.startswith("127.")


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Fail a test that connects to anything but this machine.

    Session scope, because Hypothesis refuses function-scoped fixtures; `pytest.fail`, because
    an `OSError` would be taken for a flaky network and retried.
    """

    def guarded(name: str) -> Any:
        original = getattr(socket.socket, name)

        def connect(self: socket.socket, address: Any) -> Any:
            if not _is_local(self.family, address):
                pytest.fail(f"a test must not use the network, it tried to reach {address}")
            return original(self, address)

        return connect

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded("connect"))
        patch.setattr(socket.socket, "connect_ex", guarded("connect_ex"))
        yield


class Done(NamedTuple):
    """What a command ended with."""

    status: int
    out: str
    error: str


@pytest.fixture(scope="session")
def exit_code() -> Callable[..., int]:
    """Run the command line in this process; its exit status."""

    def run(*arguments: object) -> int:
        from twotower.cli import main

        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        return int(stopped.value.code or 0)

    return run


@pytest.fixture
def cli(exit_code: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run the command line in this process: status, output, errors."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        return Done(exit_code(*arguments), *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def blocks() -> "Dataset":
    """60 users and 40 items in two blocks that never meet: even users have even items only.

    Twelve items a user, the last two held out; ratings, times, titles, categories and years, so
    that every feature has something to say.
    """
    from twotower.testing import block_dataset

    return block_dataset()


@pytest.fixture(scope="session")
def block_text(blocks: "Dataset") -> Any:
    """Hashed titles of ``blocks``."""
    from twotower.testing import hashed_titles

    return hashed_titles(blocks)


@pytest.fixture(scope="session")
def block_image(blocks: "Dataset") -> Any:
    """Image vectors of ``blocks``: any 12 numbers, and no image of items 3, 17 and 18."""
    import numpy as np

    vectors = np.random.default_rng(5).normal(size=(len(blocks.items), 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[[3, 17, 18]] = 0
    return vectors


@pytest.fixture(scope="session")
def context_log() -> Any:
    """A log whose context decides the item: each of three devices has its own third of the items.

    The hour tells the device too, with noise; ``is_app`` says nothing.
    """
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(5)
    rows = []
    for user in range(60):
        left = [rng.permutation(10).tolist() for _ in range(3)]
        for at in range(9):
            device = int(rng.integers(3))
            item, time = 3 * left[device].pop() + device, 1_700_000_000 + 1000 * user + at
            name, hour = ("phone", "tv", "desk")[device], 6.0 * device + rng.normal()
            rows.append((f"u{user:02}", f"i{item:02}", time, name, hour, at % 2 == 0))
    names = ["user", "item", "time", "device", "hour", "is_app"]
    return pl.DataFrame(rows, schema=names, orient="row")


@pytest.fixture(scope="session")
def context_dataset(context_log: Any) -> "Dataset":
    """``context_log``, prepared, with all three columns declared."""
    from twotower.data import Dataset

    schema = {"events": {"device": "category", "hour": "number", "is_app": "flag"}}
    return Dataset.from_frames(context_log, schema=schema, settings={"k_core": 0})


@pytest.fixture(scope="session")
def small_variants() -> dict[str, Any]:
    """Every named variant, made small: 8 dimensions, 2 epochs, hashed text."""
    from twotower.workflow.variants import VARIANTS

    def narrow(fusion: Any) -> Any:
        return fusion.vary(hidden_dim=16) if fusion.kind == "concat_mlp" else fusion

    def small(variant: Any) -> Any:
        model = variant.model.model_copy(update={"embedding_dim": 8})
        if model.kind == "sequence":
            model = model.vary(
                history=model.history.vary(hidden_dim=8),
                index_dim=model.index_dim and 6,
                text_components=8,
                text_hidden_dim=16,
                factors=model.factors.vary(embedding_dim=4),
            )
        if model.kind == "two_tower":
            user, item = model.user_tower, model.item_tower
            history = user.history and user.history.vary(length=4, hidden_dim=8)
            model = model.vary(
                user_tower=user.vary(id_dim=8, history=history, fusion=narrow(user.fusion)),
                item_tower=item.vary(
                    id_dim=8,
                    text_dim=item.text_dim and 8,
                    image_dim=item.image_dim and 8,
                    fusion=narrow(item.fusion),
                ),
            )
        training = variant.training.vary(
            epochs=2,
            least_steps=0,
            batch_size=64,
            learning_rate=1e-2,
            warmup_steps=0,
            validate_steps=1,
        )
        negatives = variant.negatives
        if negatives.kind == "curriculum":  # one epoch a stage
            stages = [one.vary(from_epoch=epoch) for epoch, one in enumerate(negatives.stages)]
            negatives = negatives.vary(stages=stages)
        return variant.vary(
            model=model,
            training=training,
            negatives=negatives,
            sizing="fixed",
            text_encoder="hashing",
            image_encoder="thumbnail",
        )

    return {name: small(variant) for name, variant in VARIANTS.items()}


@pytest.fixture(scope="session")
def context_variant(small_variants: dict[str, Any]) -> Any:
    """A small v10 that reads all declared columns, trained until it knows ``context_dataset``."""
    small = small_variants["v10"]
    return small.vary(
        model=small.model.vary(columns="all", read_gaps=False, choose_factors=False),
        training=small.training.vary(epochs=30, validate_steps=5, patience=4),
    )


@pytest.fixture(scope="session")
def context_trained(context_dataset: "Dataset", context_variant: Any) -> Any:
    """``context_variant``, trained on ``context_dataset``, which has no texts."""
    import numpy as np

    from twotower.evaluation.protocols import validation_ndcg
    from twotower.training.fit import fit

    def validate(module: Any) -> float:
        return validation_ndcg(module.scorer(), context_dataset)

    text = np.zeros((len(context_dataset.items), 384), np.float32)
    return fit(context_variant, context_dataset, validate=validate, text=text)


@pytest.fixture(scope="session")
def block_teachers(blocks: "Dataset", small_variants: dict[str, Any]) -> dict[str, Any]:
    """What the small variants learn from: a small LightGCN of ``blocks``."""
    from twotower.training.fit import fit

    trained = fit(small_variants["lightgcn"], blocks, validate=lambda _: 1.0)
    return {"lightgcn": trained.module.scorer()}


@pytest.fixture(scope="session")
def bundle_of_blocks(
    blocks: "Dataset", small_variants: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle of the small v9, trained on ``blocks``; not to be changed."""
    from twotower import Recommender

    folder = tmp_path_factory.mktemp("bundle-of-blocks") / "bundle"
    return Recommender.fit(blocks, small_variants["v9"]).save(folder)


@pytest.fixture
def small_models(
    small_variants: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small variants under the names of the full ones, and a text cache of the test's own."""
    from twotower.workflow.variants import VARIANTS

    for name, variant in small_variants.items():
        monkeypatch.setitem(VARIANTS, name, variant)
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run cells of a study here: a process for each takes far longer than a small cell."""
    from twotower.data import Dataset
    from twotower.errors import TwoTowerError
    from twotower.study.ablation.cell import run_cell

    def run(
        cells: Any, needs: Any, out: Path, protocols: Any, *, jobs: int, reporter: Any
    ) -> dict[Any, str]:
        failures = {}
        for cell in cells:
            try:
                run_cell(cell, Dataset.load(out / "dataset"), out, protocols, reporter)
            except TwoTowerError as error:
                failures[cell] = str(error)
        return failures

    monkeypatch.setattr("twotower.study.ablation.study.run_cells", run)


@pytest.fixture(scope="session")
def shop(blocks: "Dataset", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``blocks`` as a stranger's folder, with 110 more items that nobody bought; all CSV."""
    import polars as pl

    from twotower.data import columns

    log, folder = blocks.interactions, tmp_path_factory.mktemp("source") / "shop"
    folder.mkdir()
    pl.DataFrame(
        {
            "user_id": [blocks.users.ids[user] for user in log.rows],
            "item_id": [blocks.items.ids[item] for item in log.items],
            "rating": log.ratings,
            "timestamp": log.timestamps,
        }
    ).write_csv(folder / "interactions.csv")
    chosen = (columns.ITEM_ID, columns.TITLE, columns.PRICE, columns.CATEGORY)
    unsold = pl.DataFrame({columns.ITEM_ID: [f"new{item}" for item in range(110)]})
    items = pl.concat([blocks.catalogue.select(chosen), unsold], how="diagonal")
    items.write_csv(folder / "items.csv")
    return folder


@pytest.fixture(scope="session")
def small_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled sample with a quarter of its users, where a test trains on it."""
    import polars as pl

    from twotower.data.sample import sample_folder

    folder = tmp_path_factory.mktemp("small") / "sample"
    folder.mkdir()
    log = pl.read_parquet(sample_folder() / "interactions.parquet")
    some = log["user_id"].unique(maintain_order=True)[::4]
    kept = log.filter(pl.col("user_id").is_in(some.implode()))
    kept.write_parquet(folder / "interactions.parquet")
    shutil.copy(sample_folder() / "items.parquet", folder)
    return folder
