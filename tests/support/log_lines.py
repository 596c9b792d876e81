"""The lines of the request log, as a test reads them."""

from collections.abc import Sequence
from typing import Any

import msgspec

from tok0n.ports.log_lines import CountLine, RequestLine


class WrittenLines(list[dict[str, Any]]):
    """The written lines as JSON objects. Pass `add` to `RequestLog`."""

    def add(self, lines: Sequence[RequestLine | CountLine]) -> None:
        self.extend(msgspec.to_builtins(line) for line in lines)
