"""The mails that Tok0n writes. None of them holds a key, a prompt or a password."""

VERIFY = (
    "Confirm your address",
    """Welcome to Tok0n.

Open this link to confirm your address; it works once, for a day:

{url}

If you did not sign up, do nothing: without this link there is no account.
""",
)
KNOWN = (
    "You have an account already",
    """Somebody, perhaps you, signed up with this address, which has an account already.

Sign in: {sign_in}
Forgot the password? {reset}
""",
)
RESET = (
    "Choose a new password",
    """Open this link to choose a new password; it works once, for a day:

{url}

If you did not ask for it, do nothing: your password stays as it is.
""",
)
INVITE = (
    "You are invited",
    """You are invited to Tok0n. Open this link to choose a password; it works once, for a week:

{url}
""",
)
NEW_EMAIL = (
    "Confirm your new address",
    """Open this link to use this address for your account from now on; it works once, for a day:

{url}

If you did not ask for it, do nothing.
""",
)
EMAIL_CHANGES = (
    "Your address is about to change",
    """Somebody, perhaps you, asked to use the address {email} for your account, with your password.

If it was not you, choose a new password now: {reset}
""",
)
PASSWORD_CHANGED = (
    "Your password was changed",
    """The password of your account was changed, and every other session has ended.

If it was not you, choose a new one now: {reset}
""",
)
LOW_BALANCE = (
    "Your balance is low",
    """Your account has {posted:,} tokens left, which is less than the {below:,} below which you asked to be told.

{overview}
""",
)
