"""Replaced identifiers don't come back."""

import io
import tokenize
from functools import cache
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"

REPLACED = {
    "Turns": "PacedQueue",
    "Lazily": "local imports",
    "ShortWay": "one entrance: App.handle",
    "Refused": "FormError",
    "KeyRing": "CallerCache",
    "remember_use": "flush_last_used",
    "for_caller": "complete",
    "unreleased": "failed_releases",
    "release_again": "retry_releases",
    "Submitted": "UncancellableFuture",
    "Bulk": "BatchItem",
    "RunAll": "BatchHandler",
    "Numbered": "Indexed",
    "unless_another_does": "verify_if_unclaimed",
    "alone_for_us": "exclusive_us",
    "US_A_DAY": "MICROSECONDS_PER_DAY",
    "US_A_SECOND": "MICROSECONDS_PER_SECOND",
    "US_AN_HOUR": "MICROSECONDS_PER_HOUR",
    "US_A_QUARTER": "MICROSECONDS_PER_QUARTER_HOUR",
    "HANDLE_SECONDS": "HANDLE_PAYMENTS_SECONDS",
    "FORGET_SECONDS": "DELETE_SIGN_IN_SECONDS",
    "forget_old": "delete_old",
    "forget_expired": "delete_expired",
    "idle": "wait_until_idle",
    "unhurried": "no_timeout",
    "by_index": "force_index_scans",
    "CLUSTERED": "WITHOUT_ROWID",
    "PROMPT_ATTEMPTS": "IMMEDIATE_ATTEMPTS",
    "_admitted": "_admit_reserve_and_call",
    "_explained": "_with_advice",
    "_await_body": "_on_incomplete_body",
    "_next_iteration": "_run_waiting",
    "is_cut_off": "is_aborted",
    "is_cut_before_output": "ended_before_output",
    "remove_if_over": "remove_if_finished",
    "END_STREAM": "RECORD_STREAM_END",
    "WAIT_US": "COUNT_DELAY_US, ADD_UP_DELAY_US",
    "WAITS_US": "RETRY_FOR_US",
    "Signing": "SignIn",
    "SignedIn": "Session",
    "give_code": "submit_code",
    "make_link": "create_link",
    "take_low": "claim_due",
    "Chore": "PeriodicTask",
    "News": "ProviderFact",
    "Edge": "ServerOptions",
    "ClientLeft": "RequestAborted",
    "is_used_up": "needs_more_output",
    "Desk": "DashboardContext",
    "DashboardPorts": "DashboardContext",
    "recognise": "load_session",
    "InFlight": "RequestsInProgress",
    "Person": "User",
    "People": "Users",
    "person_id": "user_id",
    "WholeAnswer": "Response",
    "below": "threshold_tokens",
    "concurrent_requests_per_user": "concurrent_requests_per_account",
    "refuse": "reject",
    "Site": "PageContext",
    "Visit": "PageRequest",
    "goal": "next_url",
    "who": "find_session",
    "said": "what it is: status_text, message",
    "refusal": "rejection",
    "chosen": "what it is: filter, selected",
    "shown": "what it is: rendered, formatted",
    "CompleteChat": "Pipeline",
    "ChatRequest": "MeteredRequest",
    "told": "what happens: notified, wait_until_delivered",
    "Hold": "ByteCount",
    "holder": "owner",
    "named": "headers_by_name",
    "made_in": "session_digest",
    "request_options": "sign_in_options",
    "MailedLinks": "EmailedLinks",
    "DEFINITIONS": "DEFINITION_FIELDS",
    "Fault": "SettingsProblem",
    "UseEntry": "UsagePoint",
    "model_routes": "models_api_routes, model_page_routes",
    "LIFE_US": "LIFETIME_US",
    "but": "what it keeps: except_digest",
    "prove": "check_password",
    "NAMED": "BY_NAME",
    "LASTS": "LAST_PERIODS",
    "QUARTERS_A_DAY": "QUARTERS_PER_DAY",
    "mails": "emails",
    "works": "is_active",
    "old_link": "invalid_link_page",
    "if_unclaimed": "verify_if_unclaimed",
    "only_counted": "count_not_stored",
    "step_of": "find_step",
}
"""Names that were replaced, and what to write instead."""


@cache
def identifiers() -> frozenset[str]:
    """Return every identifier in `src`, except in migrations, which are not edited."""
    return frozenset(
        token.string
        for file in SRC.rglob("*.py")
        if "versions" not in file.parts
        for token in tokenize.generate_tokens(io.StringIO(file.read_text("utf-8")).readline)
        if token.type == tokenize.NAME
    )


@pytest.mark.parametrize("name", REPLACED)
def test_a_replaced_name_does_not_come_back(name: str) -> None:
    assert name not in identifiers(), f"write {REPLACED[name]}"
