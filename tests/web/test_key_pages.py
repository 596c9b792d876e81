"""API keys in the dashboard: shown once, limited, edited, rotated, disabled, revoked, and all of it logged."""

import csv
import io
import json
import re

import httpx
import pytest

from support import api_keys
from support.api_keys import edit_key, keys_of
from support.gateways import EMAIL, Running
from support.http import USAGE_TOTAL, chat, chat_body
from support.pages import create_key, paths
from support.visitor import Visitor, text_of, words_of
from tok0n.domain.budgets import BudgetDraft, ResetPeriod
from tok0n.services.api_keys import KEYS_MAX

pytestmark = pytest.mark.anyio


async def test_a_key_is_shown_once_and_its_revocation_applies_to_the_next_request(
    site: Running, owner: Visitor, capfd: pytest.CaptureFixture[str]
) -> None:
    key = await create_key(owner)
    assert (await chat(site.base_url, key, chat_body())).status == 200
    for path in paths(site, method="GET"):
        assert key not in (await owner.get(path)).text, path
    page = await owner.get("/dashboard/keys")
    assert f"{key[:9]}…{key[-4:]}" in page.text
    newest = re.findall(r"/dashboard/keys/(key_\w+)", page.text)[0]
    question = await owner.get(f"/dashboard/keys/{newest}/revoke")
    assert "Revoke “laptop”?" in question.text
    assert (await chat(site.base_url, key, chat_body())).status == 200, "asking revokes nothing"
    await owner.post(f"/dashboard/keys/{newest}/revoke")
    assert (await chat(site.base_url, key, chat_body())).status == 401
    stored = b"".join(path.read_bytes() for path in site.folder.glob("tok0n.db*"))
    assert key.encode() not in stored
    assert key not in "".join(capfd.readouterr())


async def test_a_key_has_the_limits_of_its_form(site: Running, owner: Visitor) -> None:
    fields = {"budget_tokens": "5,000", "budget_period": "day", "networks": "127.0.0.1", "requests_per_minute": "7"}
    key = await create_key(owner, days="30", models="demo", note="mine", **fields)
    assert "0 of 5,000 per day" in words_of(await owner.get("/dashboard/keys"))
    assert (await chat(site.base_url, key, chat_body())).status == 200
    listed = (await keys_of(site.store.accounts, EMAIL))[-1]
    limits = listed.limits
    assert [(budget.tokens, budget.period) for budget in limits.budgets] == [(5_000, "day")]
    assert (limits.models, limits.networks, limits.requests_per_minute) == (("demo",), ("127.0.0.1/32",), 7)
    assert listed.note == "mine"
    for invalid, words in (
        ({"days": "0"}, "whole number from 1"),
        ({"budget_tokens": "many", "budget_period": "day"}, "whole number from 1"),
        ({"budget_tokens": "5", "budget_period": "year"}, "Choose how often"),
        ({"budget_tokens": "5"}, "form is incomplete"),
        ({"models": "gone"}, "no longer available"),
        ({"endpoints": "gone"}, "no endpoint gone"),
        ({"networks": "10.0.0.1/8"}, "Did you mean 10.0.0.0/8"),
        ({"requests_per_minute": "1,000,001"}, "from 1 to 1,000,000"),
        ({"note": "x" * 501}, "at most 500"),
        ({"name": " "}, "1 to 100 printable"),
        ({"name": "a\tb"}, "1 to 100 printable"),
    ):
        answer = await owner.post("/dashboard/keys", {"name": "n", **invalid})
        assert (answer.status_code, words in text_of(answer)) == (422, True), invalid


def form_of(page: str, action: str) -> dict[str, str | list[str]]:
    """The values that a browser sends for the form of a page with this action."""
    (form,) = re.findall(rf'<form method="post" action="{action}".*?</form>', page, re.DOTALL)
    values: dict[str, str | list[str]] = {}
    for tag in re.findall(r"<input[^>]*>|<select.*?</select>|<textarea.*?</textarea>", form, re.DOTALL):
        name = re.search(r'name="(\w+)"', tag)
        value = re.search(r'value="([^"]*)"', tag)
        if tag.startswith("<select"):
            value = re.search(r'value="([^"]*)" selected', tag) or re.search(r'value="([^"]*)"', tag)
        elif tag.startswith("<textarea"):
            value = re.search(r">([^<]*)<", tag)
        assert name is not None
        assert value is not None
        if 'type="checkbox"' in tag and " checked" not in tag:
            continue
        if name[1] in values:
            former = values[name[1]]
            values[name[1]] = [*(former if isinstance(former, list) else [former]), value[1]]
        else:
            values[name[1]] = value[1]
    return values


async def test_a_key_is_edited_on_its_page_and_an_unchanged_form_changes_nothing(site: Running, owner: Visitor) -> None:
    fields = {"budget_tokens": "5000", "budget_period": "day", "networks": "127.0.0.0/8"}
    secret = await create_key(owner, days="30", models="demo", **fields)
    key = (await keys_of(site.store.accounts, EMAIL))[-1]
    path = f"/dashboard/keys/{key.id}"
    form = form_of((await owner.get(path)).text, path)
    saved = await owner.post_raw(path, form)
    assert (saved.status_code, saved.headers["location"]) == (303, path)
    assert (await keys_of(site.store.accounts, EMAIL))[-1] == key
    assert "Saved." in text_of(await owner.get(saved.headers["location"]))
    changed = form | {"name": "production", "networks": "10.0.0.0/8\n192.0.2.1", "expires": "", "models": []}
    changed |= {"budget_tokens": ["6000", "70000", ""], "budget_period": ["day", "month", "total"]}
    await owner.post_raw(path, changed)
    edited = (await keys_of(site.store.accounts, EMAIL))[-1]
    assert (edited.name, edited.limits.networks) == ("production", ("10.0.0.0/8", "192.0.2.1/32"))
    assert (edited.limits.expires_at_us, edited.limits.models) == (None, None)
    assert [(one.tokens, one.period) for one in edited.limits.budgets] == [(6_000, "day"), (70_000, "month")]
    assert edited.limits.budgets[0].id == key.limits.budgets[0].id
    assert (await chat(site.base_url, secret, chat_body())).status == 403, "the next request obeys"
    for invalid, words in (({"expires": "soon"}, "Enter a time"), ({"name": ""}, "1 to 100 printable")):
        answer = await owner.post_raw(path, changed | invalid | {"version": str(edited.version)})
        assert (answer.status_code, words in text_of(answer), "192.0.2.1" in answer.text) == (422, True, True)


async def test_a_key_is_disabled_and_enabled_on_its_page(site: Running, owner: Visitor) -> None:
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    path = f"/dashboard/keys/{key.id}"
    assert (await chat(site.base_url, site.api_key, chat_body())).status == 200
    await owner.post_raw(f"{path}/enabled", {"enabled": "0"})
    assert (await chat(site.base_url, site.api_key, chat_body())).status == 401
    assert "Disabled" in text_of(await owner.get("/dashboard/keys"))
    rejected = await send(owner, key.id)
    assert (rejected.status_code, key.id in rejected.text) == (422, False)
    await owner.post_raw(f"{path}/enabled", {"enabled": "1"})
    assert (await chat(site.base_url, site.api_key, chat_body())).status == 200


async def send(owner: Visitor, key_id: str) -> httpx.Response:
    """Send a request with the playground."""
    fields = {"model": "demo", "key": key_id, "limit": "50", "user": "Hello", "send": "1"}
    return await owner.post("/dashboard/playground", fields)


async def test_the_playground_obeys_the_networks_and_endpoints_of_a_key(site: Running, owner: Visitor) -> None:
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    for changes, words in (
        ({"networks": ("203.0.113.0/24",)}, "may not be used from the IP address 127.0.0.1"),
        ({"networks": None, "endpoints": ("messages",)}, "may not call /v1/chat/completions"),
    ):
        await api_keys.edit_key(site.store.accounts, key, **changes)
        answer = await send(owner, key.id)
        assert (answer.status_code, words in text_of(answer)) == (403, True)
    await api_keys.edit_key(site.store.accounts, key, networks=("127.0.0.0/8",), endpoints=("chat",))
    assert (await send(owner, key.id)).status_code == 200


async def test_a_rotated_key_shows_its_new_secret_once_and_the_old_one_works_until_the_overlap_ends(
    site: Running, owner: Visitor
) -> None:
    old = await create_key(owner)
    key = (await keys_of(site.store.accounts, EMAIL))[-1]
    path = f"/dashboard/keys/{key.id}"
    form = form_of((await owner.get(path)).text, f"{path}/rotate")
    first = await owner.post_raw(f"{path}/rotate", form | {"overlap_days": "1"})
    again = await owner.post_raw(f"{path}/rotate", form | {"overlap_days": "1"})
    secrets = {found for page in (first, again) for found in re.findall(r">(tk0n_\w{49,})<", page.text)}
    assert len(secrets) == 1, "a repeated form rotates nothing, and shows the same secret"
    (new,) = secrets
    assert "more than once" in again.text
    for secret in (old, new):
        assert (await chat(site.base_url, secret, chat_body())).status == 200
    shown = (await owner.get(path)).text
    assert new not in shown
    assert f"{new[:9]}…{new[-4:]}" in shown
    assert f"{old[:9]}…{old[-4:]}" in shown
    await owner.post(f"{path}/rotate", {"overlap_days": "0"}, page=path)
    for secret in (old, new):
        assert (await chat(site.base_url, secret, chat_body())).status == 401
    for days in ("8", "x"):
        answer = await owner.post(f"{path}/rotate", {"overlap_days": days}, page=path)
        assert answer.status_code == 422


async def test_the_activity_log_shows_every_change_and_exports_it(site: Running, owner: Visitor) -> None:
    secret = await create_key(owner, networks="10.0.0.0/8")
    key = (await keys_of(site.store.accounts, EMAIL))[-1]
    await api_keys.edit_key(site.store.accounts, key, actor="operator", name="=1+1", networks=None)
    await owner.post(f"/dashboard/keys/{key.id}/revoke")
    page = await owner.get("/dashboard/activity")
    words = text_of(page)
    for part in (EMAIL, "operator", "Created", "Edited", "Revoked", "10.0.0.0/8", "→ none"):
        assert part in words, part
    export = await owner.get("/dashboard/activity.csv")
    assert export.headers["content-disposition"].endswith('"tok0n-activity.csv"')
    rows = list(csv.DictReader(io.StringIO(export.text)))
    assert [(row["actor"], row["action"]) for row in rows][:3] == [
        (EMAIL, "key_revoked"),
        ("operator", "key_edited"),
        (EMAIL, "key_created"),
    ]
    assert json.loads(rows[1]["before"]) == {"name": "laptop", "networks": ["10.0.0.0/8"]}
    assert rows[0]["key_name"] == "'=1+1"
    for text in (page.text, export.text):
        assert secret[9:40] not in text


async def test_an_account_has_a_bounded_number_of_keys(site: Running, owner: Visitor) -> None:
    existing = await keys_of(site.store.accounts, EMAIL)
    for _ in range(KEYS_MAX - len(existing) - 1):
        await api_keys.create_key(site.store.accounts, EMAIL)
    await create_key(owner)
    refused = await owner.post("/dashboard/keys", {"name": "one more"})
    assert (refused.status_code, "Revoke one first" in refused.text) == (422, True)


async def test_a_key_shows_when_it_was_last_used(site: Running, owner: Visitor) -> None:
    assert "never" in text_of(await owner.get("/dashboard/keys"))
    await chat(site.base_url, site.api_key, chat_body())
    await site.caller_cache.flush_last_used()
    key = (await keys_of(site.store.accounts, EMAIL))[0]
    assert key.last_used_at_us is not None
    assert abs(key.last_used_at_us - site.clock.now_us()) < 60_000_000
    unused, _ = await api_keys.create_key(site.store.accounts, EMAIL)
    assert unused.last_used_at_us is None


async def test_the_form_of_a_key_that_is_saved_unchanged_changes_nothing(site: Running, owner: Visitor) -> None:
    """Also if the installation has one endpoint and one token class, which the form needs no choice of."""
    await create_key(owner)
    key = (await keys_of(site.store.accounts, EMAIL))[-1]
    drafts = (BudgetDraft(tokens=500, period=ResetPeriod.DAY, token_class="standard"), BudgetDraft(tokens=9_000))
    before = await edit_key(
        site.store.accounts,
        key,
        note="mine",
        budgets=drafts,
        endpoints=("chat",),
        models=("demo",),
        networks=("127.0.0.0/8",),
        requests_per_minute=7,
    )
    path = f"/dashboard/keys/{key.id}"
    saved = await owner.post_raw(path, form_of((await owner.get(path)).text, path))
    assert saved.status_code in {200, 303}
    after = (await keys_of(site.store.accounts, EMAIL))[-1]
    assert after.version == before.version
    assert after.limits == before.limits


async def test_a_form_of_a_key_that_has_changed_meanwhile_is_not_saved(site: Running, owner: Visitor) -> None:
    await create_key(owner)
    key = (await keys_of(site.store.accounts, EMAIL))[-1]
    path = f"/dashboard/keys/{key.id}"
    form = form_of((await owner.get(path)).text, path)
    await edit_key(site.store.accounts, key, networks=("10.0.0.0/8",))
    answer = await owner.post_raw(path, form | {"name": "mine"})
    assert "This key has changed since you opened the page." in text_of(answer)
    (*_, after) = await keys_of(site.store.accounts, EMAIL)
    assert (after.limits.networks, after.name) == (("10.0.0.0/8",), key.name)


@pytest.mark.parametrize("expires", ["9999-12-31T23:59", "0001-01-01T00:00", "2200-01-01T00:00"])
async def test_a_key_has_an_expiry_that_can_be_shown_in_every_time_zone(
    site: Running, owner: Visitor, expires: str
) -> None:
    await create_key(owner)
    key = (await keys_of(site.store.accounts, EMAIL))[-1]
    path = f"/dashboard/keys/{key.id}"
    answer = await owner.post_raw(path, form_of((await owner.get(path)).text, path) | {"expires": expires})
    assert answer.status_code == 422
    assert (await keys_of(site.store.accounts, EMAIL))[-1].limits.expires_at_us is None


async def test_the_list_shows_the_two_budgets_of_a_key_that_are_used_up_most(site: Running, owner: Visitor) -> None:
    secret = await create_key(owner)
    key = (await keys_of(site.store.accounts, EMAIL))[-1]
    drafts = [BudgetDraft(tokens=tokens) for tokens in (900_000, 5_000, 800_000, 9_000)]
    await edit_key(site.store.accounts, key, budgets=drafts)
    assert (await chat(site.base_url, secret, chat_body())).status == 200
    words = words_of(await owner.get("/dashboard/keys"))
    assert f"{USAGE_TOTAL} of 5,000 in total {USAGE_TOTAL} of 9,000 in total 2 more budgets" in words
    assert "of 900,000" not in words
    assert "of 900,000" in words_of(await owner.get(f"/dashboard/keys/{key.id}"))


async def test_the_activity_shows_names_as_they_are(owner: Visitor) -> None:
    name = "2026-13-45T99:99:99+00:00"
    await owner.post("/dashboard/keys", {"name": name, "requests_per_minute": "1"})
    shown = await owner.get("/dashboard/activity")
    assert shown.status_code == 200
    assert name in text_of(shown)
    assert "requests per minute: 1" in words_of(shown)


async def test_each_change_of_a_key_is_confirmed_once(site: Running, owner: Visitor) -> None:
    await create_key(owner)
    key = (await keys_of(site.store.accounts, EMAIL))[-1]
    path = f"/dashboard/keys/{key.id}"
    confirmations = []
    for target, fields in (
        (path, {"name": "renamed"}),
        (f"{path}/enabled", {"enabled": "0"}),
        (f"{path}/enabled", {"enabled": "1"}),
        (f"{path}/revoke", {}),
    ):
        answer = await owner.post(target, fields, page=path)
        assert answer.status_code == 303, text_of(answer)
        texts = [(await owner.get(answer.headers["location"])).text for _ in range(2)]
        confirmations.append([re.findall(r'<p class="flash[^>]*role="status">([^<]*)<', text) for text in texts])
    assert confirmations == [
        [["Key renamed."], []],
        [["Key disabled. New requests with it are rejected."], []],
        [["Key enabled."], []],
        [["Key revoked. New requests with it are rejected."], []],
    ]


async def test_a_confirmation_is_never_a_text_from_the_request(owner: Visitor) -> None:
    owner.cookies.set("tok0n-flash", "<b>key-renamed</b>")
    page = await owner.get("/dashboard/keys")
    assert ("flash" in page.text, "key-renamed" in page.text) == (False, False)


async def test_an_error_without_an_input_is_shown_too(site: Running, owner: Visitor) -> None:
    await create_key(owner)
    key = (await keys_of(site.store.accounts, EMAIL))[-1]
    await site.store.accounts.revoke_key(account_id=key.account_id, key_id=key.id, now_us=1)
    answer = await owner.post_raw(f"/dashboard/keys/{key.id}/enabled", {"enabled": "0"})
    assert answer.status_code == 422
    assert "This API key is revoked, which is permanent." in text_of(answer)


@pytest.mark.parametrize("days", ["8", "-1", "x", "1.5", "99999999999999999999"])
async def test_an_invalid_overlap_has_one_message(site: Running, owner: Visitor, days: str) -> None:
    await create_key(owner)
    key = (await keys_of(site.store.accounts, EMAIL))[-1]
    path = f"/dashboard/keys/{key.id}"
    answer = await owner.post(f"{path}/rotate", {"overlap_days": days}, page=path)
    assert answer.status_code == 422
    assert "Enter a whole number of days from 0 to 7." in text_of(answer)
