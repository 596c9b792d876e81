"""The second factor: time-based codes (RFC 6238) and recovery codes. Each works once."""

import base64
import hmac
import secrets

import pyotp

from tok0n.domain.users import RECOVERY_CODE_BYTES, RECOVERY_CODES, Session, digest
from tok0n.ports.clock import Clock
from tok0n.ports.users import Users

STEP_SECONDS = 30
STEPS_OFF_MAX = 1
"""A clock may be this many steps off, either way."""

ISSUER = "Tok0n"


class SecondFactor:
    """Checks codes, and makes what they are made from."""

    def __init__(self, users: Users, clock: Clock) -> None:
        self._users = users
        self._clock = clock

    async def accepts(self, code: str, *, user_id: str, totp_secret: str) -> bool:
        """Whether it is a code of this user's, which it uses up."""
        code = "".join(code.split()).replace("-", "").upper()
        step = self.step_of(code, totp_secret)
        if step is not None:
            return await self._users.use_totp_step(user_id=user_id, step=step)
        return await self._users.use_recovery_code(user_id=user_id, digest=digest(code))

    async def begin(self, session: Session, *, secret: str, code: str) -> list[str] | None:
        """Take the second factor on, proven by a first code; gives the recovery codes. None when the code is wrong."""
        step = self.step_of("".join(code.split()), secret)
        if step is None:
            return None
        codes = [
            base64.b32encode(secrets.token_bytes(RECOVERY_CODE_BYTES)).decode()[:12] for _ in range(RECOVERY_CODES)
        ]
        await self._users.set_totp(
            user_id=session.user_id,
            secret=secret,
            step=step,
            recovery_codes=[digest(one) for one in codes],
            made_in=session.digest,
        )
        return [f"{one[:4]}-{one[4:8]}-{one[8:]}" for one in codes]

    async def end(self, session: Session) -> None:
        """Take the second factor away."""
        await self._users.set_totp(
            user_id=session.user_id, secret=None, step=0, recovery_codes=[], made_in=session.digest
        )

    def step_of(self, code: str, totp_secret: str) -> int | None:
        """The time step that this is the code of, if it is one of now."""
        totp = pyotp.TOTP(totp_secret)
        now = self._clock.now_us() // 1_000_000 // STEP_SECONDS
        for step in range(now - STEPS_OFF_MAX, now + STEPS_OFF_MAX + 1):
            if hmac.compare_digest(totp.at(step * STEP_SECONDS).encode(), code.encode()):
                return step
        return None


def new_secret() -> str:
    """A secret for an authenticator app."""
    return pyotp.random_base32()


def is_secret(text: str) -> bool:
    """Whether `text` can be what `new_secret` gave."""
    return len(text) == len(new_secret()) and set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")


def address(secret: str, *, email: str) -> str:
    """What an authenticator app reads from a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)
