"""PostgreSQL looks up no row of the hot path again, and finds those it wants by their ids.

For each call it checked four foreign keys: the account and the key of a request, which `tok0n_batch` reads and joins
before it makes one, and the account and the request of an entry, which it has just updated. That what is referred to
stays there is now held from the other side, which costs a call nothing: accounts, keys and requests are never deleted,
and keep their ids. SQLite checks for next to nothing, and goes on.

And it took `request_pending`, the index of all that is PENDING, to find those that a batch ends, because that is small
when it plans: each batch went through all calls in flight, and through all that had ended since the last vacuum. The
function now asks for rows without an end: the same rows (the audit looks), and the planner cannot find them by an index
whose condition is on the status.

The version before this one works with it, so that servers can be restarted one after the other.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

_NO_LONGER_CHECKED = (
    ("request", "request_account_id_fkey"),
    ("request", "request_api_key_id_fkey"),
    ("ledger_entry", "ledger_entry_account_id_fkey"),
    ("ledger_entry", "ledger_entry_request_id_fkey"),
)
_REFERRED_TO = ("account", "api_key", "request")
_NEVER_EMPTIED = (*_REFERRED_TO, "ledger_entry")

_BATCH = """
CREATE OR REPLACE FUNCTION tok0n_batch(
    s_id text[], s_prompt bigint[], s_completion bigint[], s_total bigint[], s_details text[], s_ms integer[],
    s_at bigint[],
    e_id text[], e_code text[], e_dispatched integer[], e_at bigint[],
    v_id text[], v_account text[], v_key text[], v_model text[], v_tokens bigint[], v_created bigint[],
    v_expires bigint[]
) RETURNS TABLE (
    kind text, n integer, outcome text, reserved bigint, charged bigint, shortfall bigint, posted bigint, pending bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    done integer;
    more record;
    charge bigint;
    balance record;
BEGIN
    PERFORM 1 FROM account WHERE id IN (
        SELECT unnest(v_account) UNION SELECT account_id FROM request WHERE id = ANY (s_id || e_id)
    ) ORDER BY id FOR NO KEY UPDATE;

    IF cardinality(s_id) > 0 THEN
        -- What the reservation covers, all at once.
        RETURN QUERY WITH wanted AS (
            SELECT * FROM unnest(s_id, s_prompt, s_completion, s_total, s_details, s_ms, s_at)
                WITH ORDINALITY AS w (id, prompt, completion, total, details, ms, at, n)
        ), ended AS (
            UPDATE request r SET status = 'SETTLED', charged = w.total, prompt_tokens = w.prompt,
                completion_tokens = w.completion, total_tokens = w.total, details = w.details, upstream_ms = w.ms,
                resolved_at_us = w.at
            FROM wanted w WHERE r.id = w.id AND r.resolved_at_us IS NULL AND w.total <= r.reserved
            RETURNING r.id, r.account_id, r.api_key_id, r.model, r.reserved, w.prompt, w.completion, w.total, w.at, w.n
        ), budget AS (
            UPDATE api_key k SET spent = k.spent + e.total, pending = k.pending - e.reserved
            FROM (SELECT api_key_id, sum(total)::bigint AS total, sum(reserved)::bigint AS reserved
                FROM ended GROUP BY api_key_id) e
            WHERE k.id = e.api_key_id AND k.budget IS NOT NULL
        ), hour AS (
            INSERT INTO usage_hour AS u (account_id, hour, api_key_id, model, requests, prompt_tokens,
                completion_tokens, charged)
            SELECT account_id, at / 3600000000, api_key_id, model, count(*), sum(prompt)::bigint,
                sum(completion)::bigint, sum(total)::bigint
            FROM ended GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
            ON CONFLICT (account_id, hour, api_key_id, model) DO UPDATE SET requests = u.requests + excluded.requests,
                prompt_tokens = u.prompt_tokens + excluded.prompt_tokens,
                completion_tokens = u.completion_tokens + excluded.completion_tokens,
                charged = u.charged + excluded.charged
        ), spent AS (
            SELECT account_id, sum(total)::bigint AS total, sum(reserved)::bigint AS reserved
            FROM ended GROUP BY account_id
        ), after AS (
            UPDATE account a SET posted = a.posted - s.total, pending = a.pending - s.reserved
            FROM spent s WHERE a.id = s.account_id
            RETURNING a.id, a.posted, a.pending
        ), line AS (
            SELECT e.*, (a.posted + coalesce(sum(e.total) OVER later, 0))::bigint AS posted,
                (a.pending + coalesce(sum(e.reserved) OVER later, 0))::bigint AS pending
            FROM ended e JOIN after a ON a.id = e.account_id
            WINDOW later AS (
                PARTITION BY e.account_id ORDER BY e.n DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            )
        ), entry AS (
            INSERT INTO ledger_entry (account_id, kind, amount, posted_after, request_id, created_at_us)
            SELECT account_id, 'usage', -total, posted, id, at FROM line ORDER BY n
        )
        SELECT 's', n::integer, 'SETTLED', reserved, total, 0::bigint, posted, pending FROM line;
        GET DIAGNOSTICS done = ROW_COUNT;

        -- What used more than was reserved, one after the other: each may take what the one before left.
        IF done < cardinality(s_id) THEN
            FOR more IN
                SELECT w.*, r.account_id, r.api_key_id, r.model, r.reserved
                FROM unnest(s_id, s_prompt, s_completion, s_total, s_details, s_ms, s_at)
                    WITH ORDINALITY AS w (id, prompt, completion, total, details, ms, at, n)
                JOIN request r ON r.id = w.id WHERE r.resolved_at_us IS NULL ORDER BY w.n
            LOOP
                SELECT least(more.total, more.reserved + a.posted - a.pending) INTO charge
                FROM account a WHERE a.id = more.account_id;
                UPDATE request r SET status = 'SETTLED', charged = charge, shortfall = more.total - charge,
                    prompt_tokens = more.prompt, completion_tokens = more.completion, total_tokens = more.total,
                    details = more.details, upstream_ms = more.ms, resolved_at_us = more.at
                WHERE r.id = more.id;
                UPDATE account a SET posted = a.posted - charge, pending = a.pending - more.reserved
                WHERE a.id = more.account_id RETURNING a.posted, a.pending INTO balance;
                INSERT INTO ledger_entry (account_id, kind, amount, posted_after, request_id, created_at_us)
                VALUES (more.account_id, 'usage', -charge, balance.posted, more.id, more.at);
                UPDATE api_key k SET spent = k.spent + charge, pending = k.pending - more.reserved
                WHERE k.id = more.api_key_id AND k.budget IS NOT NULL;
                INSERT INTO usage_hour AS u (account_id, hour, api_key_id, model, requests, prompt_tokens,
                    completion_tokens, charged)
                VALUES (more.account_id, more.at / 3600000000, more.api_key_id, more.model, 1, more.prompt,
                    more.completion, charge)
                ON CONFLICT (account_id, hour, api_key_id, model) DO UPDATE SET requests = u.requests + 1,
                    prompt_tokens = u.prompt_tokens + excluded.prompt_tokens,
                    completion_tokens = u.completion_tokens + excluded.completion_tokens,
                    charged = u.charged + excluded.charged;
                RETURN QUERY SELECT 's', more.n::integer, 'SETTLED', more.reserved, charge, more.total - charge,
                    balance.posted, balance.pending;
            END LOOP;
        END IF;
    END IF;

    IF cardinality(e_id) > 0 THEN
        RETURN QUERY WITH ended AS (
            UPDATE request r SET status = 'RELEASED', code = w.code, dispatched = w.dispatched, resolved_at_us = w.at
            FROM unnest(e_id, e_code, e_dispatched, e_at) WITH ORDINALITY AS w (id, code, dispatched, at, n)
            WHERE r.id = w.id AND r.resolved_at_us IS NULL
            RETURNING r.account_id, r.api_key_id, r.reserved, w.n
        ), budget AS (
            UPDATE api_key k SET pending = k.pending - e.reserved
            FROM (SELECT api_key_id, sum(reserved)::bigint AS reserved FROM ended GROUP BY api_key_id) e
            WHERE k.id = e.api_key_id AND k.budget IS NOT NULL
        ), freed AS (
            SELECT account_id, sum(reserved)::bigint AS reserved FROM ended GROUP BY account_id
        ), after AS (
            UPDATE account a SET pending = a.pending - f.reserved FROM freed f WHERE a.id = f.account_id
        )
        SELECT 'e', n::integer, 'RELEASED', reserved, 0::bigint, 0::bigint, 0::bigint, 0::bigint FROM ended;
    END IF;

    IF cardinality(v_id) > 0 THEN
        -- Those that fit one after the other are accepted. One that does not fit beside them is refused; one that
        -- would fit if a larger one before it were not counted is to come again.
        RETURN QUERY WITH wanted AS (
            SELECT w.*, a.posted, a.pending, (a.status = 'open' AND k.id IS NOT NULL) IS TRUE AS allowed,
                k.budget - k.spent - k.pending AS key_left
            FROM unnest(v_id, v_account, v_key, v_model, v_tokens, v_created, v_expires)
                WITH ORDINALITY AS w (id, account_id, api_key_id, model, tokens, created, expires, n)
            LEFT JOIN account a ON a.id = w.account_id
            LEFT JOIN api_key k
                ON k.id = w.api_key_id AND k.account_id = w.account_id AND k.revoked_at_us IS NULL
                AND (k.expires_at_us IS NULL OR k.expires_at_us > w.created)
        ), within AS (
            SELECT *, key_left IS NULL
                OR sum(tokens) FILTER (WHERE allowed) OVER (PARTITION BY api_key_id ORDER BY n) <= key_left AS in_budget
            FROM wanted
        ), summed AS (
            SELECT *, sum(tokens) FILTER (WHERE allowed AND in_budget)
                OVER (PARTITION BY account_id ORDER BY n) AS so_far
            FROM within
        ), accepted AS (
            SELECT * FROM summed WHERE allowed AND in_budget AND so_far <= posted - pending
        ), budget AS (
            UPDATE api_key k SET pending = k.pending + e.tokens
            FROM (SELECT api_key_id, sum(tokens)::bigint AS tokens FROM accepted GROUP BY api_key_id) e
            WHERE k.id = e.api_key_id AND k.budget IS NOT NULL
        ), taken AS (
            SELECT account_id, max(so_far)::bigint AS tokens FROM accepted GROUP BY account_id
        ), after AS (
            UPDATE account a SET pending = a.pending + t.tokens FROM taken t WHERE a.id = t.account_id
        ), made AS (
            INSERT INTO request (id, account_id, api_key_id, model, status, reserved, charged, shortfall, dispatched,
                created_at_us, expires_at_us)
            SELECT id, account_id, api_key_id, model, 'PENDING', tokens, 0, 0, 1, created, expires FROM accepted
        )
        SELECT 'v', s.n::integer, CASE
                WHEN NOT s.allowed THEN 'REFUSED'
                WHEN s.tokens > s.key_left THEN 'BUDGET'
                WHEN NOT s.in_budget THEN 'AGAIN'
                WHEN s.so_far <= s.posted - s.pending THEN 'PENDING'
                WHEN s.tokens > s.posted - s.pending - coalesce(t.tokens, 0) THEN 'SHORT'
                ELSE 'AGAIN' END,
            s.tokens, coalesce(s.key_left, 0), 0::bigint, s.posted, (s.pending + CASE
                WHEN s.allowed AND s.in_budget AND s.so_far <= s.posted - s.pending THEN s.so_far
                ELSE coalesce(t.tokens, 0) END)::bigint
        FROM summed s LEFT JOIN taken t ON t.account_id = s.account_id;
    END IF;
END $$
"""


def upgrade() -> None:
    """Drop the checks, guard what they were for, and make the function anew."""
    if op.get_bind().dialect.name != "postgresql":
        return
    # In the order of the hot path, which would wait for us as we for it.
    op.execute("LOCK TABLE account, api_key, request, ledger_entry IN ACCESS EXCLUSIVE MODE")
    for table, constraint in _NO_LONGER_CHECKED:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
    for table in _REFERRED_TO:
        op.execute(
            f"CREATE TRIGGER {table}_is_never_deleted BEFORE DELETE ON {table} FOR EACH ROW "
            f"EXECUTE FUNCTION tok0n_refuse('rows of {table} are never deleted')"
        )
        op.execute(
            f"CREATE TRIGGER {table}_keeps_its_id BEFORE UPDATE OF id ON {table} FOR EACH ROW "
            f"EXECUTE FUNCTION tok0n_refuse('rows of {table} keep their id')"
        )
    for table in _NEVER_EMPTIED:
        op.execute(
            f"CREATE TRIGGER {table}_is_never_emptied BEFORE TRUNCATE ON {table} "
            f"EXECUTE FUNCTION tok0n_refuse('{table} is never emptied')"
        )
    op.execute(_BATCH)
