"""Sign in with a passkey. It replaces both factors, because the device verifies its user. Challenges work once."""

import asyncio
import secrets
from enum import StrEnum

from tok0n.domain.attempts import AttemptKind
from tok0n.domain.errors import AlreadyExists, LimitReached, PasskeyInvalid, PasskeyMalformed
from tok0n.domain.users import PASSKEY_LIFETIME_US, SECRET_BYTES, Agent, LinkPurpose, Passkey, Session, User, digest
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Attempts
from tok0n.ports.users import Authenticator, Passkeys, Users
from tok0n.services.attempts import AttemptLimiter, count_attempt
from tok0n.services.passwords import FormError, too_many_attempts
from tok0n.services.profile import Profile
from tok0n.services.sign_in import SECRET_CHARACTERS_MAX, NewSession, SignIn

PASSKEYS_MAX = 20
NAME_CHARACTERS_MAX = 100
CHALLENGES_MAX = 60
CHALLENGES_SECONDS = 900.0
"""The period in which one client gets at most `CHALLENGES_MAX` challenges to sign in."""


class ChallengePurpose(StrEnum):
    """The one action that a signed challenge allows."""

    SIGN_IN = "sign_in"
    ADD = "add"


class Malformed(FormError):
    """The form doesn't contain a passkey response."""


class SignInByPasskey:
    """Adds and removes passkeys, and signs users in with them.

    A challenge works once, within 5 minutes, for one purpose, and only for the visitor who requested it. To add a
    passkey, a session identifies the visitor; to sign in, a cookie does.
    """

    def __init__(
        self,
        *,
        passkeys: Passkeys,
        authenticator: Authenticator,
        users: Users,
        attempts: Attempts,
        profile: Profile,
        sign_in: SignIn,
        clock: Clock,
    ) -> None:
        self._passkeys = passkeys
        self._authenticator = authenticator
        self._users = users
        self._attempts = attempts
        self._profile = profile
        self._sign_in = sign_in
        self._clock = clock
        self._challenges = AttemptLimiter(clock, attempts_max=CHALLENGES_MAX, seconds=CHALLENGES_SECONDS)

    async def list_passkeys(self, session: Session) -> list[Passkey]:
        """Return the signed-in user's passkeys."""
        return await self._passkeys.list_for_user(session.user_id)

    async def creation_options(self, session: Session) -> str:
        """Return the options for creating a passkey, as JSON for the browser."""
        existing_ids = [passkey.credential_id for passkey in await self._passkeys.list_for_user(session.user_id)]
        options, challenge = self._authenticator.creation_options(
            user_id=session.user_id, email=session.email, existing_ids=existing_ids
        )
        await self._store_challenge(challenge, ChallengePurpose.ADD, visitor=_visitor_of(session), session=session)
        return options

    async def add(self, session: Session, *, credential: str, name: str, password: str) -> None:
        """Add the passkey that the browser created. Raises `FormError`."""
        name = name.strip()
        if not name or len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
            raise FormError(f"Enter a name of 1 to {NAME_CHARACTERS_MAX} characters.", field="passkey_name")
        await self._profile.check_password(session, password, field="passkey_password")
        try:
            _, challenge = self._authenticator.read_response(credential)
            await self._use_challenge(challenge, ChallengePurpose.ADD, visitor=_visitor_of(session))
            credential_id, public_key, sign_count = await asyncio.to_thread(
                self._authenticator.verify_creation, credential, challenge=challenge
            )
            await self._passkeys.add(
                Passkey(
                    credential_id=credential_id,
                    user_id=session.user_id,
                    public_key=public_key,
                    sign_count=sign_count,
                    name=name,
                    created_at_us=self._clock.now_us(),
                    last_used_at_us=None,
                ),
                passkeys_max=PASSKEYS_MAX,
                session_digest=session.digest,
            )
        except PasskeyMalformed as error:
            raise Malformed(error.message, field="passkey_name") from error
        except (PasskeyInvalid, AlreadyExists, LimitReached) as error:
            raise FormError(error.message, field="passkey_name") from error

    async def remove(self, session: Session, credential_id: bytes) -> None:
        """Remove a passkey of the signed-in user. Raises `CredentialsChanged`."""
        await self._passkeys.remove(user_id=session.user_id, credential_id=credential_id, session_digest=session.digest)

    async def sign_in_options(self, *, limit_key: str) -> tuple[str, str]:
        """Return the options for signing in, as JSON for the browser, and its cookie's secret. Raises `FormError`."""
        if seconds := self._challenges.count_attempt(limit_key):
            raise too_many_attempts(seconds, field="passkey")
        options, challenge = self._authenticator.sign_in_options()
        visitor = secrets.token_urlsafe(SECRET_BYTES)
        await self._store_challenge(challenge, ChallengePurpose.SIGN_IN, visitor=visitor)
        return options, visitor

    async def sign_in(self, credential: str, *, visitor: str | None, limit_key: str, agent: Agent) -> NewSession:
        """Begin a session without asking for a code. `visitor` is the secret in the cookie. Raises `FormError`."""
        counted = await count_attempt(self._attempts, self._clock, AttemptKind.PASSKEY, limit_key, field="passkey")
        try:
            passkey, user, count = await self._verify_response(credential, visitor=visitor)
        except PasskeyMalformed as error:
            raise Malformed(error.message, field="passkey") from error
        except PasskeyInvalid as error:
            raise FormError(error.message, field="passkey") from error
        await self._attempts.take_back(counted)
        await self._passkeys.record_use(passkey.credential_id, sign_count=count, now_us=self._clock.now_us())
        return await self._sign_in.begin_session(user, agent=agent, two_factor_passed=True)

    async def _verify_response(self, credential: str, *, visitor: str | None) -> tuple[Passkey, User, int]:
        """Return the passkey that signed our challenge, its user and its new sign count. Raises `PasskeyInvalid`."""
        credential_id, challenge = self._authenticator.read_response(credential)
        await self._use_challenge(challenge, ChallengePurpose.SIGN_IN, visitor=visitor)
        match = await self._passkeys.find(credential_id)
        if match is None:
            raise PasskeyInvalid("We don't recognize this passkey. Sign in with your password.")
        passkey, user = match
        count = await asyncio.to_thread(
            self._authenticator.verify_assertion, credential, challenge=challenge, passkey=passkey
        )
        return passkey, user, count

    async def _store_challenge(
        self, challenge: bytes, purpose: ChallengePurpose, *, visitor: str, session: Session | None = None
    ) -> None:
        """Store a challenge for one purpose and visitor, in the table of single-use links."""
        await self._users.create_link(
            user_id=None if session is None else session.user_id,
            purpose=LinkPurpose.PASSKEY,
            digest=_challenge_digest(challenge, purpose, visitor=visitor),
            expires_at_us=self._clock.now_us() + PASSKEY_LIFETIME_US,
            email=None,
            session_digest=None if session is None else session.digest,
        )

    async def _use_challenge(self, challenge: bytes, purpose: ChallengePurpose, *, visitor: str | None) -> None:
        """Use up a challenge. Raises `PasskeyInvalid` unless it is stored for this purpose and visitor."""
        if visitor and len(visitor) <= SECRET_CHARACTERS_MAX:
            link_digest = _challenge_digest(challenge, purpose, visitor=visitor)
            if await self._users.use_link(link_digest, purpose=LinkPurpose.PASSKEY, now_us=self._clock.now_us()):
                return
        raise PasskeyInvalid("This passkey request has expired or was started in another browser. Try again.")


def _challenge_digest(challenge: bytes, purpose: ChallengePurpose, *, visitor: str) -> bytes:
    """Return the digest of a challenge, its purpose and its visitor, so that no other purpose or visitor matches."""
    return digest(f"{purpose} {visitor} {challenge.hex()}")


def _visitor_of(session: Session) -> str:
    return session.digest.hex()
