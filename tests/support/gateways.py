"""A whole gateway for a test: in this process behind its ports, or as the real `tok0n serve`."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
from starlette.routing import BaseRoute

from support import sqlite
from support.api_keys import create_key
from support.endpoint_cases import BILLED, STREAMS
from support.fakes import FakeUpstream
from support.ledgers import NOW_US, Opened, open_engine
from support.limiters import make_limiter
from support.models import make_model
from tok0n.adapters.clock import SystemClock
from tok0n.adapters.sql.repositories.history import SqlHistory
from tok0n.adapters.sql.repositories.usable_codes import SqlUsableCodes
from tok0n.bootstrap.resources import Store, open_store
from tok0n.bootstrap.serving import open_listener
from tok0n.bootstrap.wiring import open_gateway
from tok0n.domain.accounts import Account
from tok0n.domain.catalogue import EndpointCheck, StreamCheck, Verification
from tok0n.domain.token_classes import TokenClasses
from tok0n.http.server import HttpServer
from tok0n.ports.clock import Clock
from tok0n.ports.limiter import Limiter
from tok0n.services.caller_cache import CallerCache
from tok0n.services.catalogue import Catalogue
from tok0n.services.housekeeping import Housekeeping
from tok0n.services.payments import SellPacks
from tok0n.services.pipeline import Pipeline
from tok0n.services.request_reader import RequestReader
from tok0n.services.reservations import Reservations
from tok0n.services.sign_in import SignIn
from tok0n.services.streams import StreamLimits, Streams
from tok0n.services.token_sources import TokenSources
from tok0n.settings import Settings, load, model_of

EMAIL = "a@example.com"
BASE = "https://tok0n.example"
MODEL = make_model("demo", upstream="fake", upstream_model="upstream-demo")
SERVING = msgspec.structs.replace(MODEL, endpoints=tuple(case.name for case in BILLED))
"""The model of `in_process`, which serves every endpoint."""


class InProcess(msgspec.Struct, kw_only=True):
    """`Pipeline` on a real ledger and limiter, in front of a fake upstream."""

    db: Opened
    limiter: Any
    reservations: Reservations
    pipeline: Pipeline
    reader: RequestReader
    streams: Streams
    upstream: FakeUpstream
    api_key: str

    @property
    def authorization(self) -> bytes:
        return b"Bearer " + self.api_key.encode()

    async def pending(self) -> int:
        return (await self.db.accounts.get(EMAIL)).balance.pending

    async def posted(self) -> int:
        return (await self.db.accounts.get(EMAIL)).balance.posted


@contextlib.asynccontextmanager
async def in_process(
    folder: Path,
    upstream: FakeUpstream,
    *,
    tokens: int = 1_000_000,
    clock: Clock | None = None,
    limits: Mapping[str, int] | None = None,
    limiter: Limiter | None = None,
    engine: str = "sqlite",
    make_reader: Callable[[Catalogue], RequestReader] = RequestReader,
    stream_limits: StreamLimits | None = None,
) -> AsyncIterator[InProcess]:
    """Without a `limiter` it is one in memory, with `limits`."""
    clock = clock or SystemClock()
    async with open_engine(engine, folder) as db:
        await db.accounts.create(email=EMAIL, tokens=tokens, now_us=NOW_US)
        _, api_key = await create_key(db.accounts, EMAIL)
        await db.models.record(
            Verification(
                model=SERVING.id,
                fingerprint=SERVING.fingerprint,
                checked_at_us=1,
                endpoints={case.name: EndpointCheck(checks={"ok": True}, latency_ms=1) for case in BILLED},
                streams={case.name: StreamCheck(passed=True) for case in STREAMS},
            )
        )
        stream_endpoints = [case.name for case in STREAMS]
        catalogue = Catalogue({SERVING.id: SERVING}, db.models, stream_endpoints=stream_endpoints)
        await catalogue.refresh()
        limiter = limiter or make_limiter(
            clock, **({"key": 10**6, "user": 10**6, "upstream": 10**6} | dict(limits or {}))
        )
        reservations = Reservations(db.ledger, clock)
        reader = make_reader(catalogue)
        streams = Streams(stream_limits or StreamLimits(), clock)
        pipeline = Pipeline(
            caller_cache=CallerCache(db.callers, clock),
            reader=reader,
            token_classes=TokenClasses(),
            token_sources=TokenSources(SqlUsableCodes(db.store), clock, sold_classes=(), url_of=BASE.__add__),
            history=SqlHistory(db.store),
            limiter=limiter,
            reservations=reservations,
            upstreams={"fake": upstream},
            streams=streams,
            clock=clock,
        )
        with contextlib.closing(reader):
            yield InProcess(
                db=db,
                limiter=limiter,
                reservations=reservations,
                pipeline=pipeline,
                reader=reader,
                streams=streams,
                upstream=upstream,
                api_key=api_key,
            )


def tok0n(*arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [str(Path(sys.executable).parent / "tok0n"), *map(str, arguments)],
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def tok0n_json(*arguments: str | Path, cwd: Path) -> Any:
    """The one JSON document that a command prints, which must succeed."""
    done = tok0n(*arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def funded(folder: Path, *, upstream_url: str, tokens: int, more: str = "") -> str:
    """Settings, a verified model and an account, as an operator makes them; gives the account's key."""
    write_settings(folder, upstream_url=upstream_url, more=more)
    tok0n_json("accounts", "create", "a@example.com", "--tokens", str(tokens), cwd=folder)
    await asyncio.to_thread(tok0n_json, "models", "verify", cwd=folder)
    api_key: str = tok0n_json("keys", "create", "a@example.com", cwd=folder)["api_key"]
    return api_key


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would change Tok0n's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOK0N_")}
    return kept | dict(more or {})


class ServerProcess:
    """A real `tok0n serve`, on a free port, from entering the context until it is stopped or killed."""

    def __init__(self, folder: Path, *arguments: str, command: str = "serve", under: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self._under = under
        self._arguments = arguments
        self._command = command
        self.log = folder / "server.log"

    async def __aenter__(self) -> Self:
        port = [] if "--port" in self._arguments else ["--port", "0"]
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._under,
                sys.executable,
                "-m",
                "tok0n",
                self._command,
                *port,
                *self._arguments,
                "--json",
                cwd=self.folder,
                env=environment(),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, self.log.read_text()
        self.ready: dict[str, Any] = json.loads(line)
        self.base_url: str = self.ready["base_url"]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            await self.stop()

    async def stop(self, sig: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; gives the exit code."""
        self.process.send_signal(sig)
        return await self.process.wait()

    async def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        await self.process.wait()


_LIMITS = """\
requests_per_minute_per_key = {limits}
concurrent_requests_per_account = {limits}
upstream_requests_per_minute = {limits}
"""


def write_settings(
    folder: Path,
    *,
    upstream_url: str,
    more: str = "",
    upstream_more: str = "",
    limits: int | None = 1_000_000,
    backend: str = "memory://",
) -> None:
    """A `tok0n.toml` with one upstream and the model "demo"; `upstream_more` goes into the upstream's section.

    Without `limits` the limits are the defaults.
    """
    chosen = "" if limits is None else _LIMITS.format(limits=limits)
    (folder / "upstream.key").write_text("sk-operator-secret-123456")
    (folder / "tok0n.toml").write_text(
        f"""\
[limits]
backend = "{backend}"
{chosen}
[upstreams.fake]
base_url = "{upstream_url}"
api_key = "file:{folder / "upstream.key"}"
timeout_seconds = 5
{upstream_more}
[models.demo]
upstream = "fake"
upstream_model = "upstream-demo"
max_output_tokens = 1000
default_output_tokens = 100
{more}
"""
    )


class Running(msgspec.Struct, kw_only=True):
    """The whole gateway, listening on a free port in this process."""

    base_url: str
    url: str
    api_key: str
    store: Store
    sign_in: SignIn
    routes: Sequence[BaseRoute]
    caller_cache: CallerCache
    sell_packs: SellPacks | None
    clock: Clock
    housekeeping: Housekeeping
    server: HttpServer
    streams: Streams
    folder: Path

    async def account(self) -> Account:
        return await self.store.accounts.get(EMAIL)

    async def audit_is_clean(self) -> bool:
        return (await self.store.ledger.audit()).ok


async def prepared(
    folder: Path,
    *,
    upstream_url: str,
    tokens: int = 1_000_000,
    overrides: Mapping[str, object] | None = None,
    clock: Clock | None = None,
    **settings_of: Any,
) -> tuple[Settings, str]:
    """Write settings and a database with an account, a key, and the model "demo" verified. Returns settings and key.

    `settings_of` is for `write_settings`. Takes a tenth of the time of `funded`, which runs commands.
    """
    write_settings(folder, upstream_url=upstream_url, **settings_of)
    settings = load(folder / "tok0n.toml", environ={}, dotenv={}, overrides={"server.port": 0, **(overrides or {})})
    now_us = (clock or SystemClock()).now_us()
    if not settings.database.is_postgres:
        await sqlite.make_database(settings.database.sqlite_path)
    async with open_store(settings) as store:
        await store.accounts.create(email=EMAIL, tokens=tokens, now_us=now_us)
        _, api_key = await create_key(store.accounts, EMAIL)
        for model in (model_of(id_, settings) for id_ in settings.models):
            stream_check = StreamCheck(passed=True, continuous_usage=model.routes[0].continuous_usage)
            await store.models.record(
                Verification(
                    model=model.id,
                    fingerprint=model.fingerprint,
                    checked_at_us=now_us,
                    endpoints={name: EndpointCheck(checks={"ok": True}, latency_ms=1) for name in model.endpoints},
                    streams=dict.fromkeys(model.endpoints, stream_check) if settings.server.streaming else {},
                )
            )
    return settings, api_key


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    *,
    upstream_url: str,
    overrides: Mapping[str, object] | None = None,
    host: str = "127.0.0.1",
    stripe_base: str | None = None,
    shows_components: bool = False,
    clock: Clock | None = None,
    **more: Any,
) -> AsyncIterator[Running]:
    """A gateway that is `prepared`, with `more` of its arguments; `host` is a name of this machine."""
    settings, api_key = await prepared(folder, upstream_url=upstream_url, overrides=overrides, clock=clock, **more)
    listener, settings = open_listener(settings)
    url = settings.server.public_url.replace("127.0.0.1", host)
    if overrides is None or "server.public_url" not in overrides:
        settings = msgspec.structs.replace(settings, server=msgspec.structs.replace(settings.server, public_url=url))
    options: dict[str, Any] = {"stripe_base": stripe_base, "shows_components": shows_components, "clock": clock}
    async with open_gateway(settings, **options) as gateway:
        listener.listen()
        async with HttpServer(gateway.app, listener, shutdown_seconds=5) as server:
            yield Running(
                base_url=f"{server.url}/v1",
                url=server.url.replace("127.0.0.1", host),
                api_key=api_key,
                store=gateway.services.store,
                sign_in=gateway.services.sign_in,
                routes=gateway.pages.routes,
                caller_cache=gateway.services.caller_cache,
                sell_packs=gateway.services.sell_packs,
                clock=gateway.services.clock,
                housekeeping=gateway.housekeeping,
                server=server,
                streams=gateway.services.streams,
                folder=folder,
            )
