"""Signing up, in and out, and choosing a new password."""

from starlette.responses import Response
from starlette.routing import Route

from tok0n.services.signing import Refused
from tok0n.web.dashboard.visit import Site, Visit


def signing_routes(site: Site) -> list[Route]:
    """The routes."""
    both = ["GET", "POST"]
    return [
        Route("/sign-up", site.page(_sign_up), methods=both),
        Route("/verify", site.page(_verify), methods=both),
        Route("/sign-in", site.page(_sign_in), methods=both),
        Route("/sign-out", site.page(_sign_out), methods=["POST"]),
        Route("/reset-password", site.page(_reset_password), methods=both),
        Route("/new-password", site.page(_new_password), methods=both),
    ]


async def _sign_up(visit: Visit) -> Response:
    if not visit.site.open_to_all:
        return visit.page(
            "message.html", status=403, title="Sign-up is closed", text="Ask the operator for an account."
        )
    if not visit.is_post:
        return visit.page("sign_up.html", form={}, refused=None)
    try:
        email = await visit.site.signing.sign_up(
            email=visit.form.get("email", ""), password=visit.form.get("password", "")
        )
    except Refused as refused:
        return visit.page("sign_up.html", status=422, form=visit.form, refused=refused)
    return visit.page(
        "message.html",
        title="Check your mail",
        text=f"We have sent a link to {email}. Open it to finish. It works for a day.",
    )


async def _verify(visit: Visit) -> Response:
    link = visit.form.get("link", "") or visit.query("link")
    if not visit.is_post:
        return visit.page("verify.html", link=link, refused=None)
    try:
        new = await visit.site.signing.verify(link, password=visit.form.get("password", ""), agent=visit.agent)
    except Refused as refused:
        return visit.page("verify.html", status=422, link=link, refused=refused)
    if new is None:
        return _old_link(visit)
    return visit.sign_in(visit.redirect("/dashboard"), new.secret)


async def _sign_in(visit: Visit) -> Response:
    goal = visit.form.get("next", "") or visit.query("next") or "/dashboard"
    if not visit.is_post:
        if visit.session is not None:
            return visit.redirect(goal)
        return visit.page("sign_in.html", form={}, next=goal, refused=None)
    client = visit.request.client
    try:
        new = await visit.site.signing.sign_in(
            email=visit.form.get("email", ""),
            password=visit.form.get("password", ""),
            address="" if client is None else client.host,
            agent=visit.agent,
        )
    except Refused as refused:
        return visit.page("sign_in.html", status=422, form=visit.form, next=goal, refused=refused)
    return visit.sign_in(visit.redirect(goal), new.secret)


async def _sign_out(visit: Visit) -> Response:
    if visit.session is not None:
        await visit.site.signing.sign_out(visit.session, everywhere="everywhere" in visit.form)
    return visit.sign_out(visit.redirect("/"))


async def _reset_password(visit: Visit) -> Response:
    if not visit.is_post:
        return visit.page("reset_password.html", form={}, refused=None)
    try:
        email = await visit.site.signing.ask_reset(visit.form.get("email", ""))
    except Refused as refused:
        return visit.page("reset_password.html", status=422, form=visit.form, refused=refused)
    return visit.page(
        "message.html",
        title="Check your mail",
        text=f"If there is an account for {email}, a link for a new password is on its way. It works for a day.",
    )


async def _new_password(visit: Visit) -> Response:
    link = visit.form.get("link", "") or visit.query("link")
    if not visit.is_post:
        return visit.page("new_password.html", link=link, refused=None)
    try:
        new = await visit.site.signing.reset(link, password=visit.form.get("password", ""), agent=visit.agent)
    except Refused as refused:
        return visit.page("new_password.html", status=422, link=link, refused=refused)
    if new is None:
        return _old_link(visit)
    return visit.sign_in(visit.redirect("/dashboard"), new.secret)


def _old_link(visit: Visit) -> Response:
    return visit.page(
        "message.html",
        status=410,
        title="This link does not work any more",
        text="A link works once, for a day, and only the newest one does. Sign in, or ask for a new one.",
    )
