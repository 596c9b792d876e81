"""Bind the server's socket, with errors that name the options to change."""

import socket

from tok0n.domain.errors import OperatorError
from tok0n.http import server


def bind_listener(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Bind a socket as `http.server.bind` does. Raises `OperatorError`."""
    try:
        return server.bind(host, port, shared=shared)
    except PermissionError as error:
        raise OperatorError(
            f"Can't listen on {host} port {port}: {error.strerror}. Choose a port above 1023 with --port."
        ) from error
    except OSError as error:
        raise OperatorError(
            f"Can't listen on {host} port {port}: {error.strerror}. Choose another with --port or --host."
        ) from error
    except UnicodeError as error:
        raise OperatorError(f"Can't listen on {host}: it is not a host name. Choose another with --host.") from error
