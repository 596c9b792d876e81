"""Serve an application below the path of `public_url` as well: proxies strip that path, or pass it on."""

from collections.abc import Awaitable

from tok0n.http.asgi import AsgiApp, Receive, Scope, Send


def strip_prefix(app: AsgiApp, prefix: str) -> AsgiApp:
    """Serve `app` with and without `prefix`: handlers see only paths without it. `prefix` is empty or starts with `/`.

    The path decides alone. That is safe because the settings reject a prefix that a path of ours could start with.
    """
    if not prefix:
        return app
    below = f"{prefix}/"

    def stripped(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path = scope["path"]
        if path.startswith(below) or path == prefix:
            scope["path"] = path[len(prefix) :] or "/"
        return app(scope, receive, send)

    return stripped
