import logging

import pytest

from twotower.errors import InputError
from twotower.service.api.auth import KeysFile, Scope, find_key, new_key, read_keys

NEW = {"item_id": "n1", "title": "Game"}
CALLS = {
    "read": ("GET", "/v1/users/user-03/recommendations", None),
    "model": ("GET", "/v1/model", None),
    "metrics": ("GET", "/metrics", None),
    "write": ("POST", "/v1/items", NEW),
    "delete": ("DELETE", "/v1/items/item-01", None),
    "events": (
        "POST", "/v1/events",
        {"events": [{"event_id": "e", "user_id": "u", "item_id": "i", "kind": "buy",
                     "occurred_at": 1_700_000_000_000}]},
    ),
    "admin": ("POST", "/v1/models/reload", {}),
}  # fmt: skip
ALLOWED = {
    "reader": {"read", "model", "metrics"},
    "writer": {"read", "model", "metrics", "write", "delete", "events"},
    "boss": set(CALLS),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("holder", ALLOWED)
def test_a_key_allows_what_its_scope_says(client, keys, holder, call) -> None:
    method, path, body = CALLS[call]
    answer = client.request(method, path, json=body, headers=keys[1][holder])
    if call in ALLOWED[holder]:
        assert answer.status_code < 300, answer.text
    else:
        assert answer.status_code == 403
        assert answer.json()["detail"].startswith("this needs a key of scope ")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "header", ["Bearer tt_wrong", "Bearer ", "Basic dTpw", "Bearer \xe9\xff", "nonsense"]
)
def test_a_wrong_key_is_refused_everywhere(client, header, call) -> None:
    method, path, body = CALLS[call]
    headers = {"Authorization": header.encode("latin-1")}
    answer = client.request(method, path, json=body, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "tt_wrong" not in answer.text
    assert "'twotower key NAME --scope read --keys FILE'" in answer.json()["fix"]


@pytest.mark.parametrize("call", CALLS)
def test_without_a_key(client, served, call) -> None:
    method, path, body = CALLS[call]
    del client.headers["Authorization"]
    assert client.request(method, path, json=body).status_code == 401
    assert client.get("/health").status_code == 200
    assert client.get("/ready").status_code == 200


def test_writing_always_needs_a_key(served) -> None:
    with served(keys_file=None) as client:
        del client.headers["Authorization"]
        assert client.get("/v1/users/user-03/recommendations").status_code == 200
        assert client.post("/v1/items", json=NEW).status_code == 401
        assert client.post("/v1/models/reload", json={}).status_code == 401


def test_a_refusal_says_how_a_key_is_made_and_nothing_of_the_keys(served, keys) -> None:
    fixes = []
    for file in (None, keys[0]):
        with served(keys_file=file) as client:
            del client.headers["Authorization"]
            fixes.append(client.post("/v1/items", json=NEW).json()["fix"])
            assert str(keys[0]) not in fixes[-1]
    assert fixes[0] == fixes[1]
    assert "'twotower key NAME --scope write --keys FILE'" in fixes[0]
    with served() as client:
        answer = client.post("/v1/items", json=NEW, headers=keys[1]["reader"])
    assert "'twotower key NAME --scope write --keys FILE'" in answer.json()["fix"]


def test_a_new_key_is_kept_as_its_hash(tmp_path) -> None:
    key, line = new_key("shop", Scope.WRITE)
    assert key not in line
    assert key.startswith("tt_")
    file = tmp_path / "keys"
    file.write_text(f"# a comment\n\n{line}  # and another\n")
    (kept,) = read_keys(file)
    assert (kept.name, kept.scope) == ("shop", Scope.WRITE)
    assert find_key([kept], key) is kept
    assert find_key([kept], key + "x") is None
    assert find_key([], key) is None
    assert new_key("shop", Scope.WRITE)[0] != key


@pytest.mark.parametrize(
    "line", ["tt_secret", "shop root sha256:" + "0" * 64, "shop read sha256:1"]
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line) -> None:
    (tmp_path / "keys").write_text(f"\n{line}\n")
    with pytest.raises(InputError, match="line 2 of the keys file is not") as raised:
        read_keys(tmp_path / "keys")
    assert "secret" not in str(raised.value)


def test_refuses_a_name_with_spaces() -> None:
    with pytest.raises(InputError, match="name must be up to 64 letters"):
        new_key("the shop", Scope.READ)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("shop read".encode("utf-16"), "is not text in UTF-8; save it as UTF-8, one key a line"),
        (bytes(range(256)) * 20, "is not text in UTF-8"),
        (b"\0\0\0", "line 1 of the keys file is not"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_file_of_another_kind_is_one_line(tmp_path, content, said) -> None:
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_keys(tmp_path / "keys")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="is not a file"):
        read_keys(tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_key(tmp_path) -> None:
    key, line = new_key("shop", Scope.WRITE)
    (tmp_path / "keys").write_bytes(line.encode("utf-8-sig"))
    assert find_key(read_keys(tmp_path / "keys"), key).name == "shop"


def test_a_key_is_withdrawn_and_given_while_the_service_runs(served, tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO)
    (old, old_line), (new, new_line) = (new_key(name, Scope.READ) for name in ("old", "new"))
    file = tmp_path / "changing"
    file.write_text(old_line)
    with served(keys_file=file) as client:

        def statuses() -> list[int]:
            headers = [{"Authorization": f"Bearer {key}"} for key in (old, new)]
            return [client.get("/v1/model", headers=one).status_code for one in headers]

        assert statuses() == [200, 401]
        file.write_text(f"{old_line}\n{new_line}\n")
        assert statuses() == [200, 200]
        for broken in (b"tt_secret", "x".encode("utf-16")):
            file.write_bytes(broken)
            assert statuses() == [200, 200]  # those before go on
        file.unlink()
        assert statuses() == [200, 200]
        replacement = tmp_path / "replacement"
        replacement.write_text(new_line)
        replacement.rename(file)
        assert statuses() == [401, 200]
    errors = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert len(errors) == 3  # once each
    assert all(one.startswith("the keys before go on: ") for one in errors)
    assert "tt_secret" not in caplog.text


def test_names_that_come_twice_and_files_that_others_may_write_are_warned_of(
    tmp_path, caplog
) -> None:
    file = tmp_path / "keys"
    file.write_text("\n".join(new_key("shop", Scope.READ)[1] for _ in range(2)))
    file.chmod(0o622)
    KeysFile(file).log_warnings()
    said = [one.getMessage() for one in caplog.records]
    assert said[0].startswith("2 keys are named 'shop'")
    assert said[1] == f"others may write the keys file: chmod 600 {file}"
    caplog.clear()
    file.write_text(new_key("shop", Scope.READ)[1])
    file.chmod(0o600)
    KeysFile(file).log_warnings()
    assert caplog.records == []
