"""Signing up, in and out, and what mailed links lead to."""

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.users import LinkPurpose
from tok0n.services.passwords import FormError
from tok0n.web.dashboard.access import ACCESS
from tok0n.web.pages.visit import Handler, Site, Visit

CLOSED = "You need an invitation to create an account. Contact support to get one."
SIGN_UP_CLOSED = "Sign-up is closed"


def sign_in_routes(site: Site) -> list[Route]:
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
    if not visit.site.sign_in.is_open:
        return visit.message(SIGN_UP_CLOSED, CLOSED, status=403)
    if not visit.is_post:
        return visit.page("sign_up.html")
    try:
        email = await visit.site.sign_in.sign_up(
            email=visit.form.get("email", ""), password=visit.form.get("password", ""), address=visit.limit_key
        )
    except FormError as form_error:
        return visit.page("sign_up.html", status=422, form_error=form_error)
    return visit.mailed(f"We sent a link to {email}. Open it within 24 hours to finish signing up.")


async def _verify(visit: Visit) -> Response:
    link = visit.form.get("link", "") or visit.query("link")
    if not visit.is_post:
        return visit.page("verify.html", link=link)
    try:
        new = await visit.site.sign_in.verify(link, password=visit.form.get("password", ""), agent=visit.agent)
    except FormError as form_error:
        return visit.page("verify.html", status=422, link=link, form_error=form_error)
    return _old_link(visit) if new is None else visit.sign_in(new)


async def _sign_in(visit: Visit) -> Response:
    goal = visit.form.get("next", "") or visit.query("next") or "/dashboard"
    if not visit.is_post:
        return visit.page("sign_in.html", goal=goal) if visit.session is None else visit.redirect(goal)
    try:
        new = await visit.site.sign_in.sign_in(
            email=visit.form.get("email", ""),
            password=visit.form.get("password", ""),
            address=visit.limit_key,
            agent=visit.agent,
        )
    except FormError as form_error:
        return visit.page("sign_in.html", status=422, goal=goal, form_error=form_error)
    return visit.sign_in(new, goal=goal)


async def _second_factor(visit: Visit) -> Response:
    goal = visit.form.get("next", "") or visit.query("next") or "/dashboard"
    if await visit.site.sign_in.waiting(visit.cookie) is None:
        return visit.redirect("/sign-in")
    if not visit.is_post:
        return visit.page("second_factor.html", goal=goal)
    try:
        new = await visit.site.sign_in.submit_code(visit.cookie, code=visit.form.get("code", ""), agent=visit.agent)
    except FormError as form_error:
        return visit.page("second_factor.html", status=422, goal=goal, form_error=form_error)
    return visit.redirect("/sign-in") if new is None else visit.sign_in(new, goal=goal)


async def _sign_out(visit: Visit) -> Response:
    if visit.session is not None:
        await visit.site.sign_in.sign_out(visit.session, everywhere="everywhere" in visit.form)
    return visit.sign_out()


async def _reset_password(visit: Visit) -> Response:
    if not visit.is_post:
        return visit.page("reset_password.html")
    try:
        email = await visit.site.sign_in.ask_reset(visit.form.get("email", ""), address=visit.limit_key)
    except FormError as form_error:
        return visit.page("reset_password.html", status=422, form_error=form_error)
    text = f"If {email} has an account, you'll get a link to choose a new password. It works for 24 hours."
    return visit.mailed(text)


def _chooser(purpose: LinkPurpose, *, title: str) -> Handler:
    """The page of a link that lets choose a password."""

    async def choose(visit: Visit) -> Response:
        link = visit.form.get("link", "") or visit.query("link")
        if not visit.is_post:
            return visit.page("choose_password.html", link=link, title=title)
        try:
            new = await visit.site.sign_in.choose_password(
                link, purpose=purpose, password=visit.form.get("password", ""), agent=visit.agent
            )
        except FormError as form_error:
            return visit.page("choose_password.html", status=422, link=link, title=title, form_error=form_error)
        if new is None:
            return _old_link(visit)
        return visit.sign_in(new, goal=ACCESS if purpose is LinkPurpose.RESET else "/dashboard")

    return choose


async def _set_up(visit: Visit) -> Response:
    link = visit.form.get("link", "") or visit.query("link")
    if not visit.is_post:
        return visit.page("set_up.html", link=link)
    try:
        new = await visit.site.sign_in.set_up(
            link, email=visit.form.get("email", ""), password=visit.form.get("password", ""), agent=visit.agent
        )
    except FormError as form_error:
        return visit.page("set_up.html", status=422, link=link, form_error=form_error)
    return _old_link(visit) if new is None else visit.sign_in(new)


def _old_link(visit: Visit) -> Response:
    return visit.message(
        "This link no longer works",
        "It was already used, has expired, or was replaced by a newer one. Sign in, or request a new link.",
        status=410,
    )
