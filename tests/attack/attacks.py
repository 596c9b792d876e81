"""The attacks. Each sends what one client can send, within a bound in count and time, and says how the server answered.

An attack withholds the last byte of every body until all the bodies are under way, because that is when the server
holds most of them.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import httpx

from attack.upstream import LONG, LONG_SECONDS
from attack.wire import ATTACK_ADDRESS, Wire, connect, connections, each, outcomes, tally
from support.http import chat_body
from support.visitor import SAME_ORIGIN
from tok0n.services.forms import new_form_id

MIB = 2**20
CHAT = "/v1/chat/completions"
HOLD_SECONDS = 2.0
FORM = "content-type: application/x-www-form-urlencoded\r\nsec-fetch-site: same-origin\r\n"


class Target(NamedTuple):
    """The server under attack, and what the attackers own there."""

    host: str
    port: int
    broke_key: str
    """The API key of an account without tokens."""
    rich_key: str
    """The API key of an account with tokens."""
    cookies: dict[str, str]
    """The browser of somebody who is signed in."""

    @property
    def url(self) -> str:
        """The address of the pages."""
        return f"http://{self.host}:{self.port}"


class Attack(NamedTuple):
    """An attack, and the server that it needs: `demo` serves a simulated Stripe too. `peak_mib_max` is its bound."""

    name: str
    run: Callable[[Target], Awaitable[str]]
    command: str = "serve"
    peak_mib_max: int = 256


class StaysOpenError(Exception):
    """The server does not close a connection that it must close."""


def post(path: str, body: bytes, headers: str = "") -> bytes:
    """A POST as it goes over the wire."""
    return f"POST {path} HTTP/1.1\r\nhost: a\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body


def chat(target: Target, content: bytes) -> bytes:
    """A chat request of the account without tokens; `content` is JSON text."""
    body = b'{"model":"demo","max_completion_tokens":50,"messages":[{"role":"user","content":' + content + b"}]}"
    return post(CHAT, body, f"authorization: Bearer {target.broke_key}\r\ncontent-type: application/json\r\n")


async def flood(target: Target, requests: list[bytes]) -> str:
    """Send each request on a connection of its own, all but its last byte; then, when all have come, the rest."""
    async with connections(target.host, target.port, len(requests)) as wires:
        views = {wire: memoryview(request) for wire, request in zip(wires, requests, strict=False)}
        await each(wires, lambda wire: wire.send(views[wire][:-1]))
        await asyncio.sleep(HOLD_SECONDS)
        await each(wires, lambda wire: wire.send(views[wire][-1:]))
        missing = len(requests) - len(wires)
        return await outcomes(wires) + (f", {missing} x not accepted" if missing else "")


async def pipelining(target: Target) -> str:
    """60 connections send 256 KiB of small requests each, and read nothing for a while."""
    request = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"
    pile = request * (256 * 1024 // len(request))
    async with connections(target.host, target.port, 60) as wires:
        for wire in wires:
            wire.stop_reading()
        sending = [asyncio.create_task(wire.send(pile)) for wire in wires]
        await asyncio.wait(sending, timeout=HOLD_SECONDS * 3)
        await asyncio.sleep(HOLD_SECONDS)
        for task in sending:
            task.cancel()
        return f"{sum(wire.sent for wire in wires) / MIB:.0f} MiB taken"


async def big_bodies(target: Target) -> str:
    """200 bodies of 4 MiB from an account with zero tokens."""
    return await flood(target, [chat(target, b'"' + b"a" * (4 * MIB - 400) + b'"')] * 200)


async def big_forms(target: Target) -> str:
    """1,000 forms of 500 KiB."""
    return await flood(target, [post("/sign-in", b"password=" + b"a" * 500 * 1024, FORM)] * 1_000)


async def big_heads(target: Target) -> str:
    """2,000 heads of 60 KiB."""
    head = b"GET /healthz HTTP/1.1\r\nhost: a\r\n" + b"".join(b"x-%d: %s\r\n" % (n, b"a" * 1_000) for n in range(60))
    return await flood(target, [head + b"\r\n"] * 2_000)


async def trailers(target: Target) -> str:
    """100 MiB of trailers on one unauthenticated connection."""
    async with await connect(target.host, target.port) as wire:
        head = f"POST /sign-in HTTP/1.1\r\nhost: a\r\n{FORM}transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
        await wire.send(head.encode())
        piece = b"".join(b"x-%d: %s\r\n" % (n, b"a" * 1_000) for n in range(64))
        while wire.sent < 100 * MIB and await wire.send(piece):
            pass
        await wire.send(b"\r\n")
        return f"{wire.sent / MIB:.1f} MiB taken, {await wire.outcome()}"


async def slow_form(target: Target) -> str:
    """A form at one byte per 50 s. The rule is 1 KiB/s over any 10 s, so it must be closed before a second byte."""
    async with await connect(target.host, target.port) as wire:
        await wire.send(post("/sign-in", b"a" * 1_000, FORM)[:-999])
        seconds = await wire.closed_within(25)
        if seconds is None:
            raise StaysOpenError("the slow form is still open after 25 s")
        return f"closed after {seconds:.1f} s"


async def long_passwords(target: Target) -> str:
    """40 sign-ups with passwords of 72 characters, whose strength is slow to judge."""
    return await _forms(
        target, "/sign-up", [{"email": f"p{n}@example.com", "password": _slow_password(n)} for n in range(40)]
    )


async def nonsense_links(target: Target) -> str:
    """40 posts of `/set-up` with a nonsense link."""
    fields = [{"link": "nonsense", "email": f"s{n}@example.com", "password": _slow_password(n)} for n in range(40)]
    return await _forms(target, "/set-up", fields, page="/sign-in")


def _slow_password(seed: int) -> str:
    chance = random.Random(seed)
    words = ["p4$$w0rd", "dr4g0n", "1234321", "qwertyui", "aaaa", "20262026"]
    return "".join(chance.choice(words) for _ in range(20))[:72]


async def combining_characters(target: Target) -> str:
    """20 bodies of 4 MiB of combining characters from an account without tokens."""
    marks = "\u0315\u0300".encode()
    return await flood(target, [chat(target, b'"a' + marks * (4 * MIB // len(marks) - 200) + b'"')] * 20)


async def buying(target: Target) -> str:
    """200 *Buy* posts at once."""
    said = await _forms(target, "/dashboard/buy", [{"pack": "starter"}] * 200, signed_in=True)
    async with _browser(target, signed_in=True) as browser:
        orders = set(re.findall(r"ord_\w+", (await browser.get("/dashboard/orders")).text))
    return f"{said}; {len(orders)} orders on the first page"


async def creating_keys(target: Target) -> str:
    """160 parallel *Create key* posts."""
    said = await _forms(target, "/dashboard/keys", [{"name": f"k{n}"} for n in range(160)], signed_in=True)
    async with _browser(target, signed_in=True) as browser:
        keys = set(re.findall(r"/dashboard/keys/(\w+)/revoke", (await browser.get("/dashboard/keys")).text))
    return f"{said}; {len(keys)} keys"


async def tiny_chunks(target: Target) -> str:
    """20 chunked bodies of 256 KiB, in chunks of one byte."""
    head = f"POST {CHAT} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {target.broke_key}\r\n"
    request = head.encode() + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * (256 * 1024) + b"0\r\n\r\n"
    return await flood(target, [request] * 20)


async def slow_heads(target: Target) -> str:
    """500 heads, of which one byte comes each second."""
    async with connections(target.host, target.port, 500) as wires:
        await each(wires, lambda wire: wire.send(b"GET / HTTP/1.1\r\nx: "))

        async def drip(wire: Wire) -> bool:
            for _ in range(13):
                if not await wire.send(b"a") or await wire.closed_within(1) is not None:
                    return True
            return False

        return f"{sum(map(bool, await each(wires, drip)))} of {len(wires)} closed within 13 s"


async def many_connections(target: Target) -> str:
    """3,000 connections of one client, where 2,048 are allowed."""
    async with connections(target.host, target.port, 3_000) as wires:
        await asyncio.sleep(HOLD_SECONDS)
        ended = [await wire.closed_within(0.001) is not None for wire in wires]
        return f"{len(wires) - sum(ended):,} of 3,000 stay open"


async def unread_answers(target: Target) -> str:
    """400 connections ask for a long answer 100 times each and read nothing."""
    pile = b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n" * 100
    async with connections(target.host, target.port, 400) as wires:
        for wire in wires:
            wire.stop_reading()
        await each(wires, lambda wire: wire.send(pile))
        await asyncio.sleep(HOLD_SECONDS * 3)
        return f"{len(wires)} connections"


async def unread_streams(target: Target) -> str:
    """1,000 clients ask for a stream of 2 MiB and stop reading."""
    head = f"authorization: Bearer {target.rich_key}\r\n"
    request = post(CHAT, chat_body(LONG, stream=True), head)
    async with connections(target.host, target.port, 1_000) as wires:
        for wire in wires:
            wire.stop_reading()
        await each(wires, lambda wire: wire.send(request))
        await asyncio.sleep(LONG_SECONDS + HOLD_SECONDS * 3)
        for wire in wires:
            wire.go_on_reading()
        return await outcomes(wires)


async def deep_json(target: Target) -> str:
    """20 chat bodies of 4 MiB, nested as deep as they are long."""
    return await flood(target, [chat(target, b"[" * (4 * MIB - 400))] * 20)


async def _forms(
    target: Target, path: str, forms: list[dict[str, str]], *, page: str | None = None, signed_in: bool = False
) -> str:
    """Send all the forms at once from one browser, each as if it had been opened in a tab of its own."""
    async with _browser(target, signed_in=signed_in) as browser:
        shown = (await browser.get(page or path)).text
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', shown))

        async def send(fields: dict[str, str]) -> object:
            try:
                answer = await browser.post(path, data=hidden | {"form_id": new_form_id()} | fields)
            except httpx.HTTPError as error:
                return type(error).__name__
            return answer.status_code

        return tally(await asyncio.gather(*map(send, forms)))


def _browser(target: Target, *, signed_in: bool) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=target.url,
        cookies=target.cookies if signed_in else None,
        headers=SAME_ORIGIN,
        timeout=120,
        transport=httpx.AsyncHTTPTransport(local_address=ATTACK_ADDRESS, limits=httpx.Limits(max_connections=200)),
    )


ATTACKS = [
    Attack("60 connections pipeline 256 KiB each", pipelining),
    Attack("200 bodies of 4 MiB, account without tokens", big_bodies),
    Attack("1,000 forms of 500 KiB", big_forms),
    Attack("2,000 heads of 60 KiB", big_heads),
    Attack("100 MiB of trailers on one connection", trailers),
    Attack("a form at one byte per 50 s", slow_form),
    Attack("40 sign-ups with 72-character passwords", long_passwords),
    Attack("40 posts of /set-up with nonsense links", nonsense_links),
    Attack("20 bodies of 4 MiB of combining characters", combining_characters),
    Attack("200 Buy posts at once", buying, command="demo"),
    Attack("160 parallel Create key posts", creating_keys),
    Attack("20 chunked bodies in one-byte chunks", tiny_chunks),
    Attack("500 heads at one byte per second", slow_heads),
    Attack("3,000 connections of one client", many_connections),
    Attack("400 clients that do not read", unread_answers),
    Attack("1,000 clients that stop reading streams", unread_streams, peak_mib_max=200),
    Attack("20 deeply nested JSON bodies of 4 MiB", deep_json),
]
