"""Two-factor authentication with time-based codes (RFC 6238) and recovery codes. Each code works once."""

import base64
import hmac
import secrets

import pyotp

from tok0n.domain.users import RECOVERY_CODE_BYTES, RECOVERY_CODES, Session, digest
from tok0n.ports.clock import Clock
from tok0n.ports.users import Users

STEP_SECONDS = 30
STEPS_OFF_MAX = 1
"""How many steps the clock of a user's device can be ahead or behind."""


class TwoFactor:
    """Checks codes, and turns two-factor authentication on and off."""

    def __init__(self, users: Users, clock: Clock) -> None:
        self._users = users
        self._clock = clock

    async def use_code(self, code: str, *, user_id: str, totp_secret: str) -> bool:
        """Use up a code. Return False if it isn't a valid, unused code of the user."""
        code = "".join(code.split()).replace("-", "").upper()
        step = self.find_step(code, totp_secret)
        if step is not None:
            return await self._users.use_totp_step(user_id=user_id, step=step)
        return await self._users.use_recovery_code(user_id=user_id, digest=digest(code))

    async def turn_on(self, session: Session, *, secret: str, code: str) -> list[str] | None:
        """Turn on two-factor authentication, and return the recovery codes. None if `code` doesn't match `secret`."""
        step = self.find_step("".join(code.split()), secret)
        if step is None:
            return None
        codes = [
            base64.b32encode(secrets.token_bytes(RECOVERY_CODE_BYTES)).decode()[:12] for _ in range(RECOVERY_CODES)
        ]
        await self._users.set_totp(
            user_id=session.user_id,
            secret=secret,
            step=step,
            recovery_codes=[digest(recovery_code) for recovery_code in codes],
            session_digest=session.digest,
            now_us=self._clock.now_us(),
        )
        return [f"{text[:4]}-{text[4:8]}-{text[8:]}" for text in codes]

    async def turn_off(self, session: Session) -> None:
        """Turn off two-factor authentication. The page has checked the password.

        Raises `CredentialsChanged` if the session has ended.
        """
        await self._users.set_totp(
            user_id=session.user_id,
            secret=None,
            step=0,
            recovery_codes=[],
            session_digest=session.digest,
            now_us=self._clock.now_us(),
        )

    def find_step(self, code: str, totp_secret: str) -> int | None:
        """Return the current time step that `code` belongs to, or None."""
        totp = pyotp.TOTP(totp_secret)
        now = self._clock.now_us() // 1_000_000 // STEP_SECONDS
        for step in range(now - STEPS_OFF_MAX, now + STEPS_OFF_MAX + 1):
            if hmac.compare_digest(totp.at(step * STEP_SECONDS).encode(), code.encode()):
                return step
        return None


def new_secret() -> str:
    """Return a new secret for an authenticator app."""
    return pyotp.random_base32()


def is_secret(text: str) -> bool:
    """Whether `text` has the form of a secret from `new_secret`."""
    return len(text) == len(new_secret()) and set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")


def provisioning_uri(secret: str, *, email: str, site: str) -> str:
    """Return the URI for the QR code that an authenticator app scans. The app shows the site's name."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=site)
