SELECT pg_catalog.set_config('search_path', '', false);

CREATE FUNCTION public.tok0n_batch(s_id text[], s_prompt bigint[], s_completion bigint[], s_total bigint[], s_details text[], s_ms integer[], s_at bigint[], e_id text[], e_code text[], e_dispatched integer[], e_at bigint[], v_id text[], v_account text[], v_key text[], v_model text[], v_tokens bigint[], v_created bigint[], v_expires bigint[]) RETURNS TABLE(kind text, n integer, outcome text, reserved bigint, charged bigint, shortfall bigint, posted bigint, pending bigint)
    LANGUAGE plpgsql
    AS $$
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
END $$;

CREATE FUNCTION public.tok0n_refuse() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
    BEGIN RAISE EXCEPTION '%', TG_ARGV[0]; END $$;

CREATE TABLE public.account (
    id text NOT NULL COLLATE pg_catalog."C",
    email text NOT NULL,
    status text NOT NULL,
    posted bigint NOT NULL,
    pending bigint NOT NULL,
    created_at_us bigint NOT NULL,
    CONSTRAINT account_status_check CHECK ((status = ANY (ARRAY['open'::text, 'closed'::text]))),
    CONSTRAINT balance_is_never_negative CHECK (((0 <= pending) AND (pending <= posted)))
);

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);

CREATE TABLE public.api_key (
    id text NOT NULL COLLATE pg_catalog."C",
    account_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL,
    digest bytea NOT NULL,
    prefix text NOT NULL,
    last_four text NOT NULL,
    created_at_us bigint NOT NULL,
    revoked_at_us bigint,
    expires_at_us bigint,
    budget bigint,
    spent bigint DEFAULT 0 NOT NULL,
    pending bigint DEFAULT 0 NOT NULL,
    models text,
    last_used_at_us bigint,
    CONSTRAINT api_key_budget_check CHECK ((budget > 0)),
    CONSTRAINT api_key_pending_check CHECK ((pending >= 0)),
    CONSTRAINT api_key_spent_check CHECK ((spent >= 0))
);

CREATE TABLE public.debt (
    account_id text NOT NULL COLLATE pg_catalog."C",
    tokens bigint NOT NULL,
    CONSTRAINT debt_tokens_check CHECK ((tokens >= 0))
);

CREATE TABLE public.ledger_entry (
    id bigint NOT NULL,
    account_id text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL,
    amount bigint NOT NULL,
    posted_after bigint NOT NULL,
    request_id text COLLATE pg_catalog."C",
    reason text,
    created_at_us bigint NOT NULL,
    order_id text COLLATE pg_catalog."C",
    CONSTRAINT ledger_entry_amount_check CHECK ((amount <> 0)),
    CONSTRAINT ledger_entry_kind_check CHECK ((kind = ANY (ARRAY['purchase'::text, 'grant'::text, 'usage'::text, 'refund'::text, 'dispute'::text, 'adjustment'::text]))),
    CONSTRAINT ledger_entry_posted_after_check CHECK ((posted_after >= 0)),
    CONSTRAINT usage_names_its_request CHECK (((kind = 'usage'::text) = (request_id IS NOT NULL))),
    CONSTRAINT usage_only_takes CHECK (((kind <> 'usage'::text) OR (amount < 0)))
);

ALTER TABLE public.ledger_entry ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.ledger_entry_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.low_balance_notice (
    account_id text NOT NULL COLLATE pg_catalog."C",
    below bigint NOT NULL,
    told integer NOT NULL,
    CONSTRAINT low_balance_notice_below_check CHECK ((below > 0))
);

CREATE TABLE public.mail_link (
    digest bytea NOT NULL,
    person_id text COLLATE pg_catalog."C",
    purpose text NOT NULL,
    email text,
    expires_at_us bigint NOT NULL
);

CREATE TABLE public.model (
    id text NOT NULL COLLATE pg_catalog."C",
    enabled integer NOT NULL,
    fingerprint text NOT NULL,
    verified_at_us bigint,
    checked_at_us bigint,
    consecutive_failures integer NOT NULL,
    latency_ms integer,
    checks text NOT NULL,
    detail text NOT NULL,
    CONSTRAINT model_enabled_check CHECK ((enabled = ANY (ARRAY[0, 1])))
);

CREATE TABLE public.operator_request (
    id text NOT NULL,
    model text NOT NULL,
    created_at_us bigint NOT NULL
);

CREATE TABLE public.order_dispute (
    id text NOT NULL COLLATE pg_catalog."C",
    order_id text NOT NULL COLLATE pg_catalog."C",
    cents bigint NOT NULL,
    status text NOT NULL,
    CONSTRAINT order_dispute_cents_check CHECK ((cents >= 0)),
    CONSTRAINT order_dispute_status_check CHECK ((status = ANY (ARRAY['open'::text, 'won'::text, 'lost'::text])))
);

CREATE TABLE public.pack_order (
    id text NOT NULL COLLATE pg_catalog."C",
    account_id text NOT NULL COLLATE pg_catalog."C",
    pack_id text NOT NULL,
    pack_name text NOT NULL,
    tokens bigint NOT NULL,
    price_cents bigint NOT NULL,
    currency text NOT NULL,
    created_at_us bigint NOT NULL,
    checkout_id text COLLATE pg_catalog."C",
    payment_id text COLLATE pg_catalog."C",
    is_complete integer DEFAULT 0 NOT NULL,
    paid_cents bigint,
    paid_at_us bigint,
    refunded_cents bigint DEFAULT 0 NOT NULL,
    outcome text,
    purchase_applied bigint DEFAULT 0 NOT NULL,
    refund_applied bigint DEFAULT 0 NOT NULL,
    dispute_applied bigint DEFAULT 0 NOT NULL,
    CONSTRAINT an_order_is_credited_once CHECK (((purchase_applied = 0) OR (purchase_applied = tokens))),
    CONSTRAINT no_more_is_taken_than_was_given CHECK (((refund_applied >= 0) AND (dispute_applied >= 0) AND ((refund_applied + dispute_applied) <= purchase_applied))),
    CONSTRAINT pack_order_paid_cents_check CHECK ((paid_cents >= 0)),
    CONSTRAINT pack_order_price_cents_check CHECK ((price_cents > 0)),
    CONSTRAINT pack_order_tokens_check CHECK ((tokens > 0))
);

CREATE TABLE public.passkey (
    credential_id bytea NOT NULL,
    person_id text NOT NULL COLLATE pg_catalog."C",
    public_key bytea NOT NULL,
    sign_count bigint NOT NULL,
    name text NOT NULL,
    created_at_us bigint NOT NULL,
    last_used_at_us bigint
);

CREATE TABLE public.payment_event (
    id text NOT NULL COLLATE pg_catalog."C",
    type text NOT NULL,
    event text NOT NULL,
    created_at_us bigint NOT NULL,
    received_at_us bigint NOT NULL,
    handled_at_us bigint,
    attempts bigint DEFAULT 0 NOT NULL,
    failure text
);

CREATE TABLE public.payment_reconciliation (
    at_us bigint NOT NULL
);

CREATE TABLE public.person (
    id text NOT NULL COLLATE pg_catalog."C",
    account_id text COLLATE pg_catalog."C",
    email text NOT NULL,
    password_hash text NOT NULL,
    verified_at_us bigint,
    created_at_us bigint NOT NULL,
    time_zone text DEFAULT 'UTC'::text NOT NULL,
    is_operator integer DEFAULT 0 NOT NULL,
    totp_secret text,
    totp_step bigint DEFAULT 0 NOT NULL,
    closed_at_us bigint,
    CONSTRAINT only_verified_people_have_an_account CHECK (((account_id IS NULL) OR (verified_at_us IS NOT NULL)))
);

CREATE TABLE public.recovery_code (
    person_id text NOT NULL COLLATE pg_catalog."C",
    digest bytea NOT NULL
);

CREATE TABLE public.redeem_code (
    digest bytea NOT NULL,
    shown text NOT NULL,
    tokens bigint NOT NULL,
    uses_max bigint NOT NULL,
    uses bigint DEFAULT 0 NOT NULL,
    expires_at_us bigint,
    reason text NOT NULL,
    created_at_us bigint NOT NULL,
    CONSTRAINT redeem_code_check CHECK (((uses >= 0) AND (uses <= uses_max))),
    CONSTRAINT redeem_code_tokens_check CHECK ((tokens > 0)),
    CONSTRAINT redeem_code_uses_max_check CHECK ((uses_max > 0))
);

CREATE TABLE public.redemption (
    digest bytea NOT NULL,
    account_id text NOT NULL COLLATE pg_catalog."C",
    redeemed_at_us bigint NOT NULL
);

CREATE TABLE public.request (
    id text NOT NULL COLLATE pg_catalog."C",
    account_id text NOT NULL COLLATE pg_catalog."C",
    api_key_id text NOT NULL COLLATE pg_catalog."C",
    model text NOT NULL,
    status text NOT NULL,
    reserved bigint NOT NULL,
    charged bigint NOT NULL,
    shortfall bigint NOT NULL,
    prompt_tokens bigint,
    completion_tokens bigint,
    total_tokens bigint,
    details text,
    code text,
    dispatched integer NOT NULL,
    upstream_ms integer,
    created_at_us bigint NOT NULL,
    expires_at_us bigint NOT NULL,
    resolved_at_us bigint,
    CONSTRAINT every_used_token_is_charged_or_lost CHECK (((status <> 'SETTLED'::text) OR ((charged + shortfall) = total_tokens))),
    CONSTRAINT only_settled_requests_are_charged CHECK ((((status = 'SETTLED'::text) = (charged > 0)) AND (charged >= 0))),
    CONSTRAINT request_dispatched_check CHECK ((dispatched = ANY (ARRAY[0, 1]))),
    CONSTRAINT request_reserved_check CHECK ((reserved > 0)),
    CONSTRAINT request_shortfall_check CHECK ((shortfall >= 0)),
    CONSTRAINT request_status_check CHECK ((status = ANY (ARRAY['PENDING'::text, 'SETTLED'::text, 'RELEASED'::text, 'EXPIRED'::text])))
);

CREATE TABLE public.session (
    digest bytea NOT NULL,
    person_id text NOT NULL COLLATE pg_catalog."C",
    created_at_us bigint NOT NULL,
    seen_at_us bigint NOT NULL,
    agent text NOT NULL,
    waits integer NOT NULL
);

CREATE TABLE public.usage_hour (
    account_id text NOT NULL COLLATE pg_catalog."C",
    hour bigint NOT NULL,
    api_key_id text NOT NULL COLLATE pg_catalog."C",
    model text NOT NULL,
    requests bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    charged bigint NOT NULL,
    CONSTRAINT usage_hour_charged_check CHECK ((charged > 0)),
    CONSTRAINT usage_hour_requests_check CHECK ((requests > 0))
);

INSERT INTO public.account VALUES ('acct_a79af9f780a857efa018', 'bob@example.com', 'open', 5, 0, 1800000000000000);
INSERT INTO public.account VALUES ('acct_dc6470f085e99c5f1e92', 'ada@example.com', 'open', 10310, 500, 1800000000000000);

INSERT INTO public.alembic_version VALUES ('0007');

INSERT INTO public.api_key VALUES ('key_ea2e2023a8ad955c1dd0', 'acct_dc6470f085e99c5f1e92', 'plain', '\x706c61696e', 'tk0n_aaaa', '0001', 1800000000000000, NULL, NULL, NULL, 0, 0, NULL, NULL);
INSERT INTO public.api_key VALUES ('key_74208c9ed20b35a552bf', 'acct_dc6470f085e99c5f1e92', 'limited', '\x6c696d69746564', 'tk0n_bbbb', '0002', 1800000000000000, NULL, NULL, 1000, 130, 300, NULL, NULL);

INSERT INTO public.ledger_entry OVERRIDING SYSTEM VALUE VALUES (1, 'acct_dc6470f085e99c5f1e92', 'grant', 10000, 10000, NULL, 'opening grant', 1800000000000000, NULL);
INSERT INTO public.ledger_entry OVERRIDING SYSTEM VALUE VALUES (2, 'acct_a79af9f780a857efa018', 'grant', 5, 5, NULL, 'opening grant', 1800000000000000, NULL);
INSERT INTO public.ledger_entry OVERRIDING SYSTEM VALUE VALUES (3, 'acct_dc6470f085e99c5f1e92', 'grant', 500, 10500, NULL, 'welcome', 1800000000000000, NULL);
INSERT INTO public.ledger_entry OVERRIDING SYSTEM VALUE VALUES (4, 'acct_dc6470f085e99c5f1e92', 'usage', -60, 10440, 'req_00000000000000000000000000000001', NULL, 1800000000001000, NULL);
INSERT INTO public.ledger_entry OVERRIDING SYSTEM VALUE VALUES (5, 'acct_dc6470f085e99c5f1e92', 'usage', -130, 10310, 'req_00000000000000000000000000000002', NULL, 1800000000001000, NULL);
INSERT INTO public.ledger_entry OVERRIDING SYSTEM VALUE VALUES (6, 'acct_dc6470f085e99c5f1e92', 'usage', -70, 10240, 'req_00000000000000000000000000000003', NULL, 1800000000001000, NULL);
INSERT INTO public.ledger_entry OVERRIDING SYSTEM VALUE VALUES (7, 'acct_dc6470f085e99c5f1e92', 'adjustment', 70, 10310, NULL, 'reversal of req_00000000000000000000000000000003: its answer was not given', 1800000000002000, NULL);

INSERT INTO public.low_balance_notice VALUES ('acct_dc6470f085e99c5f1e92', 1000, 0);

INSERT INTO public.mail_link VALUES ('\x6c696e6b32', 'user_dc1635977d16797d6fb5', 'reset', NULL, 1800001000000000);

INSERT INTO public.person VALUES ('user_dc1635977d16797d6fb5', 'acct_dc6470f085e99c5f1e92', 'ada@example.com', 'scrypt$x', 1800000000000001, 1800000000000000, 'UTC', 0, 'S', 1, NULL);

INSERT INTO public.recovery_code VALUES ('user_dc1635977d16797d6fb5', '\x636f646531');
INSERT INTO public.recovery_code VALUES ('user_dc1635977d16797d6fb5', '\x636f646532');

INSERT INTO public.request VALUES ('req_00000000000000000000000000000001', 'acct_dc6470f085e99c5f1e92', 'key_ea2e2023a8ad955c1dd0', 'demo', 'SETTLED', 100, 60, 0, 1, 59, 60, NULL, NULL, 1, 12, 1800000000000001, 1800001000000000, 1800000000001000);
INSERT INTO public.request VALUES ('req_00000000000000000000000000000002', 'acct_dc6470f085e99c5f1e92', 'key_74208c9ed20b35a552bf', 'demo', 'SETTLED', 100, 130, 0, 1, 129, 130, NULL, NULL, 1, 12, 1800000000000002, 1800001000000000, 1800000000001000);
INSERT INTO public.request VALUES ('req_00000000000000000000000000000003', 'acct_dc6470f085e99c5f1e92', 'key_ea2e2023a8ad955c1dd0', 'demo', 'SETTLED', 80, 70, 0, 1, 69, 70, NULL, NULL, 1, 12, 1800000000000003, 1800001000000000, 1800000000001000);
INSERT INTO public.request VALUES ('req_00000000000000000000000000000004', 'acct_dc6470f085e99c5f1e92', 'key_ea2e2023a8ad955c1dd0', 'demo', 'RELEASED', 50, 0, 0, NULL, NULL, NULL, NULL, 'upstream_error', 1, NULL, 1800000000000004, 1800001000000000, 1800000000001500);
INSERT INTO public.request VALUES ('req_00000000000000000000000000000005', 'acct_dc6470f085e99c5f1e92', 'key_ea2e2023a8ad955c1dd0', 'demo', 'PENDING', 200, 0, 0, NULL, NULL, NULL, NULL, NULL, 1, NULL, 1800000000000005, 1800001000000000, NULL);
INSERT INTO public.request VALUES ('req_00000000000000000000000000000006', 'acct_dc6470f085e99c5f1e92', 'key_74208c9ed20b35a552bf', 'demo', 'PENDING', 300, 0, 0, NULL, NULL, NULL, NULL, NULL, 1, NULL, 1800000000000006, 1800001000000000, NULL);

INSERT INTO public.session VALUES ('\x73657373696f6e', 'user_dc1635977d16797d6fb5', 1800000000000000, 1800000000000000, 'Firefox', 0);

INSERT INTO public.usage_hour VALUES ('acct_dc6470f085e99c5f1e92', 500000, 'key_74208c9ed20b35a552bf', 'demo', 1, 1, 129, 130);
INSERT INTO public.usage_hour VALUES ('acct_dc6470f085e99c5f1e92', 500000, 'key_ea2e2023a8ad955c1dd0', 'demo', 2, 2, 128, 130);

SELECT pg_catalog.setval('public.ledger_entry_id_seq', 7, true);

ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_email_key UNIQUE (email);

ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY public.api_key
    ADD CONSTRAINT api_key_digest_key UNIQUE (digest);

ALTER TABLE ONLY public.api_key
    ADD CONSTRAINT api_key_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.debt
    ADD CONSTRAINT debt_pkey PRIMARY KEY (account_id);

ALTER TABLE ONLY public.ledger_entry
    ADD CONSTRAINT ledger_entry_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.ledger_entry
    ADD CONSTRAINT ledger_entry_request_id_key UNIQUE (request_id);

ALTER TABLE ONLY public.low_balance_notice
    ADD CONSTRAINT low_balance_notice_pkey PRIMARY KEY (account_id);

ALTER TABLE ONLY public.mail_link
    ADD CONSTRAINT mail_link_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY public.model
    ADD CONSTRAINT model_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.operator_request
    ADD CONSTRAINT operator_request_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.order_dispute
    ADD CONSTRAINT order_dispute_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.pack_order
    ADD CONSTRAINT pack_order_checkout_id_key UNIQUE (checkout_id);

ALTER TABLE ONLY public.pack_order
    ADD CONSTRAINT pack_order_payment_id_key UNIQUE (payment_id);

ALTER TABLE ONLY public.pack_order
    ADD CONSTRAINT pack_order_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.passkey
    ADD CONSTRAINT passkey_pkey PRIMARY KEY (credential_id);

ALTER TABLE ONLY public.payment_event
    ADD CONSTRAINT payment_event_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.payment_reconciliation
    ADD CONSTRAINT payment_reconciliation_pkey PRIMARY KEY (at_us);

ALTER TABLE ONLY public.person
    ADD CONSTRAINT person_account_id_key UNIQUE (account_id);

ALTER TABLE ONLY public.person
    ADD CONSTRAINT person_email_key UNIQUE (email);

ALTER TABLE ONLY public.person
    ADD CONSTRAINT person_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.recovery_code
    ADD CONSTRAINT recovery_code_pkey PRIMARY KEY (person_id, digest);

ALTER TABLE ONLY public.redeem_code
    ADD CONSTRAINT redeem_code_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY public.redemption
    ADD CONSTRAINT redemption_pkey PRIMARY KEY (digest, account_id);

ALTER TABLE ONLY public.request
    ADD CONSTRAINT request_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.session
    ADD CONSTRAINT session_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY public.usage_hour
    ADD CONSTRAINT usage_hour_pkey PRIMARY KEY (account_id, hour, api_key_id, model);

CREATE INDEX api_key_account ON public.api_key USING btree (account_id);

CREATE INDEX ledger_entry_account ON public.ledger_entry USING btree (account_id, id);

CREATE INDEX ledger_entry_order ON public.ledger_entry USING btree (order_id) WHERE (order_id IS NOT NULL);

CREATE INDEX mail_link_person ON public.mail_link USING btree (person_id);

CREATE INDEX order_dispute_order ON public.order_dispute USING btree (order_id);

CREATE INDEX pack_order_account ON public.pack_order USING btree (account_id, id);

CREATE INDEX passkey_person ON public.passkey USING btree (person_id);

CREATE INDEX payment_event_unhandled ON public.payment_event USING btree (attempts, received_at_us) WHERE (handled_at_us IS NULL);

CREATE INDEX request_account ON public.request USING btree (account_id, id);

CREATE INDEX request_not_billed ON public.request USING btree (account_id, id) WHERE (status = ANY (ARRAY['RELEASED'::text, 'EXPIRED'::text]));

CREATE INDEX request_pending ON public.request USING btree (expires_at_us) WHERE (status = 'PENDING'::text);

CREATE INDEX session_person ON public.session USING btree (person_id);

CREATE TRIGGER account_is_never_deleted BEFORE DELETE ON public.account FOR EACH ROW EXECUTE FUNCTION public.tok0n_refuse('rows of account are never deleted');

CREATE TRIGGER account_is_never_emptied BEFORE TRUNCATE ON public.account FOR EACH STATEMENT EXECUTE FUNCTION public.tok0n_refuse('account is never emptied');

CREATE TRIGGER account_keeps_its_id BEFORE UPDATE OF id ON public.account FOR EACH ROW EXECUTE FUNCTION public.tok0n_refuse('rows of account keep their id');

CREATE TRIGGER api_key_is_never_deleted BEFORE DELETE ON public.api_key FOR EACH ROW EXECUTE FUNCTION public.tok0n_refuse('rows of api_key are never deleted');

CREATE TRIGGER api_key_is_never_emptied BEFORE TRUNCATE ON public.api_key FOR EACH STATEMENT EXECUTE FUNCTION public.tok0n_refuse('api_key is never emptied');

CREATE TRIGGER api_key_keeps_its_id BEFORE UPDATE OF id ON public.api_key FOR EACH ROW EXECUTE FUNCTION public.tok0n_refuse('rows of api_key keep their id');

CREATE TRIGGER ledger_entry_is_never_edited BEFORE DELETE OR UPDATE ON public.ledger_entry FOR EACH ROW EXECUTE FUNCTION public.tok0n_refuse('ledger entries are never edited or deleted');

CREATE TRIGGER ledger_entry_is_never_emptied BEFORE TRUNCATE ON public.ledger_entry FOR EACH STATEMENT EXECUTE FUNCTION public.tok0n_refuse('ledger_entry is never emptied');

CREATE TRIGGER request_ends_once BEFORE UPDATE ON public.request FOR EACH ROW WHEN ((old.status <> 'PENDING'::text)) EXECUTE FUNCTION public.tok0n_refuse('a request ends once');

CREATE TRIGGER request_is_never_deleted BEFORE DELETE ON public.request FOR EACH ROW EXECUTE FUNCTION public.tok0n_refuse('rows of request are never deleted');

CREATE TRIGGER request_is_never_emptied BEFORE TRUNCATE ON public.request FOR EACH STATEMENT EXECUTE FUNCTION public.tok0n_refuse('request is never emptied');

CREATE TRIGGER request_keeps_its_id BEFORE UPDATE OF id ON public.request FOR EACH ROW EXECUTE FUNCTION public.tok0n_refuse('rows of request keep their id');

ALTER TABLE ONLY public.api_key
    ADD CONSTRAINT api_key_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.debt
    ADD CONSTRAINT debt_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.ledger_entry
    ADD CONSTRAINT ledger_entry_order_id_fkey FOREIGN KEY (order_id) REFERENCES public.pack_order(id);

ALTER TABLE ONLY public.low_balance_notice
    ADD CONSTRAINT low_balance_notice_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.mail_link
    ADD CONSTRAINT mail_link_person_id_fkey FOREIGN KEY (person_id) REFERENCES public.person(id);

ALTER TABLE ONLY public.order_dispute
    ADD CONSTRAINT order_dispute_order_id_fkey FOREIGN KEY (order_id) REFERENCES public.pack_order(id);

ALTER TABLE ONLY public.pack_order
    ADD CONSTRAINT pack_order_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.passkey
    ADD CONSTRAINT passkey_person_id_fkey FOREIGN KEY (person_id) REFERENCES public.person(id);

ALTER TABLE ONLY public.person
    ADD CONSTRAINT person_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.recovery_code
    ADD CONSTRAINT recovery_code_person_id_fkey FOREIGN KEY (person_id) REFERENCES public.person(id);

ALTER TABLE ONLY public.redemption
    ADD CONSTRAINT redemption_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.redemption
    ADD CONSTRAINT redemption_digest_fkey FOREIGN KEY (digest) REFERENCES public.redeem_code(digest);

ALTER TABLE ONLY public.session
    ADD CONSTRAINT session_person_id_fkey FOREIGN KEY (person_id) REFERENCES public.person(id);

ALTER TABLE ONLY public.usage_hour
    ADD CONSTRAINT usage_hour_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.account(id);

ALTER TABLE ONLY public.usage_hour
    ADD CONSTRAINT usage_hour_api_key_id_fkey FOREIGN KEY (api_key_id) REFERENCES public.api_key(id);
