"""Signing up, in and out, and what mailed links lead to."""

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.people import LinkPurpose
from tok0n.services.passwords import Refused
from tok0n.web.dashboard.access import ACCESS
from tok0n.web.pages.visit import Handler, Site, Visit

CLOSED = "New accounts are by invitation of the operator here."
SIGN_UP_CLOSED = "Sign-up is closed"


def signing_routes(site: Site) -> list[Route]:
    """The routes."""

    def both(path: str, handler: Handler) -> Route:
        return Route(path, site.page(handler), methods=["GET", "POST"])

    return [
        both("/sign-up", _sign_up),
        both("/verify", _verify),
        both("/sign-in", _sign_in),
        both("/second-factor", _second_factor),
        Route("/sign-out", site.page(_sign_out), methods=["POST"]),
        both("/reset-password", _reset_password),
        both("/new-password", _chooser(LinkPurpose.RESET, title="Choose a new password")),
        both("/invitation", _chooser(LinkPurpose.INVITE, title="Choose a password")),
        both("/set-up", _set_up),
    ]


async def _sign_up(visit: Visit) -> Response:
    if not visit.site.signing.is_open:
        return visit.message(SIGN_UP_CLOSED, CLOSED, status=403)
    if not visit.is_post:
        return visit.page("sign_up.html")
    try:
        email = await visit.site.signing.sign_up(
            email=visit.form.get("email", ""), password=visit.form.get("password", ""), address=visit.limit_key
        )
    except Refused as refused:
        return visit.page("sign_up.html", status=422, refused=refused)
    return visit.mailed(f"We have sent a link to {email}. Open it to finish. It works for a day.")


async def _verify(visit: Visit) -> Response:
    link = visit.form.get("link", "") or visit.query("link")
    if not visit.is_post:
        return visit.page("verify.html", link=link)
    try:
        new = await visit.site.signing.verify(link, password=visit.form.get("password", ""), agent=visit.agent)
    except Refused as refused:
        return visit.page("verify.html", status=422, link=link, refused=refused)
    return _old_link(visit) if new is None else visit.sign_in(new)


async def _sign_in(visit: Visit) -> Response:
    goal = visit.form.get("next", "") or visit.query("next") or "/dashboard"
    if not visit.is_post:
        return visit.page("sign_in.html", goal=goal) if visit.session is None else visit.redirect(goal)
    try:
        new = await visit.site.signing.sign_in(
            email=visit.form.get("email", ""),
            password=visit.form.get("password", ""),
            address=visit.limit_key,
            agent=visit.agent,
        )
    except Refused as refused:
        return visit.page("sign_in.html", status=422, goal=goal, refused=refused)
    return visit.sign_in(new, goal=goal)


async def _second_factor(visit: Visit) -> Response:
    goal = visit.form.get("next", "") or visit.query("next") or "/dashboard"
    if await visit.site.signing.waiting(visit.cookie) is None:
        return visit.redirect("/sign-in")
    if not visit.is_post:
        return visit.page("second_factor.html", goal=goal)
    try:
        new = await visit.site.signing.submit_code(visit.cookie, code=visit.form.get("code", ""), agent=visit.agent)
    except Refused as refused:
        return visit.page("second_factor.html", status=422, goal=goal, refused=refused)
    return visit.redirect("/sign-in") if new is None else visit.sign_in(new, goal=goal)


async def _sign_out(visit: Visit) -> Response:
    if visit.session is not None:
        await visit.site.signing.sign_out(visit.session, everywhere="everywhere" in visit.form)
    return visit.sign_out()


async def _reset_password(visit: Visit) -> Response:
    if not visit.is_post:
        return visit.page("reset_password.html")
    try:
        email = await visit.site.signing.ask_reset(visit.form.get("email", ""), address=visit.limit_key)
    except Refused as refused:
        return visit.page("reset_password.html", status=422, refused=refused)
    text = f"If there is an account for {email}, a link for a new password is on its way. It works for a day."
    return visit.mailed(text)


def _chooser(purpose: LinkPurpose, *, title: str) -> Handler:
    """The page of a link that lets choose a password."""

    async def choose(visit: Visit) -> Response:
        link = visit.form.get("link", "") or visit.query("link")
        if not visit.is_post:
            return visit.page("choose_password.html", link=link, title=title)
        try:
            new = await visit.site.signing.choose_password(
                link, purpose=purpose, password=visit.form.get("password", ""), agent=visit.agent
            )
        except Refused as refused:
            return visit.page("choose_password.html", status=422, link=link, title=title, refused=refused)
        if new is None:
            return _old_link(visit)
        return visit.sign_in(new, goal=ACCESS if purpose is LinkPurpose.RESET else "/dashboard")

    return choose


async def _set_up(visit: Visit) -> Response:
    link = visit.form.get("link", "") or visit.query("link")
    if not visit.is_post:
        return visit.page("set_up.html", link=link)
    try:
        new = await visit.site.signing.set_up(
            link, email=visit.form.get("email", ""), password=visit.form.get("password", ""), agent=visit.agent
        )
    except Refused as refused:
        return visit.page("set_up.html", status=422, link=link, refused=refused)
    return _old_link(visit) if new is None else visit.sign_in(new)


def _old_link(visit: Visit) -> Response:
    return visit.message(
        "This link does not work any more",
        "A link works once, for a day, and only the newest one does. Sign in, or ask for a new one.",
        status=410,
    )
