"""POST /webhooks/stripe. Responds 2xx only after it has verified and stored the event, and handles it afterwards."""

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


class RejectedWebhooks:
    """Counts webhooks without a valid signature. Logs only each doubling of the count, because anyone can send them."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> None:
        """Count a webhook."""
        self.count += 1
        if self.count & (self.count - 1) == 0:
            log.warning("webhooks_rejected", count=self.count)


def stripe_route(sell_packs: SellPacks, rejected_webhooks: RejectedWebhooks | None = None) -> Route:
    """Return the route."""
    rejected = rejected_webhooks or RejectedWebhooks()

    async def handle_events() -> None:
        """Handle the events that are due. After a failure, the periodic task handles them within seconds."""
        try:
            await sell_packs.handle_all()
        except Tok0nError as error:
            log.warning("payment_events_delayed", detail=error.detail or error.message)

    async def webhook(request: Request) -> Response:
        try:
            body = await read_at_most(request.stream(), BODY_BYTES_MAX)
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            return JSONResponse({"error": "The event is too large."}, 413)
        try:
            is_new = await sell_packs.receive(body, request.headers.get("stripe-signature"))
        except SignatureInvalid as error:
            rejected.add()
            return JSONResponse({"error": error.message}, 400)
        except Tok0nError as error:
            log.error("webhook_not_stored", detail=error.detail or error.message)
            return JSONResponse({"error": "The event could not be stored. Send it again."}, 503)
        return JSONResponse({"kept": True}, background=BackgroundTask(handle_events) if is_new else None)

    return Route("/webhooks/stripe", webhook, methods=["POST"])
