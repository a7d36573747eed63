"""Settings of the service: environment variables that begin with ``TWOTOWER_``, or arguments."""

import ipaddress
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from twotower.config import refusal


class ServeSettings(BaseSettings):
    """Settings of the service. The defaults are safe: loopback only, and writing needs a key.

    Raises
    ------
    InputError
        If an argument or a variable is invalid.
    """

    model_config = SettingsConfigDict(
        env_prefix="TWOTOWER_", frozen=True, extra="forbid", allow_inf_nan=False
    )

    bundle: Path
    """Folder of the bundle. A reload reads it again, or a folder beside it."""
    state_url: SecretStr | None = None
    """``postgresql://user:password@host/database`` or ``sqlite:///file``; by default the SQLite
    file ``state.sqlite3`` beside the bundle."""
    keys_file: Path | None = None
    """API keys, one per line: name, scope and hash, as ``twotower key`` prints them."""
    rules: Path | None = None
    """File of business rules, see docs/serving.md. A reload reads it again."""
    anonymous_read: bool | None = None
    """Whether reading needs no key. By default only if there is no keys file."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""
    processes: int = Field(1, ge=1, le=256)
    """Server processes, each with the bundle in memory; more than one needs Linux."""
    threads: int = Field(1, ge=1)
    """Threads that the native code of one request may use."""
    workers: int = Field(4, ge=1)
    """Threads for work longer than a millisecond, such as batches and texts; writes have as many
    threads of their own."""
    rerank: bool | None = None
    """Whether requests are re-ranked by default; None to follow the bundle."""
    candidates: int | None = Field(None, ge=1)
    """Candidates that the index passes to the re-ranker; None to follow the bundle."""
    max_k: int = Field(1000, ge=1)
    """Most items of one answer."""
    max_history: int = Field(200, ge=1)
    """Most items of a history in a request, and events kept of a user."""
    max_batch: int = Field(1000, ge=1)
    """Most requests of a batch, and events of one call."""
    max_work: int = Field(10_000_000, ge=1)
    """Most work of one request: for each of its users, ``k`` times (history length + 50), where 50
    stands for the cost of an item without a reason."""
    max_body_bytes: int = Field(1 << 20, ge=1024)
    """Longest request body."""
    max_header_bytes: int = Field(1 << 16, ge=1024)
    """Longest request line and headers together."""
    max_connections: int = Field(1000, ge=1)
    """Most open connections of one process; a new one beyond that closes an idle one."""
    header_timeout_s: float = Field(10.0, gt=0)
    """Seconds that a client gets to send its headers, and to read some of a response."""
    forwarded_allow_ips: str | None = None
    """Comma-separated addresses or networks of proxies whose ``X-Forwarded-For`` is trusted; ``*``
    for any. None trusts no such header."""
    max_waiting: int = Field(512, ge=1)
    """Back-pressure: requests of one process that may wait for their turn, and as many for a
    thread; others are refused with 503."""
    max_wait_s: float = Field(2.0, gt=0)
    """A request that waited this long for its turn, or for a thread, is refused with 503."""
    rerank_wait_s: float = Field(0.5, gt=0)
    """A request that waited this long is answered without re-ranking, and the response says so."""
    timeout_s: float = Field(10.0, gt=0)
    """Seconds after which a request is answered with 504."""
    state_timeout_s: float = Field(5.0, ge=0.1)
    """Time limit of a database call; beyond it a write is refused with 503. Keep it shorter than
    ``timeout_s``, so that the caller gets the reason."""
    reload_timeout_s: float = Field(120.0, gt=0)
    """Like ``timeout_s``, for a reload, which reads and checks a whole bundle while serving."""
    rate_limit: float | None = Field(None, gt=0)
    """Requests per second for one key, or for one address without a key; None for no limit."""
    rate_burst: int = Field(100, ge=1)
    """Requests that may come at once before the rate limit applies."""
    drain_s: float = Field(10.0, gt=0)
    """Seconds that requests in progress get after SIGTERM."""
    poll_s: float = Field(1.0, gt=0)
    """Seconds between checks for other processes' writes to the database."""
    extend_share: float = Field(0.01, gt=0)
    """The index is extended when more than this share of the items is outside it."""
    events_in_memory: int = Field(1_000_000, ge=0)
    """Newest events of the database that are kept in memory."""
    events_keep_days: float | None = Field(None, gt=0)
    """Older events are deleted; None keeps them."""
    anonymise_after_days: float | None = Field(None, gt=0)
    """User ids in older events are replaced by random ones; None keeps them."""
    maintain_every_s: float = Field(3600.0, gt=0)
    """Seconds between clean-ups of old events and unused encodings."""
    log_requests: bool = True
    """Whether every request is logged."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise refusal(error, type(self)) from None

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _are_addresses(cls, value: str | None) -> str | None:
        for part in (value or "").split(","):
            if part.strip() not in ("", "*") and not _is_network(part.strip()):
                raise ValueError(
                    f"not an address or a network: {part.strip()!r}; name proxies by IP"
                )
        return value

    @model_validator(mode="after")
    def _open_to_the_network_needs_keys(self) -> Self:
        if self.keys_file is None and self.anonymous_read is None and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is open to the network, but there are no API keys; make one "
                "with 'twotower key NAME --keys FILE' and give that file (--keys, keys_file), or "
                "set anonymous_read to let anyone read"
            )
        return self

    @property
    def reading_is_free(self) -> bool:
        """Whether reading needs no key."""
        return self.keys_file is None if self.anonymous_read is None else self.anonymous_read

    @property
    def database(self) -> str:
        """URL of the state database."""
        if self.state_url is not None:
            return self.state_url.get_secret_value()
        return f"sqlite:///{self.bundle.absolute().parent / 'state.sqlite3'}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True
