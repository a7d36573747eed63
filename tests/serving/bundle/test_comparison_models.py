from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from twotower.bundle import ComparisonModel, load_bundle, save_bundle
from twotower.bundle.comparison_models import from_arrays, to_arrays
from twotower.bundle.manifest import write_manifest
from twotower.bundle.storage import COMPARISON_MODELS
from twotower.errors import ArtefactError, InputError
from twotower.inference import Pipeline

ITEMS = np.asarray([[1, 0], [0, 2], [3, 3]], dtype=np.float32)
NOW = np.asarray([[1, 1], [0, 1]], dtype=np.float32)
BEFORE = np.asarray([[1, 0], [0, 0]], dtype=np.float32)


@pytest.fixture
def comparison_models(contents):
    rng = np.random.default_rng(1)

    def made(dim):
        rows = (len(contents.items), len(contents.users), len(contents.users))
        return ComparisonModel(*(rng.normal(size=(n, dim)).astype(np.float32) for n in rows))

    return {"mf": made(3), "light/gcn": made(5)}


def test_scores_are_inner_products_now_and_earlier() -> None:
    model = ComparisonModel(ITEMS, NOW, BEFORE)
    assert model.scores(0, earlier=False).tolist() == [1, 2, 6]
    assert model.scores(0, earlier=True).tolist() == [1, 0, 3]


@pytest.mark.parametrize("field", ["item_vectors", "user_vectors", "earlier_vectors"])
def test_vectors_of_others_are_refused(field: str) -> None:
    model = ComparisonModel(ITEMS, NOW, BEFORE)
    model.check("mf", users=2, items=3)
    wrong = replace(model, **{field: np.zeros((9, 2), dtype=np.float32)})
    with pytest.raises(
        InputError, match=rf"{field} of comparison model 'mf' must be \(., 2\), got \(9, 2\)"
    ):
        wrong.check("mf", users=2, items=3)


def test_a_bundle_keeps_them_apart_from_what_serves(
    contents, weights, comparison_models, tmp_path
) -> None:
    with_models = save_bundle(tmp_path / "with", contents, weights, comparison_models)
    without = save_bundle(tmp_path / "without", contents, weights)
    assert with_models.files.keys() - without.files.keys() == {COMPARISON_MODELS}
    loaded = load_bundle(tmp_path / "with")
    assert list(loaded.comparison_models()) == ["light/gcn", "mf"]
    for name, model in loaded.comparison_models().items():
        for field, array in vars(model).items():
            np.testing.assert_allclose(
                array, vars(comparison_models[name])[field], rtol=1e-3, atol=1e-4
            )
    assert load_bundle(tmp_path / "without").comparison_models() == {}


def test_serving_does_not_read_them(
    contents, weights, comparison_models, tmp_path, monkeypatch
) -> None:
    save_bundle(tmp_path / "bundle", contents, weights, comparison_models)
    read = []
    monkeypatch.setattr(
        "twotower.bundle.storage.read_arrays",
        lambda path, **_: read.append(path.name) or load_file(path),
    )
    Pipeline.load(tmp_path / "bundle")
    assert read
    assert COMPARISON_MODELS not in read


def test_what_makes_no_difference_is_not_saved_twice(comparison_models) -> None:
    same = replace(comparison_models["mf"], earlier_vectors=comparison_models["mf"].user_vectors)
    arrays = to_arrays({"mf": same})
    assert sorted(arrays) == ["mf/item_vectors", "mf/user_vectors"]
    assert {array.dtype.name for array in arrays.values()} == {"float16"}
    (loaded,) = from_arrays(arrays).values()
    np.testing.assert_array_equal(loaded.earlier_vectors, loaded.user_vectors)


def test_models_of_another_bundle_are_not_saved(
    contents, weights, comparison_models, tmp_path
) -> None:
    short = replace(comparison_models["mf"], user_vectors=comparison_models["mf"].user_vectors[:-1])
    with pytest.raises(InputError, match="user_vectors of comparison model 'mf'"):
        save_bundle(tmp_path / "bundle", contents, weights, {"mf": short})
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("lost", ["mf/item_vectors", "mf/user_vectors"])
def test_a_file_that_was_written_wrong_is_named(
    contents, weights, comparison_models, tmp_path, lost
) -> None:
    folder = tmp_path / "bundle"
    manifest = save_bundle(folder, contents, weights, comparison_models)
    arrays = load_file(folder / COMPARISON_MODELS)
    del arrays[lost]
    save_file(arrays, folder / COMPARISON_MODELS)
    (folder / "manifest.json").unlink()
    write_manifest(folder, manifest.info, manifest.embedding_dim)
    with pytest.raises(ArtefactError, match=r"peers\.safetensors cannot be read"):
        load_bundle(folder).comparison_models()
