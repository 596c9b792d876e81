"""Programs pinned to a core, and what the kernel says of them: CPU seconds, memory, how busy a core was."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

GATEWAY_CORE = "0"
"""For the server under test, alone."""

LOAD_CORE = "1"
"""For all else: wrk or our own client, the upstream, PostgreSQL and Redis, and this program."""

END_SECONDS_MAX = 30.0

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(command: Sequence[str | Path], *, core: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program on one core, ended by its own process id.

    It has a session of its own, so that Ctrl-C reaches only this program, which then ends its servers in order.
    """
    pinned = ["taskset", "-c", core, *map(str, command)]
    process: subprocess.Popen[bytes] = subprocess.Popen(pinned, start_new_session=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_seconds(pids: Sequence[int]) -> float:
    """What processes have used, with all their children, also those that have ended and were waited for."""
    return sum(_cpu_seconds(pid) for pid in pids)


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:  # it ended; its parent counts it from now on
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS_A_SECOND + sum(_cpu_seconds(int(child)) for child in children)


def cpu_ms(pids: Sequence[int]) -> float:
    """What processes and their children that still run have used, in milliseconds. More exact than `cpu_seconds`."""
    ms = 0.0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended
            ms += int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6
            ms += cpu_ms([*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())])
    return ms


def resident_mib(pid: int) -> float:
    """The memory of one process that is in RAM now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def most_resident_mib(pid: int) -> float:
    """The most memory of one process that was in RAM at once since it started."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10


def bytes_written(pid: int) -> int:
    """What a process has had written to disks."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


def core_seconds(core: str) -> tuple[float, float]:
    """How long a core has been busy, and how long it has been, since the machine started."""
    name = f"cpu{core} "
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(name))
    ticks = [int(field) for field in line.split()[1:9]]
    idle = ticks[3] + ticks[4]  # idle, and waiting for a disk
    return (sum(ticks) - idle) / _TICKS_A_SECOND, sum(ticks) / _TICKS_A_SECOND


class CoreWatch:
    """How busy the cores were since it was made."""

    def __init__(self) -> None:
        self._before = {core: core_seconds(core) for core in (GATEWAY_CORE, LOAD_CORE)}

    def busy(self) -> dict[str, float]:
        """The share of the time that each core was busy, 0 to 1."""
        shares = {}
        for core, (busy, total) in self._before.items():
            busy_now, total_now = core_seconds(core)
            shares[core] = (busy_now - busy) / max(total_now - total, 1 / _TICKS_A_SECOND)
        return shares
