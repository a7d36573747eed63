import json

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from twotower.errors import ArtefactError, InputError
from twotower.index import (
    ExactConfig,
    HnswConfig,
    IndexConfig,
    IvfConfig,
    PqConfig,
    build_index,
    load_index,
    named_index,
    save_index,
)
from twotower.index.build import NAMED

FILES = {
    "exact": "index.npy",
    "flat": "index.faiss",
    "hnsw": "index.faiss",
    "ivf": "index.faiss",
    "pq": "index.faiss",
}


@pytest.fixture
def folder(config, vectors, tmp_path):
    save_index(build_index(vectors[:200], config), tmp_path)
    return tmp_path


def test_config_is_read_by_its_kind(config):
    adapter = TypeAdapter(IndexConfig)
    assert adapter.validate_json(adapter.dump_json(config)) == config


def test_config_refuses_unknown_names_and_kinds():
    with pytest.raises(InputError, match="unknown key"):
        HnswConfig(neighbours=3)
    with pytest.raises(ValidationError, match="unknown index 'annoy'; pass one of exact, flat, "):
        TypeAdapter(IndexConfig).validate_python({"kind": "annoy"})


def test_ivf_probes_at_most_its_cells(vectors):
    with pytest.raises(InputError, match="probes must be at most cells 8, got 9"):
        IvfConfig(cells=8, probes=9)
    with pytest.raises(InputError, match="cells must be at most the number of items 5, got 6"):
        build_index(vectors[:5], IvfConfig(cells=6, probes=2))


def test_more_probes_find_more(vectors, queries):
    true = build_index(vectors, IvfConfig(cells=50, probes=50)).search(queries, 10)[1]
    few = build_index(vectors, IvfConfig(cells=50, probes=1, reach=0)).search(queries, 10)[1]
    assert (few == true).mean() < 0.95


def test_ivf_visits_more_cells_for_a_large_k(vectors, queries):
    index = build_index(vectors, IvfConfig(cells=50, probes=1, reach=2))
    blind = IvfConfig(cells=50, probes=1, reach=0).retuned(index)
    assert (blind.search(queries, 500)[1] == -1).any()
    assert (index.search(queries, 500)[1] >= 0).all()


@pytest.mark.parametrize("sub_dim", [1, 7, 24, 25])
def test_pq_codes_of_any_number_of_dimensions(vectors, queries, sub_dim):
    config = PqConfig(sub_dim=sub_dim, least_scored=2000)
    true = build_index(vectors, ExactConfig()).search(queries, 10)
    found = build_index(vectors, config).search(queries, 10)
    np.testing.assert_array_equal(found[1], true[1])
    np.testing.assert_allclose(found[0], true[0], atol=1e-5)


def test_pq_lets_large_and_small_dimensions_share_a_code(vectors, queries):
    sizes = np.r_[np.full(12, 1.0), np.full(12, 0.05)].astype(np.float32)  # large ones first
    sized = vectors * sizes
    true = build_index(sized, ExactConfig()).search(queries, 10)[1]
    found = build_index(sized, PqConfig(least_scored=10, scored=1)).search(queries, 10)[1]
    # Coded beside each other, two large ones would have four values each in place of sixteen.
    assert np.mean([np.isin(f, t).mean() for f, t in zip(found, true, strict=True)]) > 0.65


def test_pq_recall_rises_with_the_items_scored(vectors, queries):
    true = build_index(vectors, ExactConfig()).search(queries, 10)[1]
    shares = []
    for least in (10, 40, 2000):
        config = PqConfig(sub_dim=4, scored=1, least_scored=least)
        found = build_index(vectors, config).search(queries, 10)[1]
        shares.append(np.mean([np.isin(f, t).mean() for f, t in zip(found, true, strict=True)]))
    assert shares == sorted(shares)
    assert shares[0] < 0.9 < shares[2] == 1.0


def test_pq_scans_more_cells_for_more_probes_and_a_large_k(vectors, queries):
    true = build_index(vectors, ExactConfig()).search(queries, 10)[1]
    shares = []
    for probes in (1, 50):
        config = PqConfig(cells=50, probes=probes, scored=1, least_scored=10)
        found = build_index(vectors, config).search(queries, 10)[1]
        shares.append(np.mean([np.isin(f, t).mean() for f, t in zip(found, true, strict=True)]))
    assert shares[0] < shares[1]
    few = build_index(vectors, PqConfig(cells=50, probes=1))
    assert (few.search(queries, 500)[1] >= 0).all()
    with pytest.raises(InputError, match="cells must be at most the number of items 5, got 6"):
        build_index(vectors[:5], PqConfig(cells=6))


def test_pq_divides_a_large_catalogue_into_cells(vectors, queries, tmp_path, monkeypatch):
    monkeypatch.setattr("twotower.index.pq.LARGE", 1000)
    index = build_index(vectors, PqConfig())
    save_index(index, tmp_path)
    read = load_index(tmp_path)
    np.testing.assert_array_equal(read.search(queries, 10)[1], index.search(queries, 10)[1])
    whole = build_index(vectors, PqConfig(cells=0))
    assert index.nbytes > whole.nbytes - len(vectors) * vectors.shape[1] // 8  # coarser codes
    assert index.extended(vectors[:3]).size == len(vectors) + 3


def test_pq_holds_items_that_are_all_alike(vectors, queries):
    scores, items = build_index(np.repeat(vectors[:1], 3, axis=0), PqConfig()).search(queries, 3)
    assert sorted(items[0]) == [0, 1, 2]
    np.testing.assert_allclose(scores[:, 0], queries @ vectors[0], atol=1e-6)


def test_names(vectors):
    assert all(named_index(name) == config for name, config in NAMED.items())
    with pytest.raises(InputError, match=r"unknown kind of index 'annoy'; choose from exact, flat"):
        named_index("annoy")


def test_hnsw_keeps_its_recall_beyond_ef_search(vectors, queries):
    narrow = build_index(vectors, HnswConfig(ef_search=4)).search(queries, 60)
    wide = build_index(vectors, HnswConfig(ef_search=60)).search(queries, 60)
    np.testing.assert_array_equal(narrow[1], wide[1])


def test_hnsw_seed_draws_the_graph(vectors, tmp_path):
    for seed in (1, 2):
        config = HnswConfig(links=8, seed=seed)
        save_index(build_index(vectors, config), tmp_path / f"{seed}")
        save_index(build_index(vectors, config), tmp_path / f"{seed}-again")
    first, second = ((tmp_path / name / "index.faiss").read_bytes() for name in ("1", "2"))
    assert first == (tmp_path / "1-again" / "index.faiss").read_bytes()
    assert first != second


@pytest.mark.parametrize("name", ["index.json", "data"])
@pytest.mark.parametrize("fault", ["missing", "truncated", "empty"])
def test_refuses_a_broken_file(folder, config, name, fault):
    path = folder / (FILES[config.kind] if name == "data" else name)
    content = path.read_bytes()
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if fault == "truncated" else b"")
    with pytest.raises(ArtefactError, match=r"holds no readable index .*; build it again"):
        load_index(folder)


def test_refuses_files_of_two_indexes(folder, config, vectors, tmp_path):
    other = tmp_path / "other"
    save_index(build_index(vectors[:100], config), other)
    (other / FILES[config.kind]).rename(folder / FILES[config.kind])
    with pytest.raises(ArtefactError, match=r"names 200 items .* has 100 of 24; build it again"):
        load_index(folder)


def test_refuses_an_approximate_index_that_claims_to_be_exact(vectors, tmp_path):
    save_index(build_index(vectors[:200], HnswConfig()), tmp_path)
    about = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**about, "config": {"kind": "flat"}}))
    with pytest.raises(ArtefactError, match="must hold IndexFlatIP by inner product, got IndexHN"):
        load_index(tmp_path)
