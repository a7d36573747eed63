import sys
from pathlib import Path

import pytest

from twotower.cli import main


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What Streamlit would have been started with."""
    calls: list[list[str]] = []
    monkeypatch.setattr(
        "streamlit.web.cli.main", lambda arguments, **_: calls.append(list(arguments))
    )
    monkeypatch.setattr("twotower.demo.loaded_bundle.open_once", lambda *_: None)
    return calls


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_starts_the_app_with_the_bundle(
    started: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_text('{"model_version": "v9-x"}')
    options = ("--api", "http://127.0.0.1:8000", "--results", "r.json", "--port", "8600")
    assert run("demo", "--bundle", str(tmp_path), *options) == 0
    ((verb, app, *rest),) = started
    assert verb == "run"
    assert Path(app).is_file()
    assert (Path(app).parent / ".streamlit" / "config.toml").is_file()
    assert rest == [
        "--server.address", "127.0.0.1", "--server.port", "8600", "--",
        "--bundle", str(tmp_path), "--api", "http://127.0.0.1:8000", "--results", "r.json",
    ]  # fmt: skip
    assert "http://127.0.0.1:8600" in capsys.readouterr().out


def test_what_is_no_bundle_is_said_before_anything_starts(
    started: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("demo", "--bundle", str(tmp_path)) == 2
    assert "is not a bundle" in capsys.readouterr().err
    assert started == []


def test_without_streamlit_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "streamlit.web.cli", None)
    assert run("demo", "--bundle", str(tmp_path)) == 2
    assert "run pip install 'twotower[demo]'" in capsys.readouterr().err
