-- Settle, release and reserve one batch of the ledger in one statement.
--
-- `postgres/ledger.py` calls it with one array for each column and reads one row for each command that took effect, or
-- for each reservation. A settlement or release without a row found its request ended; the caller reads that row back.
-- The rules are those of `domain/ledger_rules.py`.
--
-- It first locks every wallet of the accounts concerned in the order of their ids, and then every budget. Everything that
-- resolves requests or changes budgets does so, so two batches never deadlock, and each later statement sees everything
-- that was committed before the locks. The standard wallet, which every account has, comes first: it also stands for a
-- wallet that another transaction adds meanwhile.
--
-- Each condition `id = ANY (...)` beside a join on the same id bounds the join to the rows of the batch, whichever table
-- the planner reads first. Without it, a plan made while the tables were small reads all of a table at every call.
--
-- `w` is the row of one command. `usage_quarter` counts quarter hours, of 900,000,000 microseconds each.
CREATE FUNCTION tok0n_ledger_batch(
    settle_id text[], settle_prompt bigint[], settle_completion bigint[], settle_total bigint[], settle_details text[],
    settle_ms integer[], settle_at bigint[], settle_first integer[], settle_left integer[],
    release_id text[], release_code text[], release_dispatched integer[], release_at bigint[], release_first integer[],
    reserve_id text[], reserve_account text[], reserve_key text[], reserve_model text[], reserve_tokens bigint[],
    reserve_created bigint[], reserve_expires bigint[], reserve_stream integer[], reserve_endpoint text[],
    reserve_class text[], reserve_version bigint[], reserve_periods text[], reserving_process text
) RETURNS TABLE (
    kind text, n integer, outcome text, reserved bigint, charged bigint, shortfall bigint, posted bigint, pending bigint,
    budget text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    account_ids text[];
    budget_lists text[];
    budget_ids text[];
    settled_rows integer;
    overrun record;
    charge bigint;
    balance record;
BEGIN
    SELECT array_agg(DISTINCT account_id), array_agg(budget_periods) FILTER (WHERE budget_periods IS NOT NULL)
    INTO account_ids, budget_lists
    FROM request WHERE id = ANY (settle_id || release_id);
    PERFORM 1 FROM wallet
    WHERE account_id = ANY (reserve_account || account_ids)
    ORDER BY account_id, token_class <> 'standard', token_class FOR NO KEY UPDATE;
    budget_lists := array_remove(reserve_periods || budget_lists, NULL);
    IF cardinality(budget_lists) > 0 THEN
        SELECT array_agg(DISTINCT p.id) INTO budget_ids
        FROM unnest(budget_lists) AS c (list), tok0n_periods(c.list) AS p;
        PERFORM 1 FROM key_budget WHERE id = ANY (budget_ids) ORDER BY id FOR NO KEY UPDATE;
    END IF;

    IF cardinality(settle_id) > 0 THEN
        -- Settlements within their reservation, all in one statement. A row without an end is PENDING; the planner
        -- must not find it by `request_pending`, which lists every request in progress and every recent end.
        RETURN QUERY WITH command AS (
            SELECT *
            FROM unnest(settle_id, settle_prompt, settle_completion, settle_total, settle_details, settle_ms, settle_at,
                settle_first, settle_left)
                WITH ORDINALITY AS w (id, prompt, completion, total, details, ms, at, first_event, left_early, n)
        ), ended AS (
            UPDATE request r SET status = 'SETTLED', charged = w.total, prompt_tokens = w.prompt,
                completion_tokens = w.completion, total_tokens = w.total, details = w.details, upstream_ms = w.ms,
                resolved_at_us = w.at, first_event_ms = w.first_event, client_left = w.left_early
            FROM command w
            WHERE r.id = w.id AND r.id = ANY (settle_id) AND r.resolved_at_us IS NULL AND w.total <= r.reserved
            RETURNING r.id, r.account_id, r.token_class, r.api_key_id, r.model, r.budget_periods, r.reserved, w.prompt,
                w.completion, w.total, w.at, w.n
        ), period AS (
            UPDATE budget_period b SET spent = b.spent + e.total, pending = b.pending - e.reserved
            FROM (SELECT p.id, p.starts, sum(total)::bigint AS total, sum(reserved)::bigint AS reserved
                FROM ended, tok0n_periods(budget_periods) AS p WHERE budget_periods IS NOT NULL GROUP BY 1, 2) e
            WHERE b.budget_id = e.id AND b.starts_at_us = e.starts AND b.budget_id = ANY (budget_ids)
        ), quarter AS (
            INSERT INTO usage_quarter AS u (account_id, quarter, api_key_id, model, requests, prompt_tokens,
                completion_tokens, charged)
            SELECT account_id, at / 900000000, api_key_id, model, count(*), sum(prompt)::bigint,
                sum(completion)::bigint, sum(total)::bigint
            FROM ended GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
            ON CONFLICT (account_id, quarter, api_key_id, model) DO UPDATE SET requests = u.requests + excluded.requests,
                prompt_tokens = u.prompt_tokens + excluded.prompt_tokens,
                completion_tokens = u.completion_tokens + excluded.completion_tokens,
                charged = u.charged + excluded.charged
        ), spent AS (
            SELECT account_id, token_class, sum(total)::bigint AS total, sum(reserved)::bigint AS reserved, count(*) AS entries
            FROM ended GROUP BY account_id, token_class
        ), after AS (
            UPDATE wallet a SET posted = a.posted - s.total, pending = a.pending - s.reserved, entries = a.entries + s.entries
            FROM spent s
            WHERE a.account_id = s.account_id AND a.token_class = s.token_class AND a.account_id = ANY (account_ids)
            RETURNING a.account_id, a.token_class, a.posted, a.pending, a.entries
        ), receipt AS (
            SELECT e.*, (a.posted + coalesce(sum(e.total) OVER later, 0))::bigint AS posted,
                (a.pending + coalesce(sum(e.reserved) OVER later, 0))::bigint AS pending,
                a.entries - count(*) OVER later AS number
            FROM ended e JOIN after a ON a.account_id = e.account_id AND a.token_class = e.token_class
            WINDOW later AS (
                PARTITION BY e.account_id, e.token_class
                ORDER BY e.n DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            )
        ), entry AS (
            INSERT INTO ledger_entry (account_id, token_class, number, kind, amount, posted_after, request_id, created_at_us)
            SELECT account_id, token_class, number, 'usage', -total, posted, id, at FROM receipt ORDER BY n
        )
        SELECT 'settle', n::integer, 'SETTLED', reserved, total, 0::bigint, posted, pending, NULL FROM receipt;
        GET DIAGNOSTICS settled_rows = ROW_COUNT;

        -- Settlements over their reservation, one after the other: each may charge what the previous one left.
        IF settled_rows < cardinality(settle_id) THEN
            FOR overrun IN
                SELECT w.*, r.account_id, r.token_class, r.api_key_id, r.model, r.budget_periods, r.reserved
                FROM unnest(
                    settle_id, settle_prompt, settle_completion, settle_total, settle_details, settle_ms, settle_at,
                    settle_first, settle_left
                ) WITH ORDINALITY AS w (id, prompt, completion, total, details, ms, at, first_event, left_early, n)
                JOIN request r ON r.id = w.id WHERE r.id = ANY (settle_id) AND r.resolved_at_us IS NULL ORDER BY w.n
            LOOP
                SELECT least(overrun.total, overrun.reserved + a.posted - a.pending) INTO charge
                FROM wallet a WHERE a.account_id = overrun.account_id AND a.token_class = overrun.token_class;
                UPDATE request r SET status = 'SETTLED', charged = charge, shortfall = overrun.total - charge,
                    prompt_tokens = overrun.prompt, completion_tokens = overrun.completion,
                    total_tokens = overrun.total, details = overrun.details, upstream_ms = overrun.ms,
                    resolved_at_us = overrun.at, first_event_ms = overrun.first_event,
                    client_left = overrun.left_early
                WHERE r.id = overrun.id;
                UPDATE wallet a SET posted = a.posted - charge, pending = a.pending - overrun.reserved,
                    entries = a.entries + 1
                WHERE a.account_id = overrun.account_id AND a.token_class = overrun.token_class
                RETURNING a.posted, a.pending, a.entries INTO balance;
                INSERT INTO ledger_entry (account_id, token_class, number, kind, amount, posted_after, request_id,
                    created_at_us)
                VALUES (overrun.account_id, overrun.token_class, balance.entries, 'usage', -charge, balance.posted,
                    overrun.id, overrun.at);
                IF overrun.budget_periods IS NOT NULL THEN
                    UPDATE budget_period b SET spent = b.spent + charge, pending = b.pending - overrun.reserved
                    FROM tok0n_periods(overrun.budget_periods) AS p
                    WHERE b.budget_id = p.id AND b.starts_at_us = p.starts;
                END IF;
                INSERT INTO usage_quarter AS u (account_id, quarter, api_key_id, model, requests, prompt_tokens,
                    completion_tokens, charged)
                VALUES (overrun.account_id, overrun.at / 900000000, overrun.api_key_id, overrun.model, 1,
                    overrun.prompt, overrun.completion, charge)
                ON CONFLICT (account_id, quarter, api_key_id, model) DO UPDATE SET requests = u.requests + 1,
                    prompt_tokens = u.prompt_tokens + excluded.prompt_tokens,
                    completion_tokens = u.completion_tokens + excluded.completion_tokens,
                    charged = u.charged + excluded.charged;
                RETURN QUERY SELECT 'settle', overrun.n::integer, 'SETTLED', overrun.reserved, charge,
                    overrun.total - charge, balance.posted, balance.pending, NULL;
            END LOOP;
        END IF;
    END IF;

    IF cardinality(release_id) > 0 THEN
        RETURN QUERY WITH ended AS (
            UPDATE request r SET status = 'RELEASED', code = w.code, dispatched = w.dispatched, resolved_at_us = w.at,
                first_event_ms = w.first_event
            FROM unnest(release_id, release_code, release_dispatched, release_at, release_first)
                WITH ORDINALITY AS w (id, code, dispatched, at, first_event, n)
            WHERE r.id = w.id AND r.id = ANY (release_id) AND r.resolved_at_us IS NULL
            RETURNING r.account_id, r.token_class, r.budget_periods, r.reserved, w.n
        ), period AS (
            UPDATE budget_period b SET pending = b.pending - e.reserved
            FROM (SELECT p.id, p.starts, sum(reserved)::bigint AS reserved
                FROM ended, tok0n_periods(budget_periods) AS p WHERE budget_periods IS NOT NULL GROUP BY 1, 2) e
            WHERE b.budget_id = e.id AND b.starts_at_us = e.starts AND b.budget_id = ANY (budget_ids)
        ), freed AS (
            SELECT account_id, token_class, sum(reserved)::bigint AS reserved FROM ended GROUP BY account_id, token_class
        ), after AS (
            UPDATE wallet a SET pending = a.pending - f.reserved
            FROM freed f
            WHERE a.account_id = f.account_id AND a.token_class = f.token_class AND a.account_id = ANY (account_ids)
        )
        SELECT 'release', n::integer, 'RELEASED', reserved, 0::bigint, 0::bigint, 0::bigint, 0::bigint, NULL FROM ended;
    END IF;

    IF cardinality(reserve_id) > 0 THEN
        -- After the locks, which may take longer than the rest of the lease.
        PERFORM 1 FROM process
        WHERE id = reserving_process AND clock_timestamp() < to_timestamp(lease_ends_at_us / 1e6::float8);
        IF NOT FOUND THEN
            RETURN QUERY SELECT 'reserve', w.n, 'UNLEASED', 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, NULL
            FROM generate_series(1, cardinality(reserve_id)) AS w (n);
            RETURN;
        END IF;

        -- In order, each reservation that fits is accepted. One that would not fit even alone beside the accepted ones
        -- is SHORT. One that does not fit only because of a rejected larger one before it runs AGAIN in the next batch.
        RETURN QUERY WITH command AS (
            SELECT w.*, coalesce(a.posted, 0) AS posted, coalesce(a.pending, 0) AS pending, k.id IS NOT NULL AS is_known,
                k.version IS DISTINCT FROM w.version AS is_stale, k.expires_at_us <= w.created AS is_expired
            FROM unnest(
                reserve_id, reserve_account, reserve_key, reserve_model, reserve_tokens, reserve_created,
                reserve_expires, reserve_stream, reserve_endpoint, reserve_class, reserve_version, reserve_periods
            ) WITH ORDINALITY AS w (id, account_id, api_key_id, model, tokens, created, expires, stream, endpoint,
                token_class, version, periods, n)
            LEFT JOIN wallet a ON a.account_id = w.account_id AND a.token_class = w.token_class
                AND a.account_id = ANY (reserve_account)
            LEFT JOIN api_key k ON k.id = w.api_key_id AND k.id = ANY (reserve_key) AND k.account_id = w.account_id
        ), period AS (
            SELECT c.n, p.id, p.starts, p.ends, c.tokens,
                b.tokens - coalesce(u.spent, 0) - coalesce(u.pending, 0) AS period_left,
                sum(c.tokens) OVER (PARTITION BY p.id, p.starts ORDER BY c.n) AS so_far
            FROM command c, tok0n_periods(c.periods) AS p
            JOIN key_budget b ON b.id = p.id AND b.id = ANY (budget_ids)
            LEFT JOIN budget_period u ON u.budget_id = p.id AND u.starts_at_us = p.starts
                AND u.budget_id = ANY (budget_ids)
            WHERE c.periods IS NOT NULL AND c.is_known AND NOT c.is_stale AND c.is_expired IS NOT TRUE
        ), least AS (
            SELECT DISTINCT ON (n) n, id AS budget_id, period_left, bool_and(so_far <= period_left) OVER (PARTITION BY n) AS fits
            FROM period ORDER BY n, period_left, id
        ), within AS (
            SELECT c.*, l.budget_id, l.period_left, c.is_known AND NOT c.is_stale AND c.is_expired IS NOT TRUE AS allowed,
                l.fits IS NOT FALSE AS in_budget
            FROM command c LEFT JOIN least l ON l.n = c.n
        ), summed AS (
            SELECT *, sum(tokens) FILTER (WHERE allowed AND in_budget)
                OVER (PARTITION BY account_id, token_class ORDER BY n) AS so_far
            FROM within
        ), accepted AS (
            SELECT * FROM summed WHERE allowed AND in_budget AND so_far <= posted - pending
        ), in_periods AS (
            INSERT INTO budget_period AS u (budget_id, starts_at_us, ends_at_us, spent, pending)
            SELECT p.id, p.starts, p.ends, 0, sum(a.tokens)::bigint
            FROM accepted a JOIN period p ON p.n = a.n GROUP BY 1, 2, 3 ORDER BY 1, 2
            ON CONFLICT (budget_id, starts_at_us) DO UPDATE SET pending = u.pending + excluded.pending
        ), taken AS (
            SELECT account_id, token_class, max(so_far)::bigint AS tokens FROM accepted GROUP BY account_id, token_class
        ), after AS (
            UPDATE wallet a SET pending = a.pending + t.tokens
            FROM taken t
            WHERE a.account_id = t.account_id AND a.token_class = t.token_class AND a.account_id = ANY (reserve_account)
        ), inserted AS (
            INSERT INTO request (id, account_id, api_key_id, model, status, reserved, charged, shortfall, dispatched,
                created_at_us, expires_at_us, is_stream, endpoint, token_class, budget_periods, process_id)
            SELECT id, account_id, api_key_id, model, 'PENDING', tokens, 0, 0, 1, created, expires, stream,
                endpoint, token_class, periods, reserving_process
            FROM accepted
        )
        SELECT 'reserve', s.n::integer, CASE
                WHEN NOT s.is_known THEN 'INACTIVE'
                WHEN s.is_stale THEN 'CHANGED'
                WHEN s.is_expired THEN 'INACTIVE'
                WHEN s.tokens > s.period_left THEN 'BUDGET'
                WHEN NOT s.in_budget THEN 'AGAIN'
                WHEN s.so_far <= s.posted - s.pending THEN 'PENDING'
                WHEN s.tokens > s.posted - s.pending - coalesce(t.tokens, 0) THEN 'SHORT'
                ELSE 'AGAIN' END,
            s.tokens, coalesce(s.period_left, 0), 0::bigint, s.posted, (s.pending + CASE
                WHEN s.allowed AND s.in_budget AND s.so_far <= s.posted - s.pending THEN s.so_far
                ELSE coalesce(t.tokens, 0) END)::bigint, s.budget_id
        FROM summed s LEFT JOIN taken t ON t.account_id = s.account_id AND t.token_class = s.token_class;
    END IF;
END $$;
