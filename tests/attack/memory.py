"""The resident memory of a server and its child processes."""

import contextlib
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

PERIOD_SECONDS = 0.02
MIB = 2**20
_PAGE_BYTES = 4096


def resident_mib(pid: int) -> float:
    """Return what a process and its children have in RAM; 0 when it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return pages * _PAGE_BYTES / MIB + sum(resident_mib(int(child)) for child in children)


class Peak:
    """The most memory that a server used in the block: sampled for the whole tree, exact for the process itself."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.mib = 0.0

    def __enter__(self) -> Self:
        with contextlib.suppress(PermissionError):
            Path(f"/proc/{self._pid}/clear_refs").write_text("5")  # begins a new high-water mark: proc(5)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self.mib = max(self.mib, self._high_water_mib())

    def _sample(self) -> None:
        while not self._ended.wait(PERIOD_SECONDS):
            self.mib = max(self.mib, resident_mib(self._pid))

    def _high_water_mib(self) -> float:
        try:
            lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        except FileNotFoundError:
            return 0.0
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
