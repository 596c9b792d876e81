"""POST /webhooks/stripe: verified, kept, and only then answered 2xx. What follows from it happens afterwards."""

import structlog
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tok0n.domain.errors import SignatureInvalid, Tok0nError
from tok0n.http.asgi import read_at_most
from tok0n.services.payments import SellPacks

log = structlog.get_logger()

BODY_BYTES_MAX = 1024 * 1024


class Refusals:
    """Counts webhooks that were not the provider's. Only each doubling is a line in the log: anybody can send them."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> None:
        """One more."""
        self.count += 1
        if self.count & (self.count - 1) == 0:
            log.warning("webhooks_refused", count=self.count)


def stripe_route(sell_packs: SellPacks, refusals: Refusals | None = None) -> Route:
    """The route."""
    refused = refusals or Refusals()

    async def act() -> None:
        """A failure here loses nothing: the server looks for events that are due every few seconds."""
        try:
            await sell_packs.handle_all()
        except Tok0nError as error:
            log.warning("payment_events_wait", detail=error.detail or error.message)

    async def webhook(request: Request) -> Response:
        try:
            body = await read_at_most(request.stream(), BODY_BYTES_MAX)
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            return JSONResponse({"error": "too large"}, 413)
        try:
            is_new = await sell_packs.receive(body, request.headers.get("stripe-signature"))
        except SignatureInvalid as error:
            refused.add()
            return JSONResponse({"error": error.message}, 400)
        except Tok0nError as error:
            log.error("webhook_not_kept", detail=error.detail or error.message)
            return JSONResponse({"error": "it could not be kept: send it again"}, 503)
        return JSONResponse({"kept": True}, background=BackgroundTask(act) if is_new else None)

    return Route("/webhooks/stripe", webhook, methods=["POST"])
