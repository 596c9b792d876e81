"""The figures as a table for users and as JSON for programs, with the machine that they are from."""

import json
import os
import platform
import re
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import Result

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _first_line("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"),
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "nginx": _first_line("nginx", "-v"),
        "postgres": _first_line("psql", "--version"),
        "redis": _first_line("redis-server", "--version"),
        "wrk": _first_line("wrk", "-v"),
    }


def write(results: Mapping[str, Result], facts: dict[str, Any], seconds: float) -> Path:
    """All figures as JSON; gives where they are."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "latest.json"
    document = {
        "machine": facts,
        "seconds": round(seconds),
        "scenarios": {
            name: {"rows": [row._asdict() for row in one.rows], "figures": one.figures, "failures": one.failures}
            for name, one in results.items()
        },
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return path


def show(results: Mapping[str, Result]) -> None:
    """The table."""
    rows = [row for result in results.values() for row in result.rows]
    width = max((len(row.figure) for row in rows), default=0)
    value_width = max((len(row.value) for row in rows if row.floor), default=0)
    for name, result in results.items():
        print(f"\n{name.replace('_', ' ')}")
        for row in result.rows:
            verdict = "" if row.reached is None else "reached" if row.reached else "NOT reached"
            print(f"  {row.figure:<{width}}  {row.value:<{value_width}}  {row.floor:<16}{verdict}".rstrip())
        for failure in result.failures:
            print(f"  FAILED: {failure}")


def _first_line(*command: str) -> str:
    """What a program says of its version, wherever it says it."""
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError:
        return "not there"
    return (done.stdout + done.stderr).strip().partition("\n")[0]
