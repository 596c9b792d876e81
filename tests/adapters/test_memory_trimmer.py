"""The heap is trimmed when more of it has become free, and not otherwise."""

from types import SimpleNamespace

import pytest

from tok0n.bootstrap.memory import FREED_BYTES_MIN, MemoryTrimmer

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeGlibc:
    """Says how many bytes are free, and counts trims."""

    def __init__(self) -> None:
        self.free_bytes = 0
        self.trims = 0

    def mallinfo2(self) -> SimpleNamespace:
        return SimpleNamespace(free_bytes=self.free_bytes)

    def malloc_trim(self, pad: int) -> None:
        assert pad == 0
        self.trims += 1


async def test_the_heap_is_trimmed_once_for_each_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    glibc = FakeGlibc()
    monkeypatch.setattr("tok0n.bootstrap.memory._glibc", lambda: glibc)
    trimmer = MemoryTrimmer()
    for free_bytes, trims in (
        (FREED_BYTES_MIN - 1, 0),
        (FREED_BYTES_MIN, 1),
        (FREED_BYTES_MIN, 1),
        (2 * FREED_BYTES_MIN - 1, 1),
        (0, 1),
        (FREED_BYTES_MIN, 2),
    ):
        glibc.free_bytes = free_bytes
        await trimmer.trim()
        assert glibc.trims == trims


async def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tok0n.bootstrap.memory._glibc", lambda: None)
    trimmer = MemoryTrimmer()
    trimmer.limit_arenas()
    await trimmer.trim()
