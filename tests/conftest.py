"""What all tests share."""

import functools
import gc
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import CodeType

import jinja2
import pytest
from hypothesis import settings
from jinja2.bccache import Bucket

from support import postgres
from support.gateways import Running, running
from support.scripted_upstream import ScriptedUpstream
from tok0n.adapters.passwords import Argon2Passwords
from tok0n.bootstrap import services

settings.register_profile("local", deadline=None)  # other tests share the processors, so no example has a time limit
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True, scope="session")
def cheap_passwords() -> Iterator[None]:
    """Every gateway of this process hashes passwords with Argon2's least memory: it takes 0.1 ms instead of 36."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "Argon2Passwords", functools.partial(Argon2Passwords, memory_kib=8, passes=1))
        yield


class CompiledTemplates(jinja2.BytecodeCache):
    """Keeps the code of templates for all environments of this process."""

    def __init__(self) -> None:
        self._code: dict[str, CodeType | None] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._code.get(bucket.key)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[bucket.key] = bucket.code


@pytest.fixture(autouse=True, scope="session")
def shared_templates() -> Iterator[None]:
    """Every gateway of this process uses the same compiled templates. Compiling them takes longer than rendering."""
    make = functools.partialmethod(jinja2.Environment.__init__, bytecode_cache=CompiledTemplates())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jinja2.Environment, "__init__", make)
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An upstream that does what the test wants; at first it answers well."""
    async with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
async def gateway(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Running]:
    """A whole gateway in front of `upstream`."""
    async with running(tmp_path, upstream_url=upstream.base_url) as gateway:
        yield gateway


gc.set_threshold(10_000, 50, 50)
"""The modules and tests are half a million objects, which the garbage collector would otherwise visit very often."""

LONGEST = {"test_fuzz_every_route.py", "test_ledger_state_machine.py", "test_story.py", "test_widths.py"}
"""The files whose tests take longest, so that they run first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests: the last one to begin keeps one process busy when the others have ended."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """Modules and collected tests stay until the end, so the garbage collector needs not visit them again."""
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the databases, before pytest-xdist ends this process. In CI, a skipped test is a failure."""
    postgres.remove_shared_cluster()
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
