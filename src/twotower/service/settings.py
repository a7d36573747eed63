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
        Where an argument or a variable does not fit.
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
    """API keys, one a line: name, scope and hash, as ``twotower key`` prints them."""
    rules: Path | None = None
    """File of business rules, see docs/serving.md. A reload reads it again."""
    anonymous_read: bool | None = None
    """Whether reading needs no key. By default so long as no keys are given."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    processes: int = Field(1, ge=1, le=256)
    """Processes that answer, each with the bundle in its memory; more than one needs Linux."""
    threads: int = Field(1, ge=1)
    """Threads that the native code of one request may use."""
    workers: int = Field(4, ge=1)
    """Threads for what takes longer than a millisecond, as batches and texts; and as many others
    for writes."""
    rerank: bool | None = None
    """Whether requests are re-ranked by default; None where the bundle says that it helps."""
    candidates: int | None = Field(None, ge=1)
    """Items that the index hands to the re-ranker; None for as many as the bundle says."""
    max_k: int = Field(1000, ge=1)
    """Most items of one answer."""
    max_history: int = Field(200, ge=1)
    """Most items of a history in a request, and events kept of a user."""
    max_batch: int = Field(1000, ge=1)
    """Most requests of a batch, and events of one call."""
    max_work: int = Field(10_000_000, ge=1)
    """Most work of one request: for each user that it asks for, ``k`` times the items of the
    history, and 50 more for what an item costs without any."""
    max_body_bytes: int = Field(1 << 20, ge=1024)
    """Longest request body."""
    max_header_bytes: int = Field(1 << 16, ge=1024)
    """Longest request line and headers together."""
    max_connections: int = Field(1000, ge=1)
    """Most open connections of one process; for another one an idle one is closed."""
    header_timeout_s: float = Field(10.0, gt=0)
    """Seconds that a client gets for its headers, and to read something of an answer."""
    forwarded_allow_ips: str | None = None
    """Addresses or networks of proxies, by commas, whose ``X-Forwarded-For`` is believed; ``*``
    for any. None believes no such header."""
    max_waiting: int = Field(512, ge=1)
    """Requests of one process that may wait for their turn, and as many for a thread; others are
    refused with 503."""
    max_wait_s: float = Field(2.0, gt=0)
    """A request that waited so long for its turn, or for a thread, is refused with 503."""
    rerank_wait_s: float = Field(0.5, gt=0)
    """A request that waited so long is answered without the second stage, and says so."""
    timeout_s: float = Field(10.0, gt=0)
    """After so many seconds a request is answered with 504."""
    state_timeout_s: float = Field(5.0, ge=0.1)
    """What a call of the database may take; then a write is refused with 503. Shorter than
    ``timeout_s``, so that the caller gets the reason."""
    reload_timeout_s: float = Field(120.0, gt=0)
    """The same for a reload, which reads and checks a whole bundle beside the traffic."""
    rate_limit: float | None = Field(None, gt=0)
    """Requests per second of one key, or of one address where no key is given; None for any."""
    rate_burst: int = Field(100, ge=1)
    """Requests that may come at once before the rate counts."""
    drain_s: float = Field(10.0, gt=0)
    """Seconds that requests in progress get after SIGTERM."""
    poll_s: float = Field(1.0, gt=0)
    """Seconds between looks for what other processes wrote to the database."""
    extend_share: float = Field(0.01, gt=0)
    """The index takes in what was added when that is more than this share of the items."""
    events_in_memory: int = Field(1_000_000, ge=0)
    """Newest events of the database that are kept in memory."""
    events_keep_days: float | None = Field(None, gt=0)
    """Events that are older are deleted; None keeps them."""
    anonymise_after_days: float | None = Field(None, gt=0)
    """The ids of users, in events that are older, are replaced by random ones; None keeps them."""
    maintain_every_s: float = Field(3600.0, gt=0)
    """Seconds between looks for old events and for what nothing needs any more."""
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
