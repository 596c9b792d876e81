"""What a flood of sign-ins does to calls: the latency of call after call, alone and beside 500 sign-ins a second.

    .venv/bin/python benchmarks/sign_ins.py [SIGN-INS A SECOND]

A real server on SQLite in a process of its own, an upstream that answers at once; both share two cores with the flood.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.gateways import ServerProcess, write_settings
from support.http import Connection, InstantUpstream, chat_body

SECONDS = 8.0
ROUNDS = 3
CONNECTIONS = 500
TOK0N = Path(sys.executable).parent / "tok0n"


async def main(per_second: int) -> None:
    """Measure in turns, and print the medians over the rounds."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix="run-") as name:
        folder = Path(name)
        async with InstantUpstream() as upstream:
            write_settings(folder, upstream_url=upstream.base_url)
            key = await asyncio.to_thread(prepare, folder)
            async with ServerProcess(folder) as server:
                results: dict[bool, list[list[float]]] = {False: [], True: []}
                answers: Counter[int] = Counter()
                for _ in range(ROUNDS):
                    for flooded in (False, True):
                        flood = asyncio.create_task(sign_in(server.base_url, per_second if flooded else 0, answers))
                        results[flooded].append(await calls(server.base_url, key))
                        flood.cancel()
                        await asyncio.gather(flood, return_exceptions=True)
    for flooded, rounds in results.items():
        p50, p99 = (statistics.median(percentile(took, share) for took in rounds) for share in (0.5, 0.99))
        count = statistics.median(len(took) for took in rounds)
        print(f"{'beside sign-ins' if flooded else 'alone':<16} p50 {p50:.2f} ms  p99 {p99:.2f} ms  {count:.0f} calls")
    seconds = SECONDS * ROUNDS
    told = ", ".join(f"{status}: {number / seconds:.0f}/s" for status, number in sorted(answers.items()))
    print(f"sign-ins answered: {sum(answers.values()) / seconds:.0f}/s ({told}); cores: {os.cpu_count()}")


def prepare(folder: Path) -> str:
    """An account with a key."""
    run = [str(TOK0N), "accounts", "create", "a@example.com", "--tokens", "1000000000"]
    subprocess.run(run, cwd=folder, check=True, capture_output=True)
    run = [str(TOK0N), "keys", "create", "a@example.com"]
    return subprocess.run(run, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


async def calls(base_url: str, key: str) -> list[float]:
    """One call after another for a while; the milliseconds of each."""
    took = []
    end = time.perf_counter() + SECONDS
    async with Connection(base_url) as connection:
        while (began := time.perf_counter()) < end:
            answer = await connection.chat(key, chat_body())
            if answer.status == 200:
                took.append((time.perf_counter() - began) * 1000)
            else:
                await asyncio.sleep(0.05)  # not verified yet
    return took


async def sign_in(base_url: str, per_second: int, answers: Counter[int]) -> None:
    """So many attempts a second, over a fixed number of connections; those that find none free are late."""
    if not per_second:
        return
    headers = {"sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"}

    async def attempts(number: int) -> None:
        async with Connection(base_url) as connection:
            due = time.perf_counter()
            while True:
                number += CONNECTIONS
                due += CONNECTIONS / per_second
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                fields = {"email": f"{number}@example.com", "password": "wrong"}
                answer = await connection.request("POST", "/sign-in", urlencode(fields).encode(), headers)
                answers[answer.status] += 1

    async with asyncio.TaskGroup() as group:
        for number in range(CONNECTIONS):
            group.create_task(attempts(number))


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of them lies."""
    return sorted(values)[int(len(values) * share)]


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500))
