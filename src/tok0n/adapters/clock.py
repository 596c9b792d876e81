"""The system's clocks."""

import time


class SystemClock:
    """The `Clock` port."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    monotonic = staticmethod(time.monotonic)  # Without a Python frame, because each request calls it six times.
