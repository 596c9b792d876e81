"""The log never shows what a variable holds, and who logs never fails."""

import subprocess
import sys

import pytest

SCRIPT = """
import structlog
from tok0n.adapters import logs
logs.configure(level="info", style="{style}")
def work():
    prompt = "sk-" + "secret"
    raise ValueError("it broke")
try:
    work()
except ValueError:
    structlog.get_logger().exception("unexpected_error")
"""


def logged(style: str) -> str:
    command = [sys.executable, "-c", SCRIPT.format(style=style)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def test_a_traceback_has_no_variables_in_either_style() -> None:
    for style in ("console", "json"):
        shown = logged(style)
        assert "it broke" in shown
        assert "sk-secret" not in shown


UNREAD = """
import contextlib, logging, os, sys, structlog
from tok0n.adapters import logs
from tok0n.ports.log_lines import CountLine
write = logs.configure(level="info", style="{style}")
reader, writer = os.pipe()
os.dup2(writer, 2)
os.close(reader)
structlog.get_logger().error("nobody_reads_this")
logging.getLogger("library").error("nor this")
with contextlib.suppress(OSError):  # what could not be written is tried once more
    sys.stderr.close()
structlog.get_logger().error("nor_this")
sys.stderr = None
structlog.get_logger().error("nor_that")
write([CountLine(event="overloaded", timestamp="1970-01-01T00:00:00.000Z", rejected=1)])
print("went on")
"""


@pytest.mark.parametrize("style", ["auto", "console", "json"])
def test_who_logs_goes_on_when_nobody_reads(style: str) -> None:
    command = [sys.executable, "-c", UNREAD.format(style=style)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "went on\n"
