"""Sign in with a passkey: a device that has verified its user stands for both factors. Each challenge works once."""

import asyncio

from tok0n.domain.attempts import AttemptKind
from tok0n.domain.errors import AlreadyExists, PasskeyInvalid
from tok0n.domain.people import PASSKEY_LIFE_US, LinkPurpose, Passkey, Person, SignedIn, digest
from tok0n.ports import Attempts, Authenticator, Clock, Passkeys, People
from tok0n.services.attempts import AttemptLimiter, count_attempt
from tok0n.services.passwords import Refused, too_many
from tok0n.services.profile import Profile
from tok0n.services.signing import NewSession, Signing

PASSKEYS_MAX = 20
NAME_CHARACTERS_MAX = 100
ASKED_MAX = 60
ASKED_SECONDS = 900.0


class SignInByPasskey:
    """The use cases."""

    def __init__(
        self,
        *,
        passkeys: Passkeys,
        authenticator: Authenticator,
        people: People,
        attempts: Attempts,
        profile: Profile,
        signing: Signing,
        clock: Clock,
    ) -> None:
        self._passkeys = passkeys
        self._authenticator = authenticator
        self._people = people
        self._attempts = attempts
        self._profile = profile
        self._signing = signing
        self._clock = clock
        self._asked = AttemptLimiter(clock, attempts_max=ASKED_MAX, seconds=ASKED_SECONDS)

    async def of(self, session: SignedIn) -> list[Passkey]:
        """The passkeys of whoever is signed in."""
        return await self._passkeys.of(session.person_id)

    async def ask_to_make(self, session: SignedIn) -> str:
        """What the browser needs to make one, as JSON."""
        known = [one.credential_id for one in await self._passkeys.of(session.person_id)]
        options, challenge = self._authenticator.creation_options(
            person_id=session.person_id, email=session.email, known=known
        )
        await self._remember(challenge, person_id=session.person_id)
        return options

    async def add(self, session: SignedIn, *, credential: str, name: str, password: str) -> None:
        """Take a passkey that the browser made. Raises `Refused`."""
        name = name.strip()
        if not name or len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
            raise Refused(f"Name it, in 1 to {NAME_CHARACTERS_MAX} characters.", field="passkey_name")
        if len(await self._passkeys.of(session.person_id)) >= PASSKEYS_MAX:
            raise Refused(f"{PASSKEYS_MAX} are enough. Remove one first.", field="passkey_name")
        await self._profile.prove(session, password, field="passkey_password")
        try:
            _, challenge = self._authenticator.read(credential)
            await self._take(challenge)
            made = await asyncio.to_thread(self._authenticator.created, credential, challenge=challenge)
            await self._passkeys.add(
                Passkey(
                    credential_id=made[0],
                    person_id=session.person_id,
                    public_key=made[1],
                    sign_count=made[2],
                    name=name,
                    created_at_us=self._clock.now_us(),
                    last_used_at_us=None,
                )
            )
        except (PasskeyInvalid, AlreadyExists) as error:
            raise Refused(error.message, field="passkey_name") from error

    async def remove(self, session: SignedIn, credential_id: bytes) -> None:
        """Forget one."""
        await self._passkeys.remove(person_id=session.person_id, credential_id=credential_id)

    async def ask_to_use(self, *, address: str) -> str:
        """What the browser needs to use one, as JSON. Raises `Refused`."""
        if seconds := self._asked.try_count(address):
            raise too_many(seconds, field="passkey")
        options, challenge = self._authenticator.request_options()
        await self._remember(challenge, person_id=None)
        return options

    async def sign_in(self, credential: str, *, address: str, agent: str) -> NewSession:
        """Begin a session, without a second factor. Raises `Refused`."""
        counted = await count_attempt(self._attempts, self._clock, AttemptKind.PASSKEY, address, field="passkey")
        try:
            passkey, person, count = await self._prove(credential)
        except PasskeyInvalid as error:
            raise Refused(error.message, field="passkey") from error
        await self._attempts.take_back(counted)
        await self._passkeys.used(passkey.credential_id, sign_count=count, now_us=self._clock.now_us())
        return await self._signing.begin(person, agent=agent, proven=True)

    async def _prove(self, credential: str) -> tuple[Passkey, Person, int]:
        """Whose passkey has signed one of our challenges, and how often it has signed. Raises `PasskeyInvalid`."""
        credential_id, challenge = self._authenticator.read(credential)
        await self._take(challenge)
        found = await self._passkeys.find(credential_id)
        if found is None:
            raise PasskeyInvalid("This passkey is not known here. Sign in with the password.")
        count = await asyncio.to_thread(self._authenticator.used, credential, challenge=challenge, passkey=found[0])
        return *found, count

    async def _remember(self, challenge: bytes, *, person_id: str | None) -> None:
        await self._people.make_link(
            person_id=person_id,
            purpose=LinkPurpose.PASSKEY,
            digest=digest(challenge.hex()),
            expires_at_us=self._clock.now_us() + PASSKEY_LIFE_US,
            email=None,
        )

    async def _take(self, challenge: bytes) -> None:
        used = await self._people.use_link(
            digest(challenge.hex()), purpose=LinkPurpose.PASSKEY, now_us=self._clock.now_us()
        )
        if not used:
            raise PasskeyInvalid("That took too long. Try again.")
