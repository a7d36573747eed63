"""The documents point to what exists: files, headings, make targets, pinned releases."""

import os
import re
import subprocess
import sys
import tomllib
import warnings
from functools import partial
from pathlib import Path

import pytest

from twotower import __version__

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(document: Path) -> set[str]:
    """Heading anchors as code hosts make them: lower case, spaces to dashes, no punctuation."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", document.read_text())):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        linked = document.parent / path if path else document
        found = linked.exists() and (not anchor or anchor in anchors(linked))
        if not found:
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z]+)", document.read_text(), re.MULTILINE)
    assert set(named) <= targets


def test_every_direct_dependency_is_pinned() -> None:
    def normal(requirement: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[\[=<>~ ;]", requirement)[0]).lower()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {normal(r) for r in project["dependencies"]}
    for extra in project["optional-dependencies"].values():
        needed |= {normal(r) for r in extra}
    pins = re.findall(r"^([^#\s=]+)==\S+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert needed <= {normal(pin) for pin in pins}


def test_examples_for_contributors_run() -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S
    )
    assert blocks
    for block in blocks:
        exec(compile(block, "CONTRIBUTING.md", "exec"), {"__name__": "example"})


def test_the_model_for_contributors_is_the_one_that_is_tested() -> None:
    model = (ROOT / "tests" / "plugin_package" / "mean_history.py").read_text()
    tutorial = ROOT / "docs" / "tutorials" / "adding-a-model.md"
    assert f"```python\n{model}```" in tutorial.read_text()


@pytest.mark.usefixtures("small_models")
def test_the_code_of_the_readme_runs_as_it_stands(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from twotower.workflow import models

    hashed = partial(models.named_variant, text_encoder="hashing")
    monkeypatch.setattr(models, "named_variant", lambda name, _: hashed(name))
    monkeypatch.setattr("twotower.data.sample.sample_folder", lambda: shop)
    monkeypatch.chdir(tmp_path)
    log = (shop / "interactions.csv").read_text()
    names = "user_id,item_id,rating,timestamp"
    (tmp_path / "shop.csv").write_text(log.replace(names, "customer,sku,rating,when", 1))
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert len(blocks) == 2
    assert len(blocks[0].strip().splitlines()) <= 10
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "example"})
    assert (tmp_path / "bundle" / "manifest.json").exists()
    assert "NDCG@10" in capsys.readouterr().out


@pytest.mark.usefixtures("small_models")
@pytest.mark.parametrize("library", ["implicit", "twotower"])
def test_the_code_of_the_comparison_runs_as_it_stands(
    shop: Path, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(library, reason="implicit comes with the extra 'bench'")
    from twotower.workflow import models

    hashed = partial(models.named_variant, text_encoder="hashing")
    monkeypatch.setattr(models, "named_variant", lambda name, _: hashed(name))
    monkeypatch.chdir(tmp_path)
    log = (shop / "interactions.csv").read_text()
    names = "user_id,item_id,rating,timestamp"
    (tmp_path / "shop.csv").write_text(log.replace(names, "customer,sku,rating,when", 1))
    items = [line.split(",")[0] for line in (shop / "items.csv").read_text().splitlines()[1:]]
    rows = [f"{sku},Thing {at},{('red', 'blue')[at % 2]}" for at, sku in enumerate(items)]
    (tmp_path / "items.csv").write_text("\n".join(["sku,name,colour", *rows]))
    page = (ROOT / "docs" / "comparison.md").read_text()
    blocks = re.findall(rf"^\*\*{library}\*\*[^\n]*\n\n```python\n(.*?)^```", page, re.M | re.S)
    assert len(blocks) == 5
    names_of_page: dict[str, object] = {}
    for block in blocks:
        with warnings.catch_warnings():
            if library == "implicit":  # it warns of threads that BLAS may use
                warnings.simplefilter("ignore")
            exec(compile(block, "comparison.md", "exec"), names_of_page)
        found = names_of_page.get("found")
        assert found is None or 5 < len(found) <= 10  # type: ignore[arg-type]
    assert names_of_page["figures"]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra 'docs'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "reference" / "python.html").read_text()
    assert "twotower.recommender.Recommender.recommend" in reference


def test_every_public_name_is_in_the_reference() -> None:
    import twotower

    reference = (ROOT / "docs" / "reference" / "python.md").read_text()
    for name in set(twotower.__all__) - {"__version__"}:
        assert f".{name}\n" in reference


def test_the_citation_has_the_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"version: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert __version__ == project["version"]


@pytest.mark.parametrize("document", ["README.md", "docs/comparison.md"])
def test_published_formats_are_counted_right(document: str) -> None:
    from twotower.data.formats import FORMATS

    assert f"[{len(FORMATS)} published formats]" in (ROOT / document).read_text()


def test_commands_of_the_readme_exist() -> None:
    from typer.main import get_command

    from twotower.cli import _app

    commands = get_command(_app()).commands  # type: ignore[attr-defined]
    readme = (ROOT / "README.md").read_text()
    fenced = "".join(FENCE.findall(readme))
    lines = re.findall(r"^twotower (.*?)(?: +#.*)?$", fenced, re.M)
    assert len(lines) >= 5
    for line in lines:
        name, *words = line.split()
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line
