import io
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from twotower.bundle import load_bundle
from twotower.demo.source import find_bundle, version_of
from twotower.errors import ArtefactError, DownloadError, InputError


class Quiet(SimpleHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


class Site:
    """A folder on a server, and which paths were asked for."""

    def __init__(self, folder: Path, address: str, asked: list[str]) -> None:
        self.folder, self.address, self.asked = folder, address, asked


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    asked: list[str] = []
    handler = partial(type("Bound", (Quiet,), {"asked": asked}), directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Site(folder, f"http://127.0.0.1:{server.server_port}", asked)
        server.shutdown()
        thread.join()


def zipped(bundle: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path in bundle.iterdir():
            archive.write(path, f"bundle/{path.name}")


def tarred(bundle: Path, target: Path) -> None:
    with tarfile.open(target, "w:gz") as archive:
        archive.add(bundle, "bundle")


def test_a_folder_is_used_as_it_is(bundle_folder: Path) -> None:
    assert find_bundle(str(bundle_folder)) == bundle_folder


@pytest.mark.parametrize(("name", "pack"), [("b.zip", zipped), ("b.tar.gz", tarred)])
def test_an_archive_is_fetched_once(bundle_folder, tmp_path, site, name, pack) -> None:
    pack(bundle_folder, site.folder / name)
    folder = find_bundle(f"{site.address}/{name}", tmp_path / "cache")
    assert load_bundle(folder).manifest == load_bundle(bundle_folder).manifest
    assert find_bundle(f"{site.address}/{name}", tmp_path / "cache") == folder
    assert site.asked == [f"/{name}"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]


def test_a_manifest_leads_to_its_files(bundle_folder, tmp_path, site) -> None:
    shutil.copytree(bundle_folder, site.folder / "b")
    folder = find_bundle(f"{site.address}/b/manifest.json", tmp_path / "cache")
    assert load_bundle(folder).manifest == load_bundle(bundle_folder).manifest
    assert len(site.asked) == len(list(bundle_folder.iterdir()))


def test_incomplete_downloads_are_not_kept(bundle_folder, tmp_path, site) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bundle_folder, broken)
    vectors = broken / "item_vectors.safetensors"
    vectors.write_bytes(vectors.read_bytes()[:-4] + b"oops")
    tarred(broken, site.folder / "b.tar.gz")
    with pytest.raises(ArtefactError, match="item_vectors"):
        find_bundle(f"{site.address}/b.tar.gz", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    shutil.copytree(broken, site.folder / "b")
    with pytest.raises(DownloadError, match="expected"):
        find_bundle(f"{site.address}/b/manifest.json", tmp_path / "cache")


def test_an_archive_cannot_write_elsewhere(bundle_folder, tmp_path, site) -> None:
    with tarfile.open(site.folder / "b.tar", "w") as archive:
        entry = tarfile.TarInfo("../../outside.txt")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    with pytest.raises(ArtefactError, match="missing"):
        find_bundle(f"{site.address}/b.tar", tmp_path / "cache")
    assert not list(tmp_path.rglob("outside.txt"))


def test_a_file_that_is_no_archive_is_refused(tmp_path, site) -> None:
    (site.folder / "b.zip").write_text("not a zip")
    with pytest.raises(ArtefactError, match="not an archive that can be read"):
        find_bundle(f"{site.address}/b.zip", tmp_path / "cache")


def test_other_addresses_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="neither a manifest nor an archive"):
        find_bundle("http://127.0.0.1:9/page.html", tmp_path)


def test_versions(bundle_folder: Path, tmp_path: Path) -> None:
    assert version_of(bundle_folder) == load_bundle(bundle_folder).manifest.model_version
    with pytest.raises(ArtefactError, match="is not a bundle"):
        version_of(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ArtefactError, match="is not a readable bundle"):
        version_of(tmp_path)
    (tmp_path / "manifest.json").write_text('{"fingerprint": "x"}')
    with pytest.raises(ArtefactError, match="is a prepared data set, not a bundle; train a model"):
        version_of(tmp_path)
