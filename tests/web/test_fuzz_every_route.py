"""No input makes a 500, a traceback or a hang: every route of the application is fuzzed, on both engines.

The routes are those that the application has, so that a new one is fuzzed without anybody listing it; the names of
fields come from the source of the handlers and pages.
"""

import asyncio
import contextlib
import itertools
import json
import random
import secrets
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from support import postgres
from support.field_reads import FieldReads
from support.gateways import Running
from support.hostile_values import (
    BODIES,
    CONTENT_TYPES,
    HEADER_VALUES,
    HEADERS,
    VALUES,
    Client,
    Request,
    encoded,
    field_names,
    filled,
    mutated,
)
from support.http import InstantUpstream
from support.ledgers import ENGINES
from support.mailbox import Mailbox
from support.shop import shop
from support.users import join
from support.visitor import Visitor
from tok0n.demo.stripe_double import StripeDouble

CHECK_EVERY = 40
"""After so many requests: whether the visitor is still signed in, and what the log says."""

HOST = "localhost"
"""A name, because passkeys don't work on an address."""

CHANGING = {"POST", "PUT", "PATCH", "DELETE"}
TARGET_BYTES_MAX = 60_000
MUTATIONS = 40
SQLITE_EVERY = 2
"""Each route gets every second request. A draw says which, so that another route gets the others."""

POSTGRES_EVERY = 7
"""The handlers are the same on PostgreSQL, so there a visitor who is signed in sends one of seven requests."""

SIGNED_OUT_EVERY = 3
"""Most routes lead a visitor who isn't signed in to the sign-in page, so they get one of three requests."""

HEAD_EVERY = 20
"""A HEAD request runs the handler of GET, which gets so many times as many."""

HEADERS_PER_ROUTE = 9
"""Most headers are read before the handler is chosen."""

SHARES = {"signed in": 3, "signed out": 1}
"""The routes are divided among so many tests, which can run at the same time."""

EXAMPLES = 40
"""Of each share, which takes them from all routes."""

EVENT = {
    "id": "evt_1",
    "object": "event",
    "type": "checkout.session.completed",
    "created": 1_800_000_000,
    "livemode": False,
    "data": {
        "object": {
            "id": "cs_1",
            "object": "checkout.session",
            "client_reference_id": "ord_1",
            "payment_intent": "pi_1",
            "payment_status": "paid",
            "amount_total": 500,
            "currency": "usd",
            "metadata": {"order": "ord_1"},
        }
    },
}
CHAT = {
    "model": "demo",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "content": "b"}],
    "max_completion_tokens": 50,
    "stop": ["a"],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    "logit_bias": {"1": 1},
}
Endpoint = tuple[str, str]
"""Method and path."""


class Site:
    """A shop in a thread of its own, so that a blocking client can ask it."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._mails = 0
        self.running: Running
        self.double: StripeDouble

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(120)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def do(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run something in the server's thread."""
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(60)

    def new_visitor(self) -> str:
        """Sign up a new user, and return the `Cookie` header."""
        return self.do(self._join)  # type: ignore[no-any-return]

    async def _join(self) -> str:
        self._mails += 1
        async with Visitor(self.running.url) as visitor:
            await join(visitor, self._mailbox, f"v{self._mails}@example.com")
            return "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            overrides: dict[str, object] = {}
            if self._engine == "postgres":
                overrides["database.url"] = await stack.enter_async_context(
                    postgres.database(f"t{secrets.token_hex(8)}")
                )
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            upstream = await stack.enter_async_context(InstantUpstream())
            self._mailbox = await stack.enter_async_context(Mailbox())
            opening = shop(
                folder, upstream_url=upstream.base_url, mailbox=self._mailbox, overrides=overrides, host=HOST
            )
            self.running, self.double = await stack.enter_async_context(opening)
            self._ready.set()
            await self._stop.wait()


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> list[Endpoint]:
    """Filled when a gateway is made: every path of the application with every method that it answers."""
    found: list[Endpoint] = []
    make = Starlette.__init__

    def listening(app: Starlette, *arguments: Any, **options: Any) -> None:
        make(app, *arguments, **options)
        paths = [route.path for route in app.routes if isinstance(route, Route | Mount)]
        if "/healthz" not in paths:
            return  # another application: the double of Stripe
        for route in app.routes:
            if isinstance(route, Mount):
                found.append(("GET", route.path + "/{file}"))
            else:
                assert isinstance(route, Route)
                found.extend((method, route.path) for method in sorted(route.methods or {"GET"}))
        found.extend([("POST", "/v1/chat/completions"), ("GET", "/{unknown}"), ("PATCH", "/dashboard")])

    monkeypatch.setattr(Starlette, "__init__", listening)
    return found


class Fuzz:
    """Sends requests as one visitor, and collects what must not happen: one line for each kind of fault of a route."""

    def __init__(self, site: Site, errors: Callable[[], str], reads: FieldReads, *, signed_in: bool) -> None:
        self.site = site
        self.reads = reads
        self.client = Client("127.0.0.1", urlsplit(site.running.url).port or 80)
        self.faults: dict[tuple[str, str, str], str] = {}
        self.sent = 0
        self._errors = errors
        self.signed_in = signed_in
        self._visitor = site.new_visitor() if signed_in else ""
        self._number = 0

    def base(self, path: str) -> list[tuple[str, bytes]]:
        """The headers of an honest browser or program, each request from another address."""
        self._number += 1
        address = f"203.{self._number >> 16 & 255}.{self._number >> 8 & 255}.{self._number & 255}"
        headers = [("x-forwarded-for", address.encode()), ("sec-fetch-site", b"same-origin")]
        if path.startswith("/v1/"):
            headers.append(("authorization", b"Bearer " + self.site.running.api_key.encode()))
        elif self.signed_in:
            headers.append(("cookie", self._visitor.encode()))
        return headers

    def form(self, fields: dict[str, bytes]) -> bytes:
        return encoded(fields)

    def send(
        self, endpoint: Endpoint, target: bytes, body: bytes = b"", headers: list[tuple[str, bytes]] | None = None
    ) -> None:
        method, path = endpoint
        own = headers or []
        replaced = {name for name, _ in own}
        if path.startswith("/webhooks") and "stripe-signature" not in replaced:
            own = [*own, ("stripe-signature", self.site.double.sign(body).encode())]
        kept = [header for header in self.base(path) if header[0] not in replaced]
        request = Request(method=method, path=path, target=target, headers=kept + own, body=body)
        try:
            status, _ = self.client.send(request)
        except TimeoutError:
            self.client.close()
            self._note(request, "no answer")
        except EOFError:
            self._note(request, "closed without an answer")
        else:
            if status >= 500 and status != 503:
                self._note(request, f"status {status}")
        self.sent += 1
        if told := self._errors():
            lines = [line for line in told.splitlines() if "Traceback" in line or "unexpected_error" in line]
            if lines:
                self._note(request, f"a traceback in the log, ending with {told.rstrip()[-300:]!r}")

    def check_visitor(self) -> None:
        """Sign in again after a request that ended the session or closed the account."""
        if not self.signed_in:
            return
        path = "/dashboard/settings/close"  # the page that reads least
        probe = Request(method="GET", path="", target=path.encode(), headers=self.base(path))
        if self.client.send(probe)[0] != 200:
            self._visitor = self.site.new_visitor()

    def _note(self, request: Request, what: str) -> None:
        self.faults.setdefault((request.method, request.path, what[:40]), f"{what}: {request}")


def systematically(
    endpoint: Endpoint, names: list[str], reads: FieldReads, chance: random.Random
) -> Iterator[dict[str, Any]]:
    """Make requests to one endpoint: each hostile value in its path, query, form, body and headers.

    `reads` has the fields that its handler has read so far.
    """
    method, path = endpoint
    plain = filled(path, b"a")
    yield {"target": plain}
    if "{" in path:
        yield from ({"target": filled(path, value)} for value in VALUES)
        yield {"target": plain + b"/\xff%zz%"}
    for fields in hostile_fields(names, reads, chance):
        if method in CHANGING:
            yield {"target": plain, "fields": fields}
        if method not in CHANGING or len(fields) > 1:
            yield {"target": plain + b"?" + encoded(fields)[:TARGET_BYTES_MAX]}
    for name in chance.sample(HEADERS, HEADERS_PER_ROUTE):
        yield {"target": plain, "headers": [(name, chance.choice(HEADER_VALUES))]}
    yield {"target": plain, "headers": [("origin", b"http://[::1")]}
    if method in CHANGING:
        for kind, body in bodies(path, chance):
            yield {"target": plain, "body": body, "headers": [("content-type", kind.encode())]}


def hostile_fields(names: list[str], reads: FieldReads, chance: random.Random) -> Iterator[dict[str, bytes]]:
    """Give each value to all the fields at once, and each field a value alone: a handler may stop at the first.

    A field that the handler of a page doesn't read, with all fields and without any, changes nothing alone.
    """
    for value in VALUES:
        yield dict.fromkeys(names if len(value) < 1_000 else names[:5], value)
    for name in names:
        if reads.may_read(name):
            yield {name: chance.choice(VALUES)}


def bodies(path: str, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Content types with bodies: the dictionary, and good documents with one bad value. Pages' forms are no JSON."""
    reads_json = path.startswith(("/v1/", "/webhooks"))
    for body in BODIES if reads_json else chance.sample(BODIES, len(BODIES) // 4):
        yield chance.choice(CONTENT_TYPES), body
    for number in range(MUTATIONS if reads_json else 0):
        document = EVENT | {"id": f"evt_{number}"} if path.startswith("/webhooks") else CHAT
        yield "application/json", json.dumps(mutated(document, chance)).encode()


def fuzz_systematically(fuzz: Fuzz, endpoints: list[Endpoint], *, every: int) -> None:
    names = field_names()
    for endpoint in endpoints:
        chance = random.Random(str(endpoint))
        fuzz.reads.clear()
        sampled = every if endpoint[0] != "HEAD" else every * HEAD_EVERY
        requests = systematically(endpoint, names, fuzz.reads, chance)
        for number, parts in enumerate(itertools.islice(requests, chance.randrange(sampled), None, sampled)):
            if number % CHECK_EVERY == 0:
                fuzz.check_visitor()
            fields = parts.pop("fields", None)
            if fields is not None:
                parts["body"] = fuzz.form(fields)
                parts["headers"] = [("content-type", b"application/x-www-form-urlencoded")]
            fuzz.send(endpoint, **parts)


def fuzz_by_chance(fuzz: Fuzz, endpoints: list[Endpoint]) -> None:
    """Hypothesis composes what the list above does not."""
    text = st.one_of(st.sampled_from(VALUES), st.binary(max_size=50), st.text(max_size=50).map(str.encode))
    pairs = st.dictionaries(st.sampled_from(field_names()), text, max_size=6)
    header = st.tuples(st.sampled_from(HEADERS), st.sampled_from(HEADER_VALUES))

    @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(endpoints), text, pairs, pairs, st.lists(header, max_size=4, unique_by=lambda one: one[0]))
    def send(
        endpoint: Endpoint,
        value: bytes,
        query: dict[str, bytes],
        form: dict[str, bytes],
        headers: list[tuple[str, bytes]],
    ) -> None:
        target = (filled(endpoint[1], value) + b"?" + encoded(query))[:TARGET_BYTES_MAX]
        fuzz.send(endpoint, target, fuzz.form(form) if endpoint[0] != "GET" else b"", headers)

    send()


@pytest.mark.parametrize(("visitor", "share"), [(visitor, n) for visitor in SHARES for n in range(SHARES[visitor])])
@pytest.mark.parametrize("engine", ENGINES)
def test_no_input_makes_an_error_of_ours(
    engine: str,
    visitor: str,
    share: int,
    routes: list[Endpoint],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = FieldReads(monkeypatch)
    with Site(engine) as site:
        assert len(routes) > 50
        fuzz = Fuzz(site, lambda: capsys.readouterr().err, reads, signed_in=visitor == "signed in")
        every = (
            SIGNED_OUT_EVERY if visitor == "signed out" else POSTGRES_EVERY if engine == "postgres" else SQLITE_EVERY
        )
        fuzz_systematically(fuzz, routes[share :: SHARES[visitor]], every=every)
        fuzz_by_chance(fuzz, routes)
        assert site.running.sell_packs is not None
        site.do(site.running.sell_packs.handle_all)
        fuzz.send(("GET", "/healthz"), b"/healthz")
        fuzz.client.close()
    assert fuzz.sent > 300
    assert not fuzz.faults, "\n".join(["", *fuzz.faults.values()])
