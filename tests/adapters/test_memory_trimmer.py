"""The heap is cleaned up when the process has grown, and not otherwise."""

import pytest

from tok0n.bootstrap.memory import GROWTH_BYTES_MIN, ROUNDS, MemoryTrimmer

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeGlibc:
    """Counts trims."""

    def __init__(self) -> None:
        self.trims = 0

    def malloc_trim(self, pad: int) -> None:
        assert pad == 0
        self.trims += 1


async def test_the_heap_is_cleaned_up_after_each_growth() -> None:
    glibc, resident = FakeGlibc(), [0]
    trimmer = MemoryTrimmer(glibc, resident_bytes=lambda: resident[0])
    for resident_bytes, trims in (
        (0, 0),
        (GROWTH_BYTES_MIN - 1, 0),
        *((GROWTH_BYTES_MIN, number + 1) for number in range(ROUNDS)),
        (2 * GROWTH_BYTES_MIN - 1, ROUNDS),
        (0, ROUNDS),
        (GROWTH_BYTES_MIN, ROUNDS + 1),
    ):
        resident[0] = resident_bytes
        await trimmer.trim()
        assert glibc.trims == trims


async def test_another_c_library_is_left_alone() -> None:
    trimmer = MemoryTrimmer(None)
    trimmer.limit_arenas()
    await trimmer.trim()
