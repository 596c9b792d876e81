"""The hot path of the ledger on PostgreSQL: one function that carries out a whole batch in one statement.

Its caller is `adapters/sql/postgres/ledger.py`. The first statement locks every account concerned in the order of the
ids, so that no two batches, in whatever processes, can wait for each other; whoever else ends requests does the same.
Each statement after it sees all that was committed before the locks were had.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

_BATCH = """
CREATE FUNCTION tok0n_batch(
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
            FROM wanted w WHERE r.id = w.id AND r.status = 'PENDING' AND w.total <= r.reserved
            RETURNING r.id, r.account_id, r.reserved, w.total, w.at, w.n
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
                SELECT w.*, r.account_id, r.reserved
                FROM unnest(s_id, s_prompt, s_completion, s_total, s_details, s_ms, s_at)
                    WITH ORDINALITY AS w (id, prompt, completion, total, details, ms, at, n)
                JOIN request r ON r.id = w.id WHERE r.status = 'PENDING' ORDER BY w.n
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
                RETURN QUERY SELECT 's', more.n::integer, 'SETTLED', more.reserved, charge, more.total - charge,
                    balance.posted, balance.pending;
            END LOOP;
        END IF;
    END IF;

    IF cardinality(e_id) > 0 THEN
        RETURN QUERY WITH ended AS (
            UPDATE request r SET status = 'RELEASED', code = w.code, dispatched = w.dispatched, resolved_at_us = w.at
            FROM unnest(e_id, e_code, e_dispatched, e_at) WITH ORDINALITY AS w (id, code, dispatched, at, n)
            WHERE r.id = w.id AND r.status = 'PENDING'
            RETURNING r.account_id, r.reserved, w.n
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
            SELECT w.*, a.posted, a.pending, (a.status = 'open' AND k.id IS NOT NULL) IS TRUE AS allowed
            FROM unnest(v_id, v_account, v_key, v_model, v_tokens, v_created, v_expires)
                WITH ORDINALITY AS w (id, account_id, api_key_id, model, tokens, created, expires, n)
            LEFT JOIN account a ON a.id = w.account_id
            LEFT JOIN api_key k
                ON k.id = w.api_key_id AND k.account_id = w.account_id AND k.revoked_at_us IS NULL
        ), summed AS (
            SELECT *, sum(tokens) FILTER (WHERE allowed) OVER (PARTITION BY account_id ORDER BY n) AS so_far FROM wanted
        ), accepted AS (
            SELECT * FROM summed WHERE allowed AND so_far <= posted - pending
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
                WHEN s.so_far <= s.posted - s.pending THEN 'PENDING'
                WHEN s.tokens > s.posted - s.pending - coalesce(t.tokens, 0) THEN 'SHORT'
                ELSE 'AGAIN' END,
            s.tokens, 0::bigint, 0::bigint, s.posted, (s.pending + CASE
                WHEN s.allowed AND s.so_far <= s.posted - s.pending THEN s.so_far
                ELSE coalesce(t.tokens, 0) END)::bigint
        FROM summed s LEFT JOIN taken t ON t.account_id = s.account_id;
    END IF;
END $$
"""


def upgrade() -> None:
    """Make the function, where there is PostgreSQL."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_BATCH)
