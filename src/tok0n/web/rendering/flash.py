"""The confirmations that a page shows once, after a form of another page was processed.

A short-lived cookie carries the code of the confirmation. Its text is always from this table, never from the request.
"""

COOKIE_LIFETIME_US = 60_000_000

CONFIRMATIONS = {
    "key-saved": "Saved. Stricter limits apply to the next request, wider ones within two seconds.",
    "key-renamed": "Key renamed.",
    "key-disabled": "Key disabled. New requests with it are rejected.",
    "key-enabled": "Key enabled.",
    "key-revoked": "Key revoked. New requests with it are rejected.",
    "time-zone-saved": "Time zone updated.",
    "alerts-saved": "Low balance alerts updated.",
    "billing-saved": "Billing details saved.",
    "notices-saved": "Notices updated.",
    "password-changed": "Password changed. We signed you out of all other sessions.",
    "email-requested": "We sent a confirmation link to your new email address. Open it to finish.",
    "email-requested-unsent": "Contact support to get the link that confirms your new email address.",
    "session-ended": "That session is signed out.",
    "sessions-ended": "We signed you out of all other sessions.",
    "two-factor-off": "Two-factor authentication is off.",
    "passkey-added": "Passkey added.",
    "passkey-removed": "Passkey removed.",
    "access-removed": "Removed.",
}
"""The texts by code."""


def confirmation_text(code: str | None) -> str:
    """Return the text of a confirmation, or an empty string for an unknown code."""
    return CONFIRMATIONS.get(code or "", "")
