"""The emails to users, which name the operator's service. They never contain an API key, a prompt, or a password."""

from tok0n.ports.mail import Mailer

VERIFY = (
    "Confirm your email address",
    """Welcome to {site}.

Confirm your email address to finish signing up. This link works once and expires in 24 hours:

{url}

If you didn't sign up, you can ignore this email. No account is created until you confirm.
""",
)
ALREADY_REGISTERED = (
    "You already have an account",
    """Someone tried to sign up for {site} with this email address, but you already have an account.

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
    "You're invited to {site}",
    """You're invited to {site}. Use this link to choose a password and create your account.
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
TWO_FACTOR_ON = (
    "Two-factor authentication is on",
    """You now enter a code from your authenticator app when you sign in. It was turned on at {at}.

If it wasn't you, someone else can sign in to your account. Contact support.
""",
)
TWO_FACTOR_OFF = (
    "Two-factor authentication is off",
    """Two-factor authentication was turned off at {at}. You now need only your password to sign in.

If it wasn't you, reset your password now: {reset}
""",
)
EMAIL_CHANGED = (
    "Your email address was changed",
    """Your account's email was changed to {new_email} at {at}. We won't send more emails to this address.

If it wasn't you, someone else can sign in to your account. Contact support.
""",
)
NEW_SIGN_IN = (
    "New sign-in to your account",
    """Someone signed in to your account in a browser that we haven't seen before.

Time: {at}
Browser: {browser}
IP network: {network}

If it was you, you can ignore this email. If it wasn't, reset your password now: {reset}

View your sessions: {settings}
""",
)
KEY_CREATED = (
    "A new API key was created",
    """The API key "{name}" ({secret}) was created at {at} by {actor}.

If you don't recognize it, revoke it: {key}
""",
)
KEY_ROTATED = (
    "An API key was rotated",
    """The API key "{name}" has a new secret ({secret}). It was rotated at {at} by {actor}.

If you don't recognize the change, revoke the key: {key}
""",
)
MANY_SIGN_INS = (
    "{count} new sign-ins to your account",
    """There were {count} sign-ins to your account in browsers that we haven't seen before:

{events}

If it wasn't you, reset your password now: {reset}

View your sessions: {settings}
""",
)
MANY_KEY_CHANGES = (
    "{count} API keys were created or rotated",
    """There were {count} changes:

{events}

View your API keys: {keys}
""",
)
MANY_SECURITY_CHANGES = (
    "{count} security changes in your account",
    """There were {count} changes:

{events}

If it wasn't you, reset your password now: {reset}
""",
)
PURCHASE = (
    "Your purchase: {number}",
    """Thank you. We received your payment of ${dollars:,.2f}.

{name}: {tokens:,} tokens{of_class}

View or print your {document} {number}: {url}
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

_SUPPORT = """
Need help? Write to {email}.
"""


async def send(mailer: Mailer, mail: tuple[str, str], *, to: str, **fields: object) -> None:
    """Send one of these emails, with its fields filled in. It ends with the address of support, if there is one."""
    brand = mailer.brand
    subject, text = (part.format(site=brand.name, **fields) for part in mail)
    if brand.support_email:
        text += _SUPPORT.format(email=brand.support_email)
    await mailer.send(to=to, subject=subject, text=text)
