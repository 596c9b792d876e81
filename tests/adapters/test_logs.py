"""The log never shows what a variable holds."""

import subprocess
import sys

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
