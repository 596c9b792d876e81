"""Attack a running server, one attack after another, each on a server of its own.

    make attack
    make attack ARGS="--only forms"                   the attacks whose name contains this
    make attack ARGS="--table /tmp/attack.md"         write the table as Markdown too

For each attack: the server's memory before, at its peak and 30 s after, and the 99th percentile of an honest client's
times meanwhile as a multiple of its own without the attack. The server, the honest client and the attacker are three
processes. It fails when the honest client gets no answer, when memory grows by 256 MiB or more
(200 in the attack by streams), or when it does not
return to within 30 % of where it was. Times are only shown. The 30 s of one server run while the next is attacked.

The raw requests that only try to confuse a proxy are in tests/proxies/: `make test-proxies` sends them.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from attack.attacks import ATTACKS, Attack, StaysOpenError, Target
from attack.memory import Peak, resident_mib
from support.gateways import ServerProcess, funded, tok0n_json
from support.mailbox import Mailbox
from support.users import PASSWORD, mail_settings
from support.visitor import Visitor
from tok0n.bootstrap.open_files import allow_many_files

AFTER_SHARE_MAX = 1.3
AFTER_SECONDS = 30
BASELINE_SECONDS = 4
ATTACK_SECONDS_MAX = 150
P99_SHARE_ALLOWED = 10
HONEST_EMAIL, BROKE_EMAIL, RICH_EMAIL = "a@example.com", "broke@example.com", "rich@example.com"
TOKENS = 1_000_000_000
STREAMING = "[server]\nstreaming = true\n"
WARM_UP = ("/", "/sign-in", "/sign-up", "/docs", "/openapi.json", "/v1/models")


class Row(msgspec.Struct, kw_only=True):
    """What one attack did."""

    name: str
    outcome: str = ""
    before_mib: float = 0
    peak_mib: float = 0
    after_mib: float = 0
    slower: float = 0
    seconds: float = 0
    failures: list[str] = msgspec.field(default_factory=list)

    def judge(self, attack: Attack) -> None:
        """Compare the memory with its bounds."""
        if self.peak_mib - self.before_mib >= attack.peak_mib_max:
            self.failures.append(f"memory peaked at +{self.peak_mib - self.before_mib:.0f} MiB")
        if self.after_mib > self.before_mib * AFTER_SHARE_MAX:
            self.failures.append(f"memory stayed at +{100 * (self.after_mib / self.before_mib - 1):.0f} %")


class HonestClient:
    """Drives `attack.honest`, which runs for as long as the block lasts."""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "attack.honest"),
            cwd=Path(__file__).parents[1],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**24,
        )
        self.upstream_url: str = (await self._read())["upstream_url"]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    def attend(self, target: Target, api_key: str | None) -> None:
        """Begin to ask this server."""
        self._write({"command": "target", "host": target.host, "port": target.port, "key": api_key})

    async def report(self) -> tuple[dict[str, float], list[str]]:
        """Return the 99th percentile of each kind of request since the last report, and what failed."""
        self._write({"command": "report"})
        told = await self._read()
        return {name: percentile_99(seconds) for name, seconds in told["seconds"].items()}, told["failures"]

    async def rest(self) -> None:
        """Ask nothing until the next server."""
        self._write({"command": "rest"})
        await self._read()

    def _write(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def _read(self) -> Any:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the honest client ended"
        return json.loads(line)


def percentile_99(seconds: list[float]) -> float:
    """The time that one request in a hundred exceeds."""
    return sorted(seconds)[int(len(seconds) * 0.99)]


class Site(msgspec.Struct, kw_only=True):
    """What each server starts from: settings, a database with accounts, and the browser of its operator."""

    folder: Path
    honest_key: str
    broke_key: str
    rich_key: str
    cookies: dict[str, str]


async def make_site(folder: Path, upstream_url: str, mailbox: Mailbox) -> Site:
    """Set a server up once; every attack gets a copy of it."""
    honest_key = await funded(folder, upstream_url=upstream_url, tokens=TOKENS, more=mail_settings(mailbox) + STREAMING)
    tok0n_json("accounts", "create", BROKE_EMAIL, cwd=folder)
    tok0n_json("accounts", "create", RICH_EMAIL, "--tokens", str(TOKENS), cwd=folder)
    broke_key, rich_key = (
        tok0n_json("keys", "create", email, cwd=folder)["api_key"] for email in (BROKE_EMAIL, RICH_EMAIL)
    )
    async with ServerProcess(folder) as server, Visitor(url_of(server)) as operator:
        page = server.ready["set_up_url"].removeprefix(url_of(server))
        await operator.post("/set-up", {"email": "op@example.com", "password": PASSWORD}, page=page)
        cookies = dict(operator.cookies)
    return Site(folder=folder, honest_key=honest_key, broke_key=broke_key, rich_key=rich_key, cookies=cookies)


def url_of(server: ServerProcess) -> str:
    """The address of the server's pages."""
    return server.base_url.removesuffix("/v1")


@contextlib.asynccontextmanager
async def serving(attack: Attack, site: Site, folder: Path) -> AsyncIterator[tuple[ServerProcess, Target, str | None]]:
    """Start a server for one attack. Gives it, what the attacker knows, and the honest client's key.

    Without a key the honest client only reads pages.
    """
    if attack.command == "demo":
        folder.mkdir()
        async with ServerProcess(folder, "--data", str(folder / "data"), command="demo") as server:
            async with Visitor(url_of(server)) as visitor:
                await visitor.sign_in(server.ready["email"], server.ready["password"])
                cookies = dict(visitor.cookies)
            yield server, target_of(server, site, cookies), None  # the demo's limits are low
    else:
        shutil.copytree(site.folder, folder)
        async with ServerProcess(folder) as server:
            yield server, target_of(server, site, site.cookies), site.honest_key


def target_of(server: ServerProcess, site: Site, cookies: dict[str, str]) -> Target:
    """What an attacker knows of a server."""
    address = urlsplit(server.base_url)
    assert address.hostname is not None
    assert address.port is not None
    return Target(
        host=address.hostname,
        port=address.port,
        broke_key=site.broke_key,
        rich_key=site.rich_key,
        cookies=cookies,
    )


async def warm_up(target: Target) -> None:
    """Use what loads on first use, so that it does not count as the attack's memory."""
    async with Visitor(target.url) as visitor:
        for path in WARM_UP:
            await visitor.get(path)
        await visitor.post("/sign-up", {"email": "warm@example.com", "password": PASSWORD})


async def measure(attack: Attack, site: Site, honest: HonestClient, folder: Path, *, attacked: asyncio.Event) -> Row:
    """Attack once. Sets `attacked` when only the wait for the server's memory is left."""
    row = Row(name=attack.name)
    async with serving(attack, site, folder) as (server, target, api_key):
        pid = server.process.pid
        await warm_up(target)
        honest.attend(target, api_key)
        await asyncio.sleep(1)
        await honest.report()
        await asyncio.sleep(BASELINE_SECONDS)
        baseline, row.failures = await honest.report()
        row.before_mib = resident_mib(pid)
        began = time.monotonic()
        with Peak(pid) as peak:  # the server may still work on what it was sent when the attacker is done
            await run(attack, target, row)
            meanwhile, failures = await honest.report()
            row.seconds = time.monotonic() - began
            row.failures += failures
            row.slower = max(meanwhile[name] / baseline[name] for name in baseline.keys() & meanwhile.keys())
            await honest.rest()
            attacked.set()
            await asyncio.sleep(AFTER_SECONDS)
        row.peak_mib = peak.mib
        row.after_mib = resident_mib(pid)
        if server.process.returncode is not None:
            row.failures.append("the server ended")
        if tracebacks := server.log.read_bytes().count(b"Traceback"):
            row.outcome += f"; {tracebacks} tracebacks in the log"
    row.judge(attack)
    return row


async def run(attack: Attack, target: Target, row: Row) -> None:
    """Attack within the time that there is."""
    try:
        async with asyncio.timeout(ATTACK_SECONDS_MAX):
            row.outcome = await attack.run(target)
    except TimeoutError:
        row.outcome = f"stopped after {ATTACK_SECONDS_MAX} s"
    except StaysOpenError as error:
        row.outcome = str(error)
        row.failures.append(str(error))


async def measure_all(attacks: list[Attack]) -> list[Row]:
    """Attack with each in turn; only the waits for memory overlap."""
    with tempfile.TemporaryDirectory(prefix="tok0n-attack-") as name:
        async with HonestClient() as honest, Mailbox() as mailbox, asyncio.TaskGroup() as group:
            template = Path(name) / "template"
            template.mkdir()
            site = await make_site(template, honest.upstream_url, mailbox)
            tasks = []
            for number, attack in enumerate(attacks):
                say(f"{attack.name} …")
                attacked = asyncio.Event()
                folder = Path(name) / str(number)
                task = group.create_task(measure(attack, site, honest, folder, attacked=attacked))
                waiting = asyncio.create_task(attacked.wait())
                await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                tasks.append(task)
            say("waiting for the memory of the last …")
        return [task.result() for task in tasks]


def say(text: str) -> None:
    """Tell the user who waits."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def table(rows: list[Row]) -> str:
    """The results as Markdown."""
    lines = [
        "| attack | before | peak | after 30 s | honest p99 | attack took | server's answers | |",
        "|---|--:|--:|--:|--:|--:|---|---|",
    ]
    for row in rows:
        verdict = "FAILED: " + "; ".join(row.failures) if row.failures else "ok"
        slow = "" if row.slower <= P99_SHARE_ALLOWED else " (over 10)"
        lines.append(
            f"| {row.name} | {row.before_mib:.0f} MiB | {row.peak_mib - row.before_mib:+.0f} MiB"
            f" | {100 * (row.after_mib / row.before_mib - 1):+.0f} % | {row.slower:.1f} times{slow}"
            f" | {row.seconds:.1f} s | {row.outcome} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Attack, print the table, and exit with 1 when a bound was exceeded."""
    parser = argparse.ArgumentParser(
        prog="make attack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="run the attacks whose name contains this")
    parser.add_argument("--table", type=Path, help="write the table to this file too")
    options = parser.parse_args()
    attacks = [attack for attack in ATTACKS if (options.only or "").lower() in attack.name.lower()]
    if not attacks:
        parser.error(f"no attack's name contains {options.only!r}")
    allow_many_files()
    began = time.monotonic()
    rows = asyncio.run(measure_all(attacks))
    shown = table(rows)
    say(f"\n{shown}")
    if options.table is not None:
        options.table.write_text(shown)
    failed = [row.name for row in rows if row.failures]
    say(f"{len(rows)} attacks in {time.monotonic() - began:.0f} s, {len(failed)} over a bound")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
