"""Every command runs where only the extra is installed that the documents name for it.

The quick test hides all other distributions from a fresh interpreter. The slow one makes real
environments; it runs where ``TWOTOWER_ENVIRONMENTS`` is set, as ``make environments`` does.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
_SPEC = importlib.util.spec_from_file_location("environment_commands", HERE / "commands.py")
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
COMMANDS: dict[str, tuple[str, ...]] = _MODULE.COMMANDS


@pytest.fixture(scope="module")
def places(
    blocks: Any, shop: Path, bundle_of_blocks: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Paths that the commands name: a log, a prepared data set, a bundle and results."""
    folder = tmp_path_factory.mktemp("places")
    blocks.save(folder / "data")
    return {
        "shop": str(shop),
        "data": str(folder / "data"),
        "bundle": str(bundle_of_blocks),
        "results": str(ROOT / "benchmarks" / "results" / "ablation-video-games-2023.json"),
    }


def closure(requirements: Iterable[str]) -> set[str]:
    """Canonical names of the installed distributions that the requirements bring."""
    found: set[str] = set()
    waiting = [Requirement(one) for one in requirements]
    seen = set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        extras = sorted(wanted.extras) or [""]
        if (name, *extras) in seen:
            continue
        seen.add((name, *extras))
        try:
            brought = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        for line in brought:
            inner = Requirement(line)
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(inner)
    return found


def hidden_modules(extras: str) -> list[str]:
    """Top-level modules that no distribution of the extras' environment brings."""
    optional = PROJECT["optional-dependencies"]
    requirements = [*PROJECT["dependencies"]]
    for extra in filter(None, extras.split(",")):
        requirements += optional[extra]
    allowed = closure(requirements) | {"twotower"}
    return sorted(
        module
        for module, distributions in metadata.packages_distributions().items()
        if allowed.isdisjoint(map(canonicalize_name, distributions))
    )


def run_commands(
    python: Path | str, lines: Iterable[str], environment: dict[str, str], folder: Path
) -> list[str]:
    """What each command that failed said."""
    done = subprocess.run(
        [python, HERE / "commands.py"],
        input=json.dumps(list(lines)),
        env={**os.environ, "TWOTOWER_CACHE": str(folder / "cache"), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(results) == len(list(lines)), done.stderr
    return [f"{line}: {said}" for line, status, said in results if status]


def filled(extras: str, places: dict[str, str], folder: Path) -> list[str]:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [line.format(**places, out=folder, port=port) for line in COMMANDS[extras]]


def test_every_extra_for_users_has_its_commands() -> None:
    named = {extra for extras in COMMANDS for extra in extras.split(",")}
    assert {"", *PROJECT["optional-dependencies"]} - named == {
        "image",
        "milvus",
        "pgvector",
        "qdrant",
        "scale",
        "trace",
        "docs",
        "dev",
    }


@pytest.mark.parametrize("extras", COMMANDS)
def test_commands_need_nothing_but_their_extra(
    extras: str, places: dict[str, str], tmp_path: Path
) -> None:
    hidden = hidden_modules(extras)
    assert "hypothesis" in hidden  # of the extra for development
    assert ("torch" in hidden) == ("train" not in extras)
    paths = [str(HERE), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        "TWOTOWER_HIDDEN_MODULES": " ".join(hidden),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    lines = filled(extras, places, tmp_path)
    assert run_commands(sys.executable, lines, environment, tmp_path) == []


@pytest.mark.skipif(
    not os.environ.get("TWOTOWER_ENVIRONMENTS"),
    reason="installs packages: set TWOTOWER_ENVIRONMENTS=1, or run make environments",
)
def test_commands_run_where_the_extra_is_really_all(places: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "source"  # a build leaves files beside what it builds
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    for extras in ("", "serve"):
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             "--no-compile", "--constraint", ROOT / "constraints.txt",
             f"{source}[{extras}]" if extras else source],
            check=True, timeout=500,
        )  # fmt: skip
        folder = tmp_path / f"with-{extras}"
        folder.mkdir()
        lines = filled(extras, places, folder)
        assert run_commands(python, lines, {"PYTHONPATH": ""}, folder) == []
    shutil.rmtree(tmp_path / "venv")
