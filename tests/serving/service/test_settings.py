import re
import tomllib
from pathlib import Path

import pytest

from twotower.errors import InputError
from twotower.service.settings import ServeSettings

ROOT = Path(__file__).resolve().parents[3]


def test_the_environment_says_what_arguments_do_not(monkeypatch) -> None:
    monkeypatch.setenv("TWOTOWER_BUNDLE", "/srv/bundle")
    monkeypatch.setenv("TWOTOWER_PORT", "9000")
    settings = ServeSettings(port=8080)
    assert str(settings.bundle) == "/srv/bundle"
    assert settings.port == 8080
    assert settings.host == "127.0.0.1"
    assert settings.database == "sqlite:////srv/state.sqlite3"


def test_a_password_is_not_shown() -> None:
    settings = ServeSettings(bundle="b", state_url="postgresql://u:hunter2@db/x")
    assert "hunter2" not in repr(settings)
    assert settings.database == "postgresql://u:hunter2@db/x"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "shop.example"])
def test_the_network_needs_keys(host, tmp_path) -> None:
    with pytest.raises(InputError, match=f"host {host} is open to the network, but there"):
        ServeSettings(bundle="b", host=host)
    assert not ServeSettings(bundle="b", host=host, keys_file=tmp_path / "keys").reading_is_free
    assert ServeSettings(bundle="b", host=host, anonymous_read=True).reading_is_free


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_reads_freely_until_there_are_keys(host, tmp_path) -> None:
    assert ServeSettings(bundle="b", host=host).reading_is_free
    assert not ServeSettings(bundle="b", host=host, keys_file=tmp_path / "keys").reading_is_free
    assert not ServeSettings(bundle="b", host=host, anonymous_read=False).reading_is_free


@pytest.mark.parametrize("proxies", ["127.0.0.1", "10.0.0.0/8, ::1", "*", None])
def test_proxies_are_named_by_address(proxies) -> None:
    assert ServeSettings(bundle="b", forwarded_allow_ips=proxies).forwarded_allow_ips == proxies


@pytest.mark.parametrize("proxies", ["proxy", "10.0.0.1/8", "10.0.0.1 10.0.0.2"])
def test_a_proxy_that_is_no_address_is_refused(proxies) -> None:
    with pytest.raises(InputError, match="not an address or a network: "):
        ServeSettings(bundle="b", forwarded_allow_ips=proxies)


def test_every_setting_is_documented_and_every_variable_is_a_setting() -> None:
    fields = set(ServeSettings.model_fields)
    table = (ROOT / "docs" / "serving.md").read_text().split("## Settings")[1].split("##")[0]
    first = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(first))) == fields
    for name in ("Dockerfile", "compose.yaml"):
        named = re.findall(r"TWOTOWER_([A-Z_]+)", (ROOT / name).read_text())
        assert {one.lower() for one in named} <= fields


def test_the_defaults_are_those_that_are_documented() -> None:
    table = (ROOT / "docs" / "serving.md").read_text().split("## Settings")[1].split("##")[0]
    compared = 0
    for row in table.splitlines():
        if not row.startswith("| `"):
            continue
        names, defaults = (cell.strip() for cell in row.split("|")[1:3])
        values = re.split(r", (?=\S)", defaults)
        for name, value in zip(re.findall(r"`(\w+)`", names), values, strict=False):
            number = value.replace(",", "")
            if re.fullmatch(r"[\d.]+", number):
                assert ServeSettings.model_fields[name].default == float(number), name
                compared += 1
            elif value == "none":
                assert ServeSettings.model_fields[name].default is None, name
    assert compared > 20


def test_the_image_runs_as_nobody_special_and_without_torch() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "USER twotower" in lines
    assert "'.[serve]'" in " ".join(lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    serving = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    assert not [one for one in serving if re.match(r"torch|lightning|sentence|transformers", one)]
