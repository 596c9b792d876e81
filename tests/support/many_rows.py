"""Fill a database of either engine with accounts and settled requests, in a few statements. Its audit is clean.

Each key has a daily budget with as many old periods as requests, which count in none of them, and as many changes.
"""

import sqlalchemy as sa

from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR

CHARGE = 10
TOKENS = 1_000_000_000
FIRST_US = 1_700_000_000_000_000
APART_US = 1_000
"""The time between two requests."""

_STATEMENTS = """
INSERT INTO account (id, email, status, created_at_us)
{numbers} SELECT 'acct_' || {id}, i || '@x', 'open', 0 FROM n WHERE i < {accounts}

INSERT INTO wallet (account_id, token_class, posted, pending, entries)
{numbers} SELECT 'acct_' || {id}, 'standard', {posted}, 0, {entries} FROM n WHERE i < {accounts}

INSERT INTO api_key (id, account_id, name, created_at_us)
{numbers} SELECT 'key_' || {id}, 'acct_' || {id}, 'k', 0 FROM n WHERE i < {accounts}

INSERT INTO key_secret (digest, api_key_id, prefix, last_four, created_at_us)
{numbers} SELECT CAST({id} AS {blob}), 'key_' || {id}, 'p', 'f', 0 FROM n WHERE i < {accounts}

INSERT INTO key_budget (id, api_key_id, tokens, period, time_zone, created_at_us)
{numbers} SELECT 'bud_' || {id}, 'key_' || {id}, {tokens}, 'day', 'UTC', 0 FROM n WHERE i < {accounts}

INSERT INTO budget_period (budget_id, starts_at_us, ends_at_us, spent, pending)
{numbers} SELECT 'bud_' || {owner}, i / {accounts}, i / {accounts} + 1, 0, 0 FROM n

INSERT INTO activity (account_id, api_key_id, action, actor, created_at_us)
{numbers} SELECT 'acct_' || {owner}, 'key_' || {owner}, 'key.edit', 'operator', i FROM n

INSERT INTO request (id, account_id, api_key_id, model, status, reserved, charged, shortfall, prompt_tokens,
    completion_tokens, total_tokens, dispatched, created_at_us, expires_at_us, resolved_at_us)
{numbers} SELECT 'req_' || {hex} || {id}, 'acct_' || {owner}, 'key_' || {owner}, 'demo', 'SETTLED', 20, {charge}, 0,
    {charge}, 0, {charge}, 1, {at}, {at} + 1, {at} + 1 FROM n

INSERT INTO ledger_entry (account_id, number, kind, amount, posted_after, created_at_us)
{numbers} SELECT 'acct_' || {id}, 1, 'grant', {tokens}, {tokens}, 0 FROM n WHERE i < {accounts}

INSERT INTO ledger_entry (account_id, number, kind, amount, posted_after, request_id, created_at_us)
{numbers} SELECT 'acct_' || {owner}, i / {accounts} + 2, 'usage', -{charge}, {tokens} - {charge} * (i / {accounts} + 1),
    'req_' || {hex} || {id}, {at} + 1 FROM n

INSERT INTO usage_quarter (account_id, quarter, api_key_id, model, requests, prompt_tokens, completion_tokens, charged)
SELECT account_id, resolved_at_us / {quarter}, api_key_id, model, count(*), sum(charged), 0, sum(charged)
FROM request GROUP BY 1, 2, 3, 4
"""


def fill(
    tx: sa.Connection, *, accounts: int, requests: int, first_us: int = FIRST_US, apart_us: int = APART_US
) -> None:
    """Insert `accounts`, each with one key, and `requests`, a multiple of it, which they made in turn."""
    assert requests % accounts == 0
    is_sqlite = tx.dialect.name == "sqlite"
    at = f"(CAST({first_us} AS BIGINT) + i * CAST({apart_us} AS BIGINT))"
    values = {
        "numbers": f"WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {requests})",
        "id": "substr(CAST(1000000000000 + i AS TEXT), 2)",
        "owner": f"substr(CAST(1000000000000 + i % {accounts} AS TEXT), 2)",
        "hex": f"printf('%012x', {at} / 1000)" if is_sqlite else f"lpad(to_hex({at} / 1000), 12, '0')",
        "blob": "BLOB" if is_sqlite else "BYTEA",
        "at": at,
        "accounts": accounts,
        "posted": TOKENS - CHARGE * (requests // accounts),
        "entries": requests // accounts + 1,
        "charge": CHARGE,
        "tokens": TOKENS,
        "quarter": MICROSECONDS_PER_QUARTER_HOUR,
    }
    for statement in _STATEMENTS.strip().split("\n\n"):
        tx.execute(sa.text(statement.format(**values)))


def account_id(number: int) -> str:
    """Return the id of an account."""
    return f"acct_{number:012}"


def key_id(number: int) -> str:
    """Return the id of the account's key."""
    return f"key_{number:012}"


def budget_id(number: int) -> str:
    """Return the id of the budget of the account's key."""
    return f"bud_{number:012}"


def digest(number: int) -> bytes:
    """Return the digest of the secret of the account's key."""
    return f"{number:012}".encode()
