"""Passkeys with the webauthn package, which is an extra because of its large dependencies."""

from urllib.parse import urlsplit

import msgspec

from tok0n.domain.errors import PasskeyInvalid, PasskeyMalformed
from tok0n.domain.users import Passkey

CREDENTIAL_CHARACTERS_MAX = 20_000
_INVALID = "We couldn't verify this passkey. Try again, or sign in with your password."
_MALFORMED = "Your browser sent no valid passkey. Reload the page and try again, or sign in with your password."


class _Response(msgspec.Struct, frozen=True, kw_only=True):
    client_data: str = msgspec.field(name="clientDataJSON")


class _Credential(msgspec.Struct, frozen=True, kw_only=True):
    """The members that this module reads. The webauthn package reads the others."""

    raw_id: str = msgspec.field(name="rawId")
    response: _Response


class _ClientData(msgspec.Struct, frozen=True, kw_only=True):
    challenge: str


class WebAuthn:
    """The `Authenticator` port. Its passkeys work only at the origin of `public_url`.

    `site` is the name that password managers may show.
    """

    def __init__(self, public_url: str, *, site: str) -> None:
        parts = urlsplit(public_url)
        assert parts.hostname is not None
        self._site = site
        self._host = parts.hostname
        self._origin = f"{parts.scheme}://{parts.netloc}"

    def creation_options(self, *, user_id: str, email: str, existing_ids: list[bytes]) -> tuple[str, bytes]:
        import webauthn  # noqa: PLC0415  slow to import, and few requests need it
        from webauthn.helpers import structs  # noqa: PLC0415

        options = webauthn.generate_registration_options(
            rp_id=self._host,
            rp_name=self._site,
            user_id=user_id.encode(),
            user_name=email,
            exclude_credentials=[
                structs.PublicKeyCredentialDescriptor(id=credential_id) for credential_id in existing_ids
            ],
            authenticator_selection=structs.AuthenticatorSelectionCriteria(
                resident_key=structs.ResidentKeyRequirement.REQUIRED,
                user_verification=structs.UserVerificationRequirement.REQUIRED,
            ),
        )
        return webauthn.options_to_json(options), options.challenge

    def sign_in_options(self) -> tuple[str, bytes]:
        import webauthn  # noqa: PLC0415
        from webauthn.helpers import structs  # noqa: PLC0415

        options = webauthn.generate_authentication_options(
            rp_id=self._host, user_verification=structs.UserVerificationRequirement.REQUIRED
        )
        return webauthn.options_to_json(options), options.challenge

    def read_response(self, credential: str) -> tuple[bytes, bytes]:
        if len(credential) > CREDENTIAL_CHARACTERS_MAX:
            raise PasskeyMalformed(_MALFORMED)
        try:
            sent = msgspec.json.decode(credential, type=_Credential)
            client_data = msgspec.json.decode(_bytes_of(sent.response.client_data), type=_ClientData)
            return _bytes_of(sent.raw_id), _bytes_of(client_data.challenge)
        except (ValueError, RecursionError) as error:
            raise PasskeyMalformed(_MALFORMED) from error

    def verify_creation(self, credential: str, *, challenge: bytes) -> tuple[bytes, bytes, int]:
        import webauthn  # noqa: PLC0415

        try:
            verified = webauthn.verify_registration_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=self._host,
                expected_origin=self._origin,
                require_user_verification=True,
            )
        except Exception as error:  # The library's parsers raise any error on a client's bytes.
            raise PasskeyInvalid(_INVALID) from error
        return verified.credential_id, verified.credential_public_key, verified.sign_count

    def verify_assertion(self, credential: str, *, challenge: bytes, passkey: Passkey) -> int:
        import webauthn  # noqa: PLC0415

        try:
            used = webauthn.verify_authentication_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=self._host,
                expected_origin=self._origin,
                credential_public_key=passkey.public_key,
                credential_current_sign_count=passkey.sign_count,
                require_user_verification=True,
            )
        except Exception as error:  # the library raises what its parsers raise on a client's bytes
            raise PasskeyInvalid(_INVALID) from error
        return used.new_sign_count


def _bytes_of(base64url: str) -> bytes:
    from webauthn import helpers  # noqa: PLC0415

    return helpers.base64url_to_bytes(base64url)
