import hashlib
import json

import pytest

from twotower.bundle.manifest import EpochInfo, ModelInfo, TrainingInfo, verify, write_manifest
from twotower.errors import ArtefactError, InputError


@pytest.fixture
def info():
    return ModelInfo(
        model="v1", config={}, dataset="toy", dataset_fingerprint="0", history_length=0
    )


@pytest.fixture
def folder(info, tmp_path):
    (tmp_path / "users.parquet").write_bytes(b"abc")
    write_manifest(tmp_path, info, 4)
    return tmp_path


def edit(folder, **changes):
    """Change the manifest and seal it again."""
    path = folder / "manifest.json"
    fields = {**json.loads(path.read_text()), **changes}
    del fields["sha256"]
    seal = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**fields, "sha256": seal}))


def test_records_size_and_sha256(folder):
    manifest = verify(folder, ["users.parquet"])
    assert manifest.files["users.parquet"].bytes == 3
    assert manifest.files["users.parquet"].sha256 == hashlib.sha256(b"abc").hexdigest()
    assert manifest.created.tzinfo is not None


def test_how_long_a_training_took_does_not_change_the_version(info, tmp_path):
    (tmp_path / "users.parquet").write_bytes(b"abc")
    trained = [
        TrainingInfo(epochs=(EpochInfo(loss=1, seconds=seconds),), ended="epochs")
        for seconds in (1, 2)
    ]
    versions = []
    for training in trained:
        written = write_manifest(tmp_path, info.vary(training=training), 4)
        (tmp_path / "manifest.json").unlink()
        versions.append(written.model_version)
        assert written.info.training == training
    assert versions[0] == versions[1]


def test_refuses_another_schema_version(folder):
    edit(folder, schema_version=3, invented=1)
    with pytest.raises(
        ArtefactError, match=r"manifest\.json has schema version 3, this release reads 2; save"
    ):
        verify(folder, [])


def test_refuses_a_changed_value(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"toy"', '"tov"'))
    with pytest.raises(ArtefactError, match=r"manifest\.json does not match its own sha256"):
        verify(folder, [])


def test_refuses_a_required_file_that_is_not_listed(folder):
    with pytest.raises(ArtefactError, match=r"manifest\.json does not list item_vectors"):
        verify(folder, ["item_vectors.safetensors"])


@pytest.mark.parametrize("name", ["../users.parquet", "/etc/passwd.txt", "a/b.json"])
def test_refuses_a_name_that_leads_out_of_the_folder(folder, name):
    edit(folder, files={name: {"bytes": 3, "sha256": "0" * 64}})
    with pytest.raises(ArtefactError, match=r"manifest\.json is not a bundle's manifest"):
        verify(folder, [])


@pytest.mark.parametrize("text", ["", "[]", "null", '"x"', "{}", '{"schema_version": 2}'])
def test_refuses_what_is_no_manifest(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ArtefactError, match=r"manifest\.json is not a bundle's manifest"):
        verify(folder, [])


def test_metrics_must_be_numbers(info):
    with pytest.raises(InputError, match="finite number"):
        info.vary(metrics={"NDCG@10": float("nan")})
