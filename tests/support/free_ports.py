"""Ports of 127.0.0.1 for the servers that tests start."""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

PORTS = range(10_000, 32_000)
"""Below those that Linux gives to connections (from 32,768), which could take a port before its server binds it."""

_PORT_LOCKS: list[int] = []


def free_port() -> int:
    """Return a port of 127.0.0.1 that no other call returns while this process lives, in this process or another.

    The tests run in several processes, so two servers could otherwise start on one port. A lock on a file reserves it.
    """
    folder = Path(tempfile.gettempdir()) / f"tok0n-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        lock = os.open(folder / str(port), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", port))
        except OSError:
            os.close(lock)
            continue
        _PORT_LOCKS.append(lock)
        return port
    raise RuntimeError("No port is free")
