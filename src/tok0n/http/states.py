"""The states of a connection, and every transition between them.

Theory of operation. A connection has at most one request in progress. Bytes of the next request stay in the parser, and
once there are any, the socket is not read again until the response is out. So a connection holds at most the bytes of
one `recv` of pipelined requests, and its responses have the order of its requests.

    IDLE ──START──> HEAD
    IDLE, HEAD ──AWAIT_BODY──> BODY
    IDLE, HEAD, BODY ──COMPLETE──> RESPONDING ──NEXT──> IDLE
    every state ──CLOSE──> CLOSING

- START: the first bytes of a head arrived, but not all of it.
- AWAIT_BODY: the head is complete and the body is not. The handler may start, and reads the body as it arrives.
- COMPLETE: the last byte of the request arrived. Often it comes in the same read as the first one.
- NEXT: the response is out, and the connection stays open.
- CLOSE: an error, a deadline, a lost connection, the shutdown of the server, or a response after which the connection
  can't be reused: the client asked for that, or the response went out before the rest of the request arrived.

In CLOSING, bytes that arrive are not interpreted. If the client may still be sending, the connection discards them for
a moment after its last response, because closing a socket with unread bytes makes the kernel drop the response before
the client has read it.

Each state has at most one deadline (`watchdog.Watchdog`): IDLE the idle timeout (for a new connection the time for a
head), HEAD the time for a head, BODY the rate and the total time of a body, CLOSING the time for discarding. RESPONDING
has none: handlers have their own deadlines, and the kernel ends a connection whose client reads nothing
(`server.bind`).
"""

import enum


class State(enum.IntEnum):
    """What the connection waits for."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    RESPONDING = 3
    CLOSING = 4


class ConnectionEvent(enum.IntEnum):
    """What can change the state."""

    START = 0
    AWAIT_BODY = 1
    COMPLETE = 2
    NEXT = 3
    CLOSE = 4


TRANSITIONS = {
    (State.IDLE, ConnectionEvent.START): State.HEAD,
    (State.IDLE, ConnectionEvent.AWAIT_BODY): State.BODY,
    (State.IDLE, ConnectionEvent.COMPLETE): State.RESPONDING,
    (State.HEAD, ConnectionEvent.AWAIT_BODY): State.BODY,
    (State.HEAD, ConnectionEvent.COMPLETE): State.RESPONDING,
    (State.BODY, ConnectionEvent.COMPLETE): State.RESPONDING,
    (State.RESPONDING, ConnectionEvent.NEXT): State.IDLE,
    **{(state, ConnectionEvent.CLOSE): State.CLOSING for state in State},
}
"""A pair that is missing can't happen: looking it up raises `KeyError`."""
