import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from twotower.bundle import RerankVectors, load_bundle, save_bundle
from twotower.bundle import storage as bundle_module
from twotower.bundle.manifest import verify, write_manifest
from twotower.errors import ArtefactError, InputError
from twotower.index import FlatConfig, HnswConfig, build_index
from twotower.inference import Pipeline

FILES = (
    "catalogue.parquet",
    "histories.safetensors",
    "index.json",
    "index.npy",
    "item_vectors.safetensors",
    "manifest.json",
    "reranker.safetensors",
    "towers.safetensors",
    "user_features.safetensors",
    "user_tables.safetensors",
    "user_tower.onnx",
    "users.parquet",
)


def assert_same_histories(ours, theirs):
    for name in ("indptr", "items", "ratings", "timestamps"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_holds_exactly_the_documented_files(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_files_are_as_readable_as_any_other(folder):
    (folder.parent / "any").write_text("")
    usual = (folder.parent / "any").stat().st_mode & 0o777
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {usual}


def test_loads_what_was_saved(folder, contents, weights):
    bundle = load_bundle(folder)
    loaded = bundle.contents
    assert bundle.manifest.info == loaded.info == contents.info
    assert bundle.manifest.embedding_dim == 8
    assert loaded.user_tower == contents.user_tower
    for name in ("user_table", "history_table", "item_vectors"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(contents, name))
    assert loaded.users == contents.users
    assert loaded.items.ids == tuple(contents.catalogue["item_id"])
    assert loaded.catalogue.equals(contents.catalogue)
    assert_same_histories(loaded.histories, contents.histories)
    for name, array in contents.user_features.to_arrays().items():
        np.testing.assert_array_equal(loaded.user_features.to_arrays()[name], array)
    for name, array in vars(contents.reranker).items():
        np.testing.assert_array_equal(vars(loaded.reranker)[name], array)
    assert loaded.index.config == contents.index.config
    found, expected = (one.index.search(contents.item_vectors, 5) for one in (loaded, contents))
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(
        bundle.weights()["item_tower.weight"], weights["item_tower.weight"]
    )


def test_optional_parts_may_be_absent(contents, weights, tmp_path):
    histories = replace(contents.histories, ratings=None, timestamps=None)
    info = contents.info.vary(history_length=0)
    bare = replace(contents, info=info, history_table=None, histories=histories, reranker=None)
    save_bundle(tmp_path / "bare", bare, weights)
    loaded = load_bundle(tmp_path / "bare").contents
    assert loaded.history_table is None
    assert loaded.reranker is None
    assert_same_histories(loaded.histories, histories)


def test_a_missing_rating_is_nan_and_an_infinite_one_is_refused(contents, weights, tmp_path):
    log = contents.histories
    ratings = log.ratings.copy()
    ratings[0] = np.nan
    missing = replace(contents, histories=replace(log, ratings=ratings))
    save_bundle(tmp_path / "missing", missing, weights)
    assert_same_histories(load_bundle(tmp_path / "missing").contents.histories, missing.histories)
    ratings[1] = np.inf
    save_bundle(tmp_path / "infinite", missing, weights)
    with pytest.raises(ArtefactError, match="ratings holds NaN or infinity"):
        load_bundle(tmp_path / "infinite")


def test_arrays_of_any_layout_are_saved_right(contents, tmp_path):
    transposed = np.arange(6, dtype=np.float32).reshape(2, 3).T
    save_bundle(tmp_path / "b", contents, {"w": transposed})
    np.testing.assert_array_equal(load_bundle(tmp_path / "b").weights()["w"], transposed)


def test_version_follows_the_content(folder, contents, weights, tmp_path):
    version = load_bundle(folder).manifest.model_version
    assert version.startswith("v5-")
    assert save_bundle(tmp_path / "again", contents, weights).model_version == version
    changed = {name: array + 1 for name, array in weights.items()}
    assert save_bundle(tmp_path / "other", contents, changed).model_version != version
    other = replace(contents, info=contents.info.vary(metrics={"NDCG@10": 0.5}))
    assert save_bundle(tmp_path / "third", other, weights).model_version != version


@pytest.mark.parametrize("name", FILES)
def test_refuses_a_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(ArtefactError, match=rf"{name} is missing.*save the bundle again"):
        load_bundle(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 0.5])
def test_refuses_a_truncated_file(folder, name, kept):
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ArtefactError, match=rf"{name} (has .* truncated|is not a bundle's man)"):
        load_bundle(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.01, 0.3, 0.6, 0.99])
def test_refuses_one_flipped_byte(folder, name, place):
    path = folder / name
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    reasons = "is corrupt|is not a bundle's manifest|does not match its own sha256"
    with pytest.raises(ArtefactError, match=rf"{name} .*({reasons})"):
        load_bundle(folder)


@pytest.fixture
def other(contents, weights, tmp_path):
    """A bundle of the same shapes, every file different."""
    features = contents.user_features
    changed = replace(
        contents,
        info=contents.info.vary(model="v6"),
        user_tower=contents.user_tower[:-1] + bytes([contents.user_tower[-1] ^ 1]),
        user_table=contents.user_table + 1,
        user_features=replace(features, end=features.end + 1),
        item_vectors=contents.item_vectors + 1,
        users=type(contents.users)([f"user+{user:02}" for user in range(12)], "user"),
        catalogue=contents.catalogue.with_columns(title=contents.catalogue["title"] + "!"),
        histories=replace(contents.histories, ratings=contents.histories.ratings + 1),
        index=build_index(contents.item_vectors + 1, contents.index.config),
        reranker=RerankVectors(contents.reranker.user_vectors + 1, contents.reranker.item_vectors),
    )
    save_bundle(tmp_path / "other", changed, {n: array + 1 for n, array in weights.items()})
    return tmp_path / "other"


@pytest.mark.parametrize("name", [name for name in FILES if name != "index.json"])
def test_refuses_a_file_of_another_bundle(folder, other, name):
    shutil.copy(other / name, folder / name)
    # Another bundle's manifest contradicts the first file that it is compared with.
    named = "catalogue.parquet" if name == "manifest.json" else name
    with pytest.raises(ArtefactError, match=rf"{named} .*from another bundle"):
        load_bundle(folder)


def test_refuses_an_index_description_of_another_bundle(folder, contents, weights, tmp_path):
    hnsw = replace(contents, index=build_index(contents.item_vectors, HnswConfig()))
    save_bundle(tmp_path / "hnsw", hnsw, weights)
    shutil.copy(tmp_path / "hnsw" / "index.json", folder / "index.json")
    with pytest.raises(ArtefactError, match=r"index\.json .*from another bundle"):
        load_bundle(folder)


def test_an_unlisted_file_is_ignored(folder):
    (folder / "notes.txt").write_text("trained on a Tuesday")
    (folder / "index.faiss").write_bytes(b"not an index")
    load_bundle(folder)


def test_refuses_what_is_no_folder(tmp_path):
    with pytest.raises(ArtefactError, match=r"nowhere is not a readable bundle: it is not there; "):
        load_bundle(tmp_path / "nowhere")


def rewrite(folder, name, change):
    """Change a file and seal the manifest over it, as a broken exporter would."""
    manifest = verify(folder, ())
    arrays = load_file(folder / name)
    change(arrays)
    save_file(arrays, folder / name)
    (folder / "manifest.json").unlink()
    write_manifest(folder, manifest.info, manifest.embedding_dim)


def test_refuses_a_sealed_file_without_its_array(folder):
    rewrite(folder, "item_vectors.safetensors", lambda arrays: arrays.pop("item_vectors"))
    with pytest.raises(ArtefactError, match=r"item_vectors\.safetensors cannot be read"):
        load_bundle(folder)


def test_refuses_sealed_files_that_do_not_fit(folder):
    def drop_a_user(arrays):
        arrays["user_table"] = arrays["user_table"][:-1].copy()

    rewrite(folder, "user_tables.safetensors", drop_a_user)
    with pytest.raises(ArtefactError, match="does not fit together: user_table must have 13 rows"):
        load_bundle(folder)


def test_interrupted_save_leaves_the_old_bundle(folder, contents, weights, monkeypatch):
    version = load_bundle(folder).manifest.model_version

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(bundle_module, "write_manifest", full)
    with pytest.raises(OSError, match="No space left"):
        save_bundle(folder, contents, {name: array + 1 for name, array in weights.items()})
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]
    assert load_bundle(folder).manifest.model_version == version


def test_interrupted_first_save_leaves_nothing(contents, weights, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle_module, "save_index", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_bundle(tmp_path / "bundle", contents, weights)
    assert list(tmp_path.iterdir()) == []


def test_saving_again_replaces_all_of_it(folder, contents, weights):
    flat = replace(contents, index=build_index(contents.item_vectors, FlatConfig()), reranker=None)
    save_bundle(folder, flat, weights)
    assert not (folder / "index.npy").exists()
    assert not (folder / "reranker.safetensors").exists()
    assert Pipeline.load(folder).recommend("user-00")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"user_table": c.user_table[1:]}, "user_table must have 13 rows .* got 12"),
        (lambda c: {"item_vectors": c.item_vectors[1:]}, "item_vectors must have 60 rows"),
        (lambda c: {"history_table": c.history_table[1:]}, "history_table must have 61 rows"),
        (lambda c: {"histories": c.histories.select([0])}, "histories must have 12 rows"),
        (lambda c: {"item_vectors": c.item_vectors[:, 1:]}, "index must have .* dim 7, got 8"),
        (lambda c: {"history_table": None}, "history_length is 6, but history_table is absent"),
        (lambda c: {"catalogue": c.catalogue.drop("title")}, r"must have the columns \['title'\]"),
        (
            lambda c: {"histories": replace(c.histories, items=c.histories.items + 30)},
            r"items of the histories must be from 0 to 59, got 30 to 8\d",
        ),
        (
            lambda c: {"reranker": RerankVectors(c.item_vectors, c.item_vectors)},
            "reranker user_vectors must have 12 rows",
        ),
    ],
)
def test_contents_must_fit_together(contents, change, message):
    with pytest.raises(InputError, match=message):
        replace(contents, **change(contents))
