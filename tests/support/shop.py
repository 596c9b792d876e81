"""A gateway that sells packs, in front of our double of Stripe."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from support.gateways import Running, running
from support.mailbox import Mailbox
from support.users import mail_settings
from tok0n.demo.stripe_double import StripeDouble
from tok0n.http.asgi import AsgiBridge
from tok0n.http.server import HttpServer, bind
from tok0n.ports.clock import Clock

KEY, SECRET = "sk_test_of_the_double", "whsec_of_the_double"
PACKS = """
[packs.starter]
name = "Starter"
tokens = 1000000
price_usd = "5.00"
[packs.scale]
name = "Scale"
tokens = 25000000
price_usd = "100.00"
[seller]
name = "Example Ltd"
address = "1 Example Street"
tax_id = "GB1"
"""


@contextlib.asynccontextmanager
async def shop(
    folder: Path,
    *,
    upstream_url: str,
    mailbox: Mailbox,
    overrides: dict[str, object] | None = None,
    host: str = "127.0.0.1",
    more: str = "",
    shows_components: bool = False,
    clock: Clock | None = None,
) -> AsyncIterator[tuple[Running, StripeDouble]]:
    (folder / "stripe.key").write_text(KEY)
    (folder / "stripe.secret").write_text(SECRET)
    double = StripeDouble(secret_key=KEY, webhook_secret=SECRET)
    payments = f"""
[payments]
secret_key = "file:{folder / "stripe.key"}"
webhook_secret = "file:{folder / "stripe.secret"}"
"""
    more = more + PACKS + payments + mail_settings(mailbox)
    async with HttpServer(AsgiBridge(double.app), bind("127.0.0.1", 0), shutdown_seconds=5) as stripe:
        double.url = stripe.url
        async with running(
            folder,
            upstream_url=upstream_url,
            more=more,
            overrides=overrides,
            stripe_base=stripe.url,
            host=host,
            shows_components=shows_components,
            clock=clock,
        ) as site:
            double.webhook_url = f"{site.url}/webhooks/stripe"
            try:
                yield site, double
            finally:
                await double.aclose()
