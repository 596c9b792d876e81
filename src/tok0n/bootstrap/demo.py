"""The demo: a real gateway with embedded defaults, a simulated upstream and a simulated Stripe, all over HTTP."""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from tok0n.adapters.clock import SystemClock
from tok0n.bootstrap.listener import bind_listener
from tok0n.bootstrap.resources import Store, open_store
from tok0n.bootstrap.services import make_api_keys, open_catalogue, open_sign_in
from tok0n.bootstrap.serving import serve_gateway, stop_on_signals
from tok0n.bootstrap.wiring import open_gateway
from tok0n.demo.simulated_upstream import MODELS, simulated_upstream
from tok0n.demo.stripe_double import StripeDouble
from tok0n.domain.errors import NotFound, OperatorError
from tok0n.domain.users import Agent, LinkPurpose
from tok0n.http.asgi import AsgiBridge
from tok0n.http.server import HttpServer
from tok0n.optional_imports import is_installed
from tok0n.services.api_keys import KEYS_MAX, KeyDraft
from tok0n.settings import Settings, load

DEMO_EMAIL = "demo@tok0n.example"
DEMO_TOKENS = 1_000_000
DEMO_PORT = 8080
PASSWORD_BYTES = 9
UPSTREAM_SHUTDOWN_SECONDS = 1

_SETTINGS = """\
# `tok0n demo` writes this file at each start. The upstream is simulated, without a language model.
[server]
host = "127.0.0.1"
port = {port}
streaming = {streaming}
[database]
url = "sqlite:///tok0n.db"
[upstreams.simulated]
base_url = "{upstream_url}/v1"
api_key = "file:{key_file}"
timeout_seconds = 30
[seller]
name = "Tok0n demo"
address = "Nothing here is for sale: payments are simulated."
[packs.starter]
name = "Starter"
tokens = 1000000
price_usd = "5.00"
[packs.builder]
name = "Builder"
tokens = 5000000
price_usd = "22.50"
[packs.scale]
name = "Scale"
tokens = 25000000
price_usd = "100.00"
"""
_PAYMENTS = """\
[payments]
secret_key = "file:{stripe_key_file}"
webhook_secret = "file:{stripe_secret_file}"
"""
_MODEL = """\
[models.{model}]
upstream = "simulated"
context_window_tokens = 128000
owned_by = "tok0n-demo"
"""
_CHAT = """\
max_output_tokens = 16384
default_output_tokens = 1024
"""
_EVERY_ENDPOINT = """\
endpoints = ["chat", "embeddings", "responses", "messages"]
max_output_tokens = 64000
default_output_tokens = 32000
"""
"""With streaming, the demo serves coding agents: Claude Code asks for 32,000 tokens, and Codex sets no limit."""


class Demo(msgspec.Struct, frozen=True, kw_only=True):
    """The URLs and credentials of the demo. API key and password change at each start."""

    base_url: str
    api_key: str
    dashboard_url: str
    email: str
    password: str


Announce = Callable[[Demo, Path], None]


async def demo(
    data: Path, *, port: int | None, streaming: bool = False, more_settings: str = "", announce: Announce
) -> None:
    """Serve the demo from the folder `data` until a signal. Calls `announce` once it accepts requests.

    Without a port, it uses 8080, or a free port if that is in use. `more_settings` is TOML that is added to the
    settings. Its models can use the upstream `simulated`, whose models are `MODELS`. Raises `SettingsInvalid`.
    """
    stop = asyncio.Event()
    with stop_on_signals(stop) as force_stop:
        async with _upstream(data) as upstream_url:
            listener = _listener(port)
            stripe_key, stripe_secret = (
                _secret(data, "stripe.key", "sk_test_"),
                _secret(data, "stripe.secret", "whsec_"),
            )
            double = StripeDouble(secret_key=stripe_key, webhook_secret=stripe_secret)
            path, settings = _settings(
                data,
                port=listener.getsockname()[1],
                streaming=streaming,
                upstream_url=upstream_url,
                more_settings=more_settings,
            )
            api_key, password = await _prepare(settings)

            def ready(url: str, _: str | None) -> None:
                demo = Demo(
                    base_url=f"{url}/v1",
                    api_key=api_key,
                    dashboard_url=f"{url}/dashboard",
                    email=DEMO_EMAIL,
                    password=password,
                )
                announce(demo, path)

            with listener:
                async with (
                    _stripe(double, settings),
                    open_gateway(settings, stripe_base=double.url, shows_components=True) as gateway,
                ):
                    await serve_gateway(gateway, settings, listener, announce=ready, stop=stop, force_stop=force_stop)


@contextlib.asynccontextmanager
async def _upstream(data: Path) -> AsyncIterator[str]:
    """Serve the simulated upstream on a free port, with a new API key."""
    app = simulated_upstream(api_key=_secret(data, "upstream.key", "sk-simulated-"))
    async with HttpServer(
        AsgiBridge(app), bind_listener("127.0.0.1", 0), shutdown_seconds=UPSTREAM_SHUTDOWN_SECONDS
    ) as server:
        yield server.url


@contextlib.asynccontextmanager
async def _stripe(double: StripeDouble, settings: Settings) -> AsyncIterator[None]:
    """Serve the simulated Stripe on a free port. It sends webhooks to the demo."""
    async with HttpServer(
        AsgiBridge(double.app), bind_listener("127.0.0.1", 0), shutdown_seconds=UPSTREAM_SHUTDOWN_SECONDS
    ) as server:
        double.url = server.url
        double.webhook_url = f"{settings.server.public_url}/webhooks/stripe"
        try:
            yield
        finally:
            await double.aclose()


def _secret(data: Path, name: str, prefix: str) -> str:
    """Write a new secret to a file that only its owner can read, and return it."""
    secret = prefix + secrets.token_hex(16)
    with os.fdopen(os.open(data / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secret)
    return secret


def _listener(port: int | None) -> socket.socket:
    if port is not None:
        return bind_listener("127.0.0.1", port)
    try:
        return bind_listener("127.0.0.1", DEMO_PORT)
    except OperatorError:
        return bind_listener("127.0.0.1", 0)


def _settings(
    data: Path, *, port: int, streaming: bool, upstream_url: str, more_settings: str = ""
) -> tuple[Path, Settings]:
    """Write the settings to a file, so that other commands work on the running demo with `--config`."""
    path = data / "tok0n.toml"
    text = _SETTINGS.format(
        port=port,
        streaming=str(streaming).lower(),
        upstream_url=upstream_url,
        key_file=(data / "upstream.key").resolve(),
    )
    if is_installed("stripe"):
        text += _PAYMENTS.format(
            stripe_key_file=(data / "stripe.key").resolve(), stripe_secret_file=(data / "stripe.secret").resolve()
        )
    served = _EVERY_ENDPOINT if streaming else _CHAT
    text += "".join(_MODEL.format(model=model) + served for model in MODELS)
    path.write_text(text + more_settings, "utf-8")
    return path, load(path, environ={}, dotenv={}, overrides={})


async def _prepare(settings: Settings) -> tuple[str, str]:
    """Verify the models and fund the account. Returns a new API key and password."""
    clock = SystemClock()
    async with open_store(settings) as store, open_catalogue(settings, store) as (catalogue, verify_models):
        await verify_models.verify_all(catalogue.declared_models())
        try:
            account = await store.accounts.get(DEMO_EMAIL)
        except NotFound:
            account = await store.accounts.create(email=DEMO_EMAIL, tokens=DEMO_TOKENS, now_us=clock.now_us())
        missing_tokens = DEMO_TOKENS - account.balance.available
        if missing_tokens > 0:
            await store.accounts.grant(
                email=DEMO_EMAIL, tokens=missing_tokens, reason="refill at the demo's start", now_us=clock.now_us()
            )
        api_keys = make_api_keys(settings, store)
        keys = [key for key in await api_keys.list_for_account(account.id) if not key.is_revoked]
        if len(keys) >= KEYS_MAX:
            await api_keys.revoke(account_id=account.id, key_id=keys[0].id)
        issued = await api_keys.create(account.id, KeyDraft(name="demo"))
        assert issued.secret is not None, "a new key has its secret"
        password = f"demo-{secrets.token_urlsafe(PASSWORD_BYTES)}"
        await _set_up_operator(settings, store, password)
        return issued.secret, password


async def _set_up_operator(settings: Settings, store: Store, password: str) -> None:
    """Make the demo's user the operator, and reset its password."""
    async with open_sign_in(settings, store) as sign_in:
        link = await sign_in.create_set_up_url()
        if link is not None:
            await sign_in.set_up(link.partition("link=")[2], email=DEMO_EMAIL, password=password, agent=Agent())
        else:
            await store.users.register(email=DEMO_EMAIL, password_hash="", now_us=SystemClock().now_us())
            link = await sign_in.recover(DEMO_EMAIL)
            secret = link.partition("link=")[2]
            await sign_in.choose_password(secret, purpose=LinkPurpose.RESET, password=password, agent=Agent())
    user = await store.users.find(DEMO_EMAIL)
    assert user is not None, "the user is registered"
    await store.sessions.end_all(user.id)
