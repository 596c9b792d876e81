"""wrk as the load: a closed loop, each connection sending its next request when the last was answered."""

import json
import random
import subprocess
import urllib.request
from pathlib import Path
from typing import NamedTuple

from payloads import chat_body
from processes import GATEWAY_CORE, LOAD_CORE, CoreWatch, cpu_seconds
from servers import Server

ANSWER_SECONDS_MAX = 60
"""How late an answer may be without being an error: peers are slow at times, and that is not what errors mean here."""

SCRIPT = """
wrk.method = "POST"
wrk.body = [==[{body}]==]
wrk.headers["Content-Type"] = "application/json"
{headers}
{delay}
done = function(summary, latency)
  io.write(string.format(
    '\\nRESULT {{"requests":%d,"seconds":%f,"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,' ..
    '"p50":%f,"p99":%f,"max":%f}}\\n',
    summary.requests, summary.duration / 1e6, summary.errors.status, summary.errors.connect, summary.errors.read,
    summary.errors.write, summary.errors.timeout, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3))
end
"""

STAGGER = """
local sent, connections, period_ms = 0, {connections}, {period_ms}
function delay()
  sent = sent + 1
  if sent > connections then return 0 end
  return math.floor(period_ms * sent / connections)
end
"""


WARM_UP_SECONDS = 5

RANDOM_KEYS = """
local requests, sent = {{}}, 0
function init()
  math.randomseed({seed})
  for key in io.lines({path}) do
    wrk.headers["Authorization"] = "Bearer " .. key
    requests[#requests + 1] = wrk.format()
  end
end
function request()
  sent = sent + 1
  return requests[{choose}]
end
"""
"""Formats all requests before the load begins: choosing one costs the load generator next to nothing."""


class Load(NamedTuple):
    """What wrk saw, and what the processes used meanwhile."""

    requests: int
    seconds: float
    errors: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu: dict[str, float]
    """CPU seconds of each part of the server."""
    busy: dict[str, float]
    """The share of the time that each core was busy."""

    @property
    def intruders(self) -> float:
        """The share of the contender's core that was used by others: what falsifies a measurement most often."""
        own = next(iter(self.cpu.values()), 0.0) / self.seconds
        return max(0.0, self.busy[GATEWAY_CORE] - own)

    @property
    def per_second(self) -> float:
        """Good answers each second."""
        return (self.requests - self.errors) / self.seconds


def warm_up(folder: Path, server: Server, *, connections: int, seconds: int = WARM_UP_SECONDS) -> None:
    """Load a server until each of its keys was used: cold caches are not what a long-running gateway has."""
    if server.keys_path is None:
        wrk(folder, server, seconds=seconds, connections=connections)
        return
    keys = server.keys_path.read_text("utf-8").split()
    unused = folder / "unused-keys.txt"
    while keys:
        unused.write_text("\n".join(keys) + "\n")
        load = wrk(folder, server._replace(keys_path=unused), seconds=seconds, connections=connections, in_order=True)
        if load.errors or not load.requests:
            raise RuntimeError(f"{server.name}: {load.errors} of {load.requests} requests failed")
        keys = keys[load.requests :]


def wrk(
    folder: Path,
    server: Server,
    *,
    seconds: float,
    connections: int,
    stagger_ms: float | None = None,
    in_order: bool = False,
) -> Load:
    """Load a server, with random keys if it has a `keys_path`, or with each in turn if `in_order`.

    With `stagger_ms` the connections begin evenly spread over so many milliseconds.
    """
    delay = "" if stagger_ms is None else STAGGER.format(connections=connections, period_ms=stagger_ms)
    headers = "\n".join(
        f"wrk.headers[{json.dumps(name)}] = {json.dumps(text)}" for name, text in server.headers.items()
    )
    if server.keys_path is not None:
        choose = "(sent - 1) % #requests + 1" if in_order else "math.random(#requests)"
        path = json.dumps(str(server.keys_path))
        headers += RANDOM_KEYS.format(seed=random.getrandbits(31), path=path, choose=choose)
    script = folder / "wrk.lua"
    script.write_text(SCRIPT.format(body=chat_body(server.model), headers=headers, delay=delay))
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    command += ["--latency", "--timeout", f"{ANSWER_SECONDS_MAX}s", "-s", str(script)]
    watch, before = CoreWatch(), {part: cpu_seconds(pids) for part, pids in server.parts.items()}
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}{server.path}"], capture_output=True, text=True, check=True
    )
    cpu = {part: cpu_seconds(pids) - before[part] for part, pids in server.parts.items()}
    told = json.loads(done.stdout.rpartition("RESULT ")[2])
    return Load(
        requests=told["requests"],
        seconds=told["seconds"],
        errors=sum(told[kind] for kind in ("status", "connect", "read", "write", "timeout")),
        p50_ms=told["p50"],
        p99_ms=told["p99"],
        max_ms=told["max"],
        cpu=cpu,
        busy=watch.busy(),
    )


def answers(server: Server) -> bool:
    """Whether a server answers one chat request with a completion: a wrong address is found before it is measured."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{server.path}",
        data=chat_body(server.model).encode(),
        headers={"Content-Type": "application/json", **server.headers},
    )
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS_MAX) as response:
        return b'"choices"' in response.read()
