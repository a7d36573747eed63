"""A bundle that is sealed and still wrong, as of a broken exporter, is refused or answers."""

import json
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import load_file, save_file

from twotower.bundle import BundleContents, save_bundle
from twotower.bundle.blend import Blend, ItemLinks
from twotower.bundle.manifest import ModelInfo, verify, write_manifest
from twotower.bundle.new_items import TextModel
from twotower.errors import ArtefactError, InputError
from twotower.service.snapshot import Snapshot
from twotower.service.state import Forgotten

NESTED = b"[" * 200_000


def text_model() -> TextModel:
    """Vectors of 384 ones for any text; the tokenizer knows three words."""
    nodes = [
        helper.make_node("Cast", ["mask"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["float"], ["one"], axes=[1], keepdims=1),
        helper.make_node("ConstantOfShape", ["width"], ["ones"],
                         value=helper.make_tensor("value", TensorProto.FLOAT, [1], [0.05])),
        helper.make_node("MatMul", ["one", "ones"], ["vector"]),
    ]  # fmt: skip
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "L"])
        for name in ("ids", "mask")
    ]
    output = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["B", 384])
    width = helper.make_tensor("width", TensorProto.INT64, [2], [1, 384])
    graph = helper.make_graph(nodes, "text", inputs, [output], [width])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1, "game": 2},
                  "unk_token": "[UNK]"},
    }  # fmt: skip
    return TextModel("toy", model.SerializeToString(), json.dumps(tokenizer).encode())


@pytest.fixture(scope="module")
def whole(
    open_contents: BundleContents, weights: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle with every optional part but comparison models."""
    items, text = open_contents.catalogue.height, open_contents.new_items.text
    links = ItemLinks(
        np.arange(items + 1),
        np.arange(items, dtype=np.int32)[::-1].copy(),
        np.ones(items, dtype=np.float32),
    )
    blend = Blend(
        weights=np.ones(7, dtype=np.float32),
        recency=0.5,
        transition_recency=0.5,
        text_recency=0.5,
        neighbours=links,
        transitions=links,
        text=text,
        popularity=np.ones(items, dtype=np.float32),
        trend=np.ones(items, dtype=np.float32),
    )
    contents = replace(
        open_contents,
        reranker=blend,
        new_items=replace(open_contents.new_items, text_model=text_model()),
    )
    folder = tmp_path_factory.mktemp("whole") / "bundle"
    save_bundle(folder, contents, weights)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "bundle")
    return tmp_path / "bundle"


def seal(folder: Path, **info: Any) -> None:
    """Describe the files as they are now; ``info`` is not validated."""
    fields = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").unlink()
    said = ModelInfo.model_construct(**{**ModelInfo(**fields["info"]).__dict__, **info})
    write_manifest(folder, said, fields["embedding_dim"])


def accepted(folder: Path) -> str | None:
    """None where the bundle is served, else why it is not, in one line."""
    why = None
    try:
        snapshot = Snapshot.of_bundle(folder, 1, 10, 1000, Forgotten(b"key"))
        snapshot.pipeline.recommend("user-03", ["item-41"], rerank=True)
    except ArtefactError as error:
        why = str(error)
    assert why is None or ("\n" not in why and len(why) < 1000)
    return why


def test_the_whole_bundle_is_served(folder: Path) -> None:
    assert accepted(folder) is None
    seal(folder)
    assert accepted(folder) is None


def arrays(name: str, **changes: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change arrays of a safetensors file."""

    def change(folder: Path) -> None:
        held = load_file(folder / name)
        for key, of in changes.items():
            held[key] = np.ascontiguousarray(of(held[key]))
        save_file(held, folder / name)

    return change


def table(name: str, **columns: pl.Expr) -> Callable[[Path], None]:
    return lambda folder: (
        pl.read_parquet(folder / name).with_columns(**columns).write_parquet(folder / name)
    )


def content(name: str, of: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(of((folder / name).read_bytes()))

    return change


def at(place: Any, value: Any) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array = array.copy()
        array[place] = value
        return array

    return change


def about(**changes: Any) -> Callable[[Any], Any]:
    return lambda array: np.frombuffer(
        json.dumps({**json.loads(array.tobytes()), **changes}).encode(), dtype=np.uint8
    )


def constant_tower(values: Any, inputs: dict[str, list[Any]]) -> bytes:
    """An ONNX model that gives the same vectors whatever it is asked."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["values"], ["vector"])],
        "constant",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, list(values.shape))],
        [onnx.numpy_helper.from_array(values.astype(np.float32), "values")],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def tokenizer(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda held: json.dumps({**json.loads(held), **changes}).encode()


USER, ITEM = {"user": ["B", 5]}, {"item": ["B", 5], "text": ["B", 384]}
NAN = float("nan")
WRONG = {
    "NaN in user_table": (
        arrays("user_tables.safetensors", user_table=at((3, 1), NAN)), "user_tables.safetensors"),
    "infinity in history_table": (
        arrays("user_tables.safetensors", history_table=at((3, 1), np.inf)),
        "user_tables.safetensors"),
    "user_table of one axis": (
        arrays("user_tables.safetensors", user_table=lambda a: a[:, 0]), "user_tables.safetensors"),
    "user_table too narrow": (
        arrays("user_tables.safetensors", user_table=lambda a: a[:, :4]), "user_tower.onnx"),
    "double vectors": (
        arrays("item_vectors.safetensors", item_vectors=lambda a: a.astype(np.float64)),
        "item_vectors.safetensors"),
    "NaN in item_vectors": (
        arrays("item_vectors.safetensors", item_vectors=at(0, NAN)), "item_vectors.safetensors"),
    "another embedding_dim": (
        arrays("item_vectors.safetensors", item_vectors=lambda a: a[:, :7]),
        "item_vectors.safetensors"),
    "NaN in features": (
        arrays("user_features.safetensors", mean=at(0, NAN)), "user_features.safetensors"),
    "features too narrow": (
        arrays("user_features.safetensors", item_table=lambda a: a[:, :3]),
        "user_features.safetensors"),
    "indptr falls": (arrays("histories.safetensors", indptr=at(3, 50)), "histories.safetensors"),
    "indptr begins late": (
        arrays("histories.safetensors", indptr=at(0, 1)), "histories.safetensors"),
    "indptr of fractions": (
        arrays("histories.safetensors", indptr=lambda a: a.astype(np.float32)),
        "histories.safetensors"),
    "an item that is not there": (
        arrays("histories.safetensors", items=at(3, 60)), "histories.safetensors"),
    "an item below 0": (
        arrays("histories.safetensors", items=at(3, -1)), "histories.safetensors"),
    "too few ratings": (
        arrays("histories.safetensors", ratings=lambda a: a[:-1]), "histories.safetensors"),
    "infinity in ratings": (  # NaN is a rating that is missing
        arrays("histories.safetensors", ratings=at(0, np.inf)), "histories.safetensors"),
    "times of two axes": (
        arrays("histories.safetensors", timestamps=lambda a: a[:, None]),
        "histories.safetensors"),
    "blend: indptr falls": (arrays("blend.safetensors", indptr=at(3, 9)), "blend.safetensors"),
    "blend: a neighbour that is not there": (
        arrays("blend.safetensors", neighbours=at(0, 60)), "blend.safetensors"),
    "blend: weights": (arrays("blend.safetensors", weights=at(0, NAN)), "blend.safetensors"),
    "blend: short text": (
        arrays("blend.safetensors", text=lambda a: a[:-1]), "blend.safetensors"),
    "unknown_id too long": (
        arrays("item_encoder.safetensors", unknown_id=lambda a: np.tile(a, 2)), "item_tower.onnx"),
    "releases fall": (
        arrays("item_encoder.safetensors", releases=lambda a: np.array([2.0, 1.0])),
        "item_encoder.safetensors"),
    "text fields of another release": (
        arrays("item_encoder.safetensors", text=about(fields="all")), "item_encoder.safetensors"),
    "nothing about the text": (
        arrays("item_encoder.safetensors", text=lambda a: np.frombuffer(b"{}", np.uint8)),
        "item_encoder.safetensors"),
    "deep nesting about the text": (
        arrays("item_encoder.safetensors", text=lambda a: np.frombuffer(NESTED, np.uint8)),
        "item_encoder.safetensors"),
    "history_projection too wide": (
        arrays("item_encoder.safetensors", history_projection=lambda a: np.hstack([a, a])),
        "history of 2 new items must have 4 columns"),
    "NaN in item_text": (arrays("item_text.safetensors", text=at(0, NAN)), "item_text.safetensors"),
    "item_text too narrow": (
        arrays("item_text.safetensors", text=lambda a: a[:, :300]), "history_projection must have"),
    "two items of one id": (
        table("catalogue.parquet", item_id=pl.lit("item-01")), "catalogue.parquet"),
    "ids are numbers": (
        table("catalogue.parquet", item_id=pl.int_range(pl.len())), "catalogue.parquet"),
    "prices are text": (table("catalogue.parquet", price=pl.lit("cheap")), "catalogue.parquet"),
    "titles are lists": (
        table("catalogue.parquet", title=pl.concat_list("title")), "catalogue.parquet"),
    "a user is null": (table("users.parquet", user_id=pl.lit(None)), "users.parquet"),
    "no user_id": (
        lambda folder: pl.DataFrame({"id": ["a"]}).write_parquet(folder / "users.parquet"),
        "users.parquet"),
    "index.json nested": (content("index.json", lambda _: NESTED), "index.json"),
    "index.json is a list": (content("index.json", lambda _: b"[]"), "index.json"),
    "a huge index": (
        content("index.npy", lambda held: held.replace(b"(60, 8), ", b"(9999999999999, 8), ", 1)),
        "index.npy"),
    "NaN in the index": (
        lambda folder: np.save(folder / "index.npy", np.full((60, 8), NAN, np.float32)),
        "index.npy"),
    "a user tower of NaN": (
        content("user_tower.onnx", lambda _: constant_tower(np.full((1, 8), NAN), USER)),
        "user_tower.onnx"),
    "a user tower for one user": (
        content("user_tower.onnx", lambda _: constant_tower(np.ones((1, 8)), USER)),
        "user_tower.onnx"),
    "a user tower for other tables": (
        content("user_tower.onnx", lambda _: constant_tower(np.ones((1, 8)), {"x": ["B", 5]})),
        "user_tower.onnx"),
    "an item tower that is none": (content("item_tower.onnx", lambda _: b"x"), "item_tower.onnx"),
    "an item tower of other inputs": (
        content("item_tower.onnx", lambda _: constant_tower(np.ones((2, 8)), {"x": ["B", 5]})),
        "item_tower.onnx"),
    "an item tower too wide": (
        content("item_tower.onnx", lambda _: constant_tower(np.ones((2, 9)), ITEM)),
        "vectors of 2 new items must have 8 columns"),
    "an item tower of NaN": (
        content("item_tower.onnx", lambda _: constant_tower(np.full((2, 8), NAN), ITEM)),
        "vectors of a new item is not finite"),
    "the user tower as item tower": (
        lambda folder: shutil.copy(folder / "user_tower.onnx", folder / "item_tower.onnx"),
        "item_tower.onnx"),
    "a text model that is none": (content("text_model.onnx", lambda _: b"x"), "text_model.onnx"),
    "a tokenizer that is none": (
        content("text_tokenizer.json", lambda _: b"{}"), "text_tokenizer.json"),
    "a tokenizer that is nested": (
        content("text_tokenizer.json", lambda _: NESTED), "text_tokenizer.json"),
    "a tokenizer that panics": (
        content("text_tokenizer.json", tokenizer(
            pre_tokenizer={"type": "FixedLength", "length": 0})), "text_tokenizer.json"),
    "the manifest is nested": (content("manifest.json", lambda _: NESTED), "manifest.json"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(folder: Path, case: str) -> None:
    change, named = WRONG[case]
    change(folder)
    if "manifest" not in case:
        seal(folder)
    why = accepted(folder)
    assert why is not None
    assert named in why


@pytest.mark.parametrize("length", [10**9, -1])
def test_a_history_length_that_no_tower_reads(folder: Path, length: int) -> None:
    seal(folder, history_length=length)
    why = accepted(folder)
    assert why is not None
    assert "manifest.json" in why
    assert "history_length" in why


@pytest.mark.parametrize("name", sorted({
    "blend.safetensors", "catalogue.parquet", "histories.safetensors", "index.json", "index.npy",
    "item_encoder.safetensors", "item_text.safetensors", "item_tower.onnx",
    "item_vectors.safetensors", "text_model.onnx", "text_tokenizer.json",
    "user_features.safetensors", "user_tables.safetensors", "user_tower.onnx", "users.parquet",
}))  # fmt: skip
def test_any_damage_is_refused_or_served(folder: Path, name: str) -> None:
    draw = random.Random(name)
    path = folder / name
    held = path.read_bytes()
    others = [one.read_bytes() for one in sorted(folder.iterdir()) if one.name != name]
    damaged = [b"", b"\0" * 64, NESTED, held[: len(held) // 2], draw.choice(others)]
    for _ in range(12):
        flipped = bytearray(held)
        for _ in range(draw.choice((1, 3, 20))):
            # The heads of these formats say what the rest is.
            place = draw.randrange(draw.choice((min(200, len(held)), len(held))))
            flipped[place] ^= 1 << draw.randrange(8)
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        seal(folder)
        with suppress(InputError):  # of a request: the damage may be to an id
            accepted(folder)


def test_every_file_is_damaged_above(whole: Path) -> None:
    manifest = verify(whole, ())
    assert len(manifest.files) == 16  # those above, and the weights, which serving does not read
