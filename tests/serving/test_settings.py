import pytest
from pydantic import ValidationError

from twotower.serving.settings import ServeSettings


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
    with pytest.raises(ValidationError, match=f"host {host} is open to the network, but there"):
        ServeSettings(bundle="b", host=host)
    assert not ServeSettings(bundle="b", host=host, keys_file=tmp_path / "keys").reading_is_free
    assert ServeSettings(bundle="b", host=host, anonymous_read=True).reading_is_free


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_reads_freely_until_there_are_keys(host, tmp_path) -> None:
    assert ServeSettings(bundle="b", host=host).reading_is_free
    assert not ServeSettings(bundle="b", host=host, keys_file=tmp_path / "keys").reading_is_free
    assert not ServeSettings(bundle="b", host=host, anonymous_read=False).reading_is_free
