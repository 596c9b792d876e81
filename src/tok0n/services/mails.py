"""The emails that Tok0n sends. They never contain an API key, a prompt, or a password."""

from tok0n.ports.mail import Mailer

VERIFY = (
    "Confirm your email address",
    """Welcome to Tok0n.

Confirm your email address to finish signing up. This link works once and expires in 24 hours:

{url}

If you didn't sign up, you can ignore this email. No account is created until you confirm.
""",
)
ALREADY_REGISTERED = (
    "You already have an account",
    """Someone tried to sign up for Tok0n with this email address, but you already have an account.

If it was you, sign in: {sign_in}
If you forgot your password, choose a new one: {reset}

If it wasn't you, you can ignore this email.
""",
)
RESET = (
    "Reset your password",
    """Use this link to choose a new password. It works once and expires in 24 hours:

{url}

If you didn't request this, you can ignore this email. Your password stays the same.
""",
)
INVITE = (
    "You're invited to Tok0n",
    """You're invited to Tok0n. Use this link to choose a password and create your account.
It works once and expires in 7 days:

{url}
""",
)
NEW_EMAIL = (
    "Confirm your new email address",
    """Use this link to change your account's email to this address. It works once and expires in 24 hours:

{url}

If you didn't request this, you can ignore this email.
""",
)
EMAIL_CHANGES = (
    "Your email address is about to change",
    """We received a request to change your account's email to {email}.
The change takes effect when someone confirms the new address.

If it wasn't you, someone else knows your password. Reset it now: {reset}
""",
)
PASSWORD_CHANGED = (
    "Your password was changed",
    """Your account's password was changed, and all other sessions were signed out.

If it wasn't you, reset your password now: {reset}
""",
)
LOW_BALANCE = (
    "Your balance is low",
    """Your balance{of_class} is {posted:,} tokens. That's below your alert threshold of {threshold:,} tokens.

{advice}
View your balance: {overview}
""",
)
BUDGET_NEARLY_SPENT = (
    "An API key has used 80% of its budget",
    """The API key "{name}" has used {spent:,} tokens of its {budget}. {resets}

View or change the budget: {key}
""",
)
BUDGET_SPENT = (
    "An API key has used its whole budget",
    """The API key "{name}" has used {spent:,} tokens of its {budget}. Requests with this key are rejected. {resets}

View or change the budget: {key}
""",
)


async def send(mailer: Mailer, mail: tuple[str, str], *, to: str, **fields: object) -> None:
    """Send one of these emails, with its fields filled in."""
    subject, text = mail
    await mailer.send(to=to, subject=subject, text=text.format(**fields))
