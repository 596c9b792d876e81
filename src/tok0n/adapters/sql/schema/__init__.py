"""The tables of both engines, for SQLAlchemy queries. `schema.sql` creates them.

PostgreSQL has no foreign keys on `request`, `usage_quarter` and `usage_span`, nor from `ledger_entry` to accounts and
requests: the triggers of `postgres/guards.sql` replace them. Partial indexes have their conditions for SQLite only,
because PostgreSQL's would import its dialect at every start. Amounts are LLM tokens. Columns that end in `_us` are
microseconds since the Unix epoch. No column may hold message content.
"""

from tok0n.adapters.sql.schema.accounts import (
    account,
    activity,
    api_key,
    budget_period,
    key_budget,
    key_change,
    key_secret,
    wallet,
)
from tok0n.adapters.sql.schema.columns import metadata
from tok0n.adapters.sql.schema.documents import billing_details, document, document_series, purchase_email
from tok0n.adapters.sql.schema.models import model_day, verification
from tok0n.adapters.sql.schema.notices import (
    alert_check,
    balance_alert,
    known_device,
    notice,
    notice_preference,
)
from tok0n.adapters.sql.schema.orders import (
    debt,
    order_dispute,
    pack_order,
    payment_event,
    payment_reconciliation,
    redeem_code,
    redemption,
)
from tok0n.adapters.sql.schema.outcomes import outcome_rollup, request_outcome
from tok0n.adapters.sql.schema.rejections import rejected_count, rejected_request
from tok0n.adapters.sql.schema.requests import (
    ledger_entry,
    model,
    operator_request,
    process,
    request,
    usage_quarter,
    usage_rollup,
    usage_span,
)
from tok0n.adapters.sql.schema.sign_in import (
    attempt,
    dismissed_hint,
    form_submission,
    mail_link,
    passkey,
    recovery_code,
    session,
    users,
    welcome_day,
    welcome_grant,
)

HEAD = "0104"
"""The schema version that this code needs. A test compares it with the newest migration."""
