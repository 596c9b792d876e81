"""The docs are true: links lead somewhere, tables agree with the code, and the README's commands run as written."""

import asyncio
import json
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from support.chat_streams import request_of
from support.gateways import ServerProcess, environment, tok0n, tok0n_json
from tok0n.adapters.stripe import EVENT_TYPES
from tok0n.api.errors import STATUSES
from tok0n.api.openapi import document
from tok0n.cli import main
from tok0n.domain.endpoints import ENDPOINTS
from tok0n.domain.endpoints.chat_stream import KEEP_ALIVE, ChatStreamReader
from tok0n.domain.endpoints.error_shapes import OPENAI_TYPES
from tok0n.domain.errors import UpstreamFailed
from tok0n.web.public.guide import VALUE, WRITTEN_BASE_URL

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def commands(group: click.Group, path: str = "tok0n") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_error_table_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \| `(\w+)`", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    expected = {code: (status, OPENAI_TYPES[code]) for code, status in STATUSES.items()}
    assert {code: (int(status), kind) for status, code, kind in rows} == expected


def test_every_command_is_documented_and_every_documented_one_is_there() -> None:
    documented = re.findall(r"^\| `(tok0n [a-z]+(?: [a-z]+)?)", (ROOT / "docs/cli.md").read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(commands(main))


def test_the_endpoints_page_lists_every_endpoint() -> None:
    page = (ROOT / "docs/guide/endpoints.md").read_text()
    listed = re.findall(r"^\| `([A-Z]+) (/v1/[^`]+)`", page, re.MULTILINE)
    described = [(method.upper(), path) for path, item in document("", ENDPOINTS)["paths"].items() for method in item]
    assert sorted(map(_without_names, listed)) == sorted(map(_without_names, described))


def test_the_endpoints_page_lists_every_field() -> None:
    page = (ROOT / "docs/guide/endpoints.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| (.+) \|$", VALUE.sub(r"\2", page), re.MULTILINE)
    fields = document(is_streaming=True)["components"]["schemas"]["ChatRequest"]["properties"]
    assert listed == [(name, _accepted(schema)) for name, schema in fields.items()]


def _accepted(schema: dict[str, Any]) -> str:
    """The values that a field accepts, in words. Null, which counts as absent, is left out."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(filter(None, map(_accepted, schema["anyOf"]))))
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"] if value is not None)
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "null" in types[:1]:
        return ""
    low, high = schema.get("minimum"), schema.get("maximum")
    most = schema.get("maxLength", schema.get("maxItems", schema.get("maxProperties")))
    unit = {"string": "characters", "array": "items", "object": "members"}.get(types[0], "")
    limits = [
        "" if low is None else f"{low} or more" if high is None else f"{low} to {high}",
        "" if most is None else f"at most {most} {unit}",
    ]
    return ", ".join(filter(None, [{"array": "list"}.get(types[0], types[0]), *limits]))


def _without_names(endpoint: tuple[str, str]) -> str:
    """An endpoint without the names of its parameters: readers see {id}, and programs {request_id}."""
    return re.sub(r"\{\w+\}", "{}", " ".join(endpoint))


def test_decisions_fit_on_a_screen() -> None:
    for page in (ROOT / "docs/adr").glob("*.md"):
        assert len(page.read_text().splitlines()) <= 40, page


def test_what_compose_mounts_and_builds_is_there_and_its_settings_are_good(tmp_path: Path) -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())]
    assert {"./deploy/tok0n.toml", "./deploy/nginx.conf"} <= set(mounted)
    assert all((ROOT / path).is_file() for path in mounted if path.startswith("./"))
    assert (ROOT / services["migrate"]["build"]["dockerfile"]).is_file()
    assert {"gateway", "postgres", "valkey", "balancer"} <= set(services)
    env = {"DATABASE_URL": services["gateway"]["environment"]["DATABASE_URL"]}
    assert env["DATABASE_URL"] == services["migrate"]["environment"]["DATABASE_URL"]
    done = tok0n("config", "check", "--config", ROOT / "deploy" / "tok0n.toml", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stdout


def test_the_payments_page_names_every_event_and_its_settings_are_good(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "payments.md").read_text()
    named = set(re.findall(r"`((?:checkout|charge|payment_intent|refund)\.[a-z_.]+)`", page))
    assert named == set(EVENT_TYPES)
    shown = "\n".join(textwrap.dedent(block) for block in re.findall(r" *```toml\n(.*?)```", page, re.DOTALL))
    (tmp_path / "tok0n.toml").write_text(shown)
    (tmp_path / ".env").write_text("STRIPE_SECRET_KEY=sk_test_1\nSTRIPE_WEBHOOK_SECRET=whsec_1\n")
    done = tok0n("config", "check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    without = tok0n("config", "check", cwd=tmp_path, env={"STRIPE_WEBHOOK_SECRET": " "})
    assert (without.returncode, "webhook_secret" in without.stdout + without.stderr) == (2, True)


@pytest.mark.anyio
async def test_the_readmes_snippets_run_as_written(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    (curl,) = (block for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) if "curl" in block)
    (python,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    async with ServerProcess(tmp_path, "--data", str(tmp_path / "data"), command="demo") as demo:
        env = environment({"TOK0N_BASE_URL": demo.ready["base_url"], "TOK0N_API_KEY": demo.ready["api_key"]})
        assert set(demo.ready) == {"base_url", "api_key", "dashboard_url", "email", "password"}
        curled = await run(["bash", "-c", curl], env)
        assert curled.startswith("HTTP/1.1 200 OK")
        assert "x-tok0n-charged: " in curled
        spoken = await run([str(ROOT / ".venv/bin/python"), "-c", python], env)
        assert "simulated model" in spoken
        config = str(tmp_path / "data" / "tok0n.toml")
        audited = await asyncio.to_thread(tok0n_json, "ledger", "audit", "--config", config, cwd=tmp_path)
        assert (audited["ok"], audited["requests"]) == (True, 2)
        assert await demo.stop() == 0


@pytest.mark.anyio
async def test_the_streaming_pages_snippets_run_as_written(tmp_path: Path) -> None:
    page = (ROOT / "docs/guide/streaming.md").read_text()
    (curl,) = (block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "curl" in block)
    (python,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (last_chunk,) = map(json.loads, re.findall(r"```json\n(.*?)```", page, re.DOTALL))
    async with ServerProcess(tmp_path, "--streaming", "--data", str(tmp_path / "data"), command="demo") as demo:
        env = environment({"TOK0N_API_KEY": demo.ready["api_key"]})
        *_, last, done, _ = (await run(["bash", "-c", curl.replace(WRITTEN_BASE_URL, demo.base_url)], env)).split(
            "\n\n"
        )
        assert done == "data: [DONE]"
        chunk = json.loads(last.removeprefix("data: "))
        assert (chunk["choices"], chunk["usage"] | last_chunk["usage"]) == (last_chunk["choices"], chunk["usage"])
        python = python.replace(WRITTEN_BASE_URL, demo.base_url)
        spoken = await run([str(ROOT / ".venv/bin/python"), "-c", python], env)
        assert "simulated model" in spoken
        assert spoken.endswith("charged: 65 left: 999870\n")
        assert await demo.stop() == 0


def test_the_streaming_page_shows_the_events_that_the_server_sends() -> None:
    page = (ROOT / "docs/guide/streaming.md").read_text()
    error = UpstreamFailed("The upstream provider timed out.", detail="")
    reader = ChatStreamReader(request_of(), event_bytes_max=1, scrub=str)
    event = reader.render_failure(error, request_id="req_1").decode().rstrip()
    assert f"```\n{event}\n```" in page
    assert f"```\n{KEEP_ALIVE.decode()}```" in page
    documented = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert set(documented) <= set(document(is_streaming=True)["components"]["schemas"]["Receipt"]["properties"])
    assert len(documented) == 3


@pytest.mark.anyio
@pytest.mark.parametrize("streaming", [False, True])
async def test_what_the_demo_prints_works_when_pasted(tmp_path: Path, *, streaming: bool) -> None:
    demo = await asyncio.create_subprocess_exec(
        *(str(ROOT / ".venv/bin/tok0n"), "demo", "--port", "0", *(["--streaming"] if streaming else [])),
        cwd=tmp_path,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert demo.stdout is not None
    try:
        printed = (await demo.stdout.readuntil(b"Stop with Ctrl+C.")).decode()
        curl = printed[printed.index("export ") : printed.index("Or with the official SDK")]
        assert (await run(["bash", "-c", curl], environment())).startswith("HTTP/1.1 200 OK")
        path = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
        snippets = re.findall(r"^python3 - .*?^END$", printed, re.DOTALL | re.MULTILINE)
        assert len(snippets) == 1 + streaming
        for python in snippets:
            assert "simulated model" in await run(["bash", "-c", python], environment({"PATH": path}))
        if streaming:
            exports = curl[: curl.index("\n\n")]
            stream = printed[printed.index("curl -N ") : printed.index(snippets[1])]
            events = await run(["bash", "-c", f"{exports}\n{stream}"], environment())
            assert '"tok0n":{"reserved":' in events
            assert events.endswith("data: [DONE]\n\n")
        audit = printed.split("accounted for:")[1].split("\n")[0]
        assert "0 differences" in await run(["bash", "-c", audit], environment({"PATH": path}))
    finally:
        demo.terminate()
        assert await demo.wait() == 0


async def run(command: list[str], env: dict[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()
