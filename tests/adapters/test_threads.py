"""On Linux, threads that read and render pages have a lower priority than threads that serve requests."""

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.gateways import ServerProcess, write_settings
from support.http import Connection, InstantUpstream
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.adapters.threads import BACKGROUND_NICENESS, NICENESS_MAX, lower_priority
from tok0n.bootstrap.serving import (
    SERVING_GARBAGE_THRESHOLD,
    lower_priority_of_threads,
    shorten_garbage_collections,
)

pytestmark = pytest.mark.anyio
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")


def _niceness(_: object = None) -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def _lowered(*steps: int) -> int:
    for niceness in steps:
        lower_priority(niceness)
    return _niceness()


@on_linux
def test_only_the_calling_thread_gets_a_lower_priority() -> None:
    before = _niceness()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_lowered, 2, 3).result() == min(NICENESS_MAX, before + 5)
        assert pool.submit(_lowered, NICENESS_MAX).result() == NICENESS_MAX
    assert _niceness() == before


def test_a_system_that_refuses_leaves_the_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "nice", refuse)
    lower_priority(BACKGROUND_NICENESS)


@on_linux
async def test_reads_of_pages_have_a_lower_priority_than_commits_and_reads_of_requests(tmp_path: Path) -> None:
    normal = _niceness()
    store = SqliteStore(tmp_path / "tok0n.db", serving=False)
    assert await store.read(_niceness) == min(NICENESS_MAX, normal + BACKGROUND_NICENESS)
    assert await store.write(_niceness) == normal
    assert await store.read_hot(_niceness) == normal
    await store.aclose()


@on_linux
async def test_a_server_renders_in_threads_of_a_lower_priority() -> None:
    normal = _niceness()
    lower_priority_of_threads()
    assert await asyncio.to_thread(_niceness) == min(NICENESS_MAX, normal + BACKGROUND_NICENESS)
    assert _niceness() == normal


@on_linux
async def test_only_some_threads_of_a_server_have_a_lower_priority(tmp_path: Path) -> None:
    normal = _niceness()
    async with InstantUpstream() as upstream:
        write_settings(tmp_path, upstream_url=upstream.base_url)
        async with ServerProcess(tmp_path) as server, Connection(server.base_url) as connection:
            assert (await connection.request("GET", "/sign-in")).status == 200
            threads = [int(path.name) for path in Path(f"/proc/{server.process.pid}/task").iterdir()]
            priorities = {thread: os.getpriority(os.PRIO_PROCESS, thread) for thread in threads}
    assert set(priorities.values()) == {normal, min(NICENESS_MAX, normal + BACKGROUND_NICENESS)}
    assert priorities[server.process.pid] == normal, "the event loop"


@pytest.fixture
def own_garbage_settings() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


@pytest.mark.usefixtures("own_garbage_settings")
def test_a_server_collects_garbage_more_often_than_during_its_start() -> None:
    gc.set_threshold(50_000)
    shorten_garbage_collections()
    assert gc.get_threshold()[0] == SERVING_GARBAGE_THRESHOLD
    assert gc.get_freeze_count() > 0
