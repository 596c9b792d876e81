"""The pages to sign up, in and out, and the pages that emailed links open."""

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.users import LinkPurpose
from tok0n.services.passwords import FormError
from tok0n.services.sign_in import NOT_OPEN
from tok0n.web.dashboard.access import ACCESS
from tok0n.web.dashboard.invalid_links import invalid_link_page, is_invalid_link
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import GET_POST, POST, Handler, page_route

SIGN_UP_CLOSED = "Sign-up is closed"


def sign_in_routes(context: PageContext) -> list[Route]:
    """Return the routes of signing up, in and out, and of resetting a password."""

    def both(path: str, handler: Handler) -> Route:
        return page_route(context, path, handler, methods=GET_POST)

    return [
        both("/sign-up", _sign_up),
        both("/verify", _verify),
        both("/sign-in", _sign_in),
        both("/second-factor", _two_factor),
        page_route(context, "/sign-out", _sign_out, methods=POST),
        both("/reset-password", _reset_password),
        both("/new-password", _password_chooser(LinkPurpose.RESET, title="Choose a new password")),
        both("/invitation", _password_chooser(LinkPurpose.INVITE, title="Choose a password")),
        both("/set-up", _set_up),
    ]


async def _sign_up(page: PageRequest) -> Response:
    if not page.context.sign_in.is_open:
        return page.message(SIGN_UP_CLOSED, NOT_OPEN, status=403)
    if not page.is_post:
        return page.render("sign_up.html")
    try:
        new = await page.context.sign_in.sign_up(
            email=page.form.get("email", ""),
            password=page.form.get("password", ""),
            limit_key=page.limit_key,
            time_zone=page.form.get("time_zone", ""),
        )
    except FormError as form_error:
        return page.render("sign_up.html", form_error=form_error)
    response = page.email_sent(
        f"We sent a link to {new.email}. Open it in this browser within 24 hours to finish signing up.",
        unsent=f"Ask support for the link that confirms {new.email}. Open it in this browser within 24 hours.",
    )
    page.set_sign_up_cookie(response, new.secret)
    return response


async def _verify(page: PageRequest) -> Response:
    if not page.is_post:
        if page.sign_up_cookie is not None and page.is_navigation:
            confirmed = await page.context.sign_in.confirm_by_browser(
                page.link, browser_secret=page.sign_up_cookie, agent=page.agent
            )
            if confirmed is not None:
                return page.sign_in(confirmed)
        if await is_invalid_link(page, LinkPurpose.VERIFY):
            return invalid_link_page(page, LinkPurpose.VERIFY)
        return page.render("verify.html")
    try:
        new = await page.context.sign_in.confirm_by_password(
            page.link, password=page.form.get("password", ""), agent=page.agent
        )
    except FormError as form_error:
        return page.render("verify.html", form_error=form_error)
    return invalid_link_page(page, LinkPurpose.VERIFY) if new is None else page.sign_in(new)


async def _sign_in(page: PageRequest) -> Response:
    if not page.is_post:
        return page.render("sign_in.html") if page.session_or_none is None else page.redirect(page.next_url)
    try:
        new = await page.context.sign_in.sign_in(
            email=page.form.get("email", ""),
            password=page.form.get("password", ""),
            limit_key=page.limit_key,
            agent=page.agent,
        )
    except FormError as form_error:
        return page.render("sign_in.html", form_error=form_error)
    return page.sign_in(new, next_url=page.next_url)


async def _two_factor(page: PageRequest) -> Response:
    if await page.context.sign_in.find_waiting_user(page.cookie) is None:
        return page.redirect("/sign-in")
    if not page.is_post:
        return page.render("two_factor.html")
    try:
        new = await page.context.sign_in.submit_code(page.cookie, code=page.form.get("code", ""), agent=page.agent)
    except FormError as form_error:
        return page.render("two_factor.html", form_error=form_error)
    return page.redirect("/sign-in") if new is None else page.sign_in(new, next_url=page.next_url)


async def _sign_out(page: PageRequest) -> Response:
    if page.session_or_none is not None:
        await page.context.sign_in.sign_out(page.session_or_none, everywhere="everywhere" in page.form)
    return page.sign_out()


async def _reset_password(page: PageRequest) -> Response:
    if not page.is_post:
        return page.render("reset_password.html")
    try:
        email = await page.context.sign_in.request_reset(page.form.get("email", ""), limit_key=page.limit_key)
    except FormError as form_error:
        return page.render("reset_password.html", form_error=form_error)
    return page.email_sent(
        f"If {email} has an account, you'll get a link to choose a new password. It works for 24 hours.",
        unsent=f"If {email} has an account, support can give you a link to choose a new password.",
    )


def _password_chooser(purpose: LinkPurpose, *, title: str) -> Handler:
    """Return the handler of an emailed link on whose page the user chooses a password."""

    async def choose(page: PageRequest) -> Response:
        if not page.is_post:
            if await is_invalid_link(page, purpose):
                return invalid_link_page(page, purpose)
            return page.render("choose_password.html", title=title)
        try:
            new = await page.context.sign_in.choose_password(
                page.link,
                purpose=purpose,
                password=page.form.get("password", ""),
                agent=page.agent,
                time_zone=page.form.get("time_zone", ""),
            )
        except FormError as form_error:
            return page.render("choose_password.html", title=title, form_error=form_error)
        if new is None:
            return invalid_link_page(page, purpose)
        return page.sign_in(new, next_url=ACCESS if purpose is LinkPurpose.RESET else "/dashboard")

    return choose


async def _set_up(page: PageRequest) -> Response:
    if not page.is_post:
        if await is_invalid_link(page, LinkPurpose.SET_UP):
            return invalid_link_page(page, LinkPurpose.SET_UP)
        return page.render("set_up.html")
    try:
        new = await page.context.sign_in.set_up(
            page.link,
            email=page.form.get("email", ""),
            password=page.form.get("password", ""),
            agent=page.agent,
            time_zone=page.form.get("time_zone", ""),
        )
    except FormError as form_error:
        return page.render("set_up.html", form_error=form_error)
    return invalid_link_page(page, LinkPurpose.SET_UP) if new is None else page.sign_in(new)
