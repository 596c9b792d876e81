"""The expensive work on passwords is bounded, and waits in a queue of its own."""

import asyncio
import contextlib
import threading

import argon2
import pytest

from tok0n.adapters import strength
from tok0n.adapters.passwords import THREADS, WAITING_MAX, Argon2Passwords
from tok0n.domain.errors import Overloaded
from tok0n.services.passwords import GUESSES_MIN

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("password", ["password123", "p@ssw0rd", "P@$$w0rd!", "1234567890", "qwertyuiop", "19991231"])
def test_likely_passwords_take_few_guesses(password: str) -> None:
    assert strength.guesses(password, known_words=[]) < GUESSES_MIN


@pytest.mark.parametrize(
    "password",
    ["plenty of quiet rivers", "4@8({[<369&#!1|0$5+7%2x", "!@$%(<{[|+", "Tr0ub4dor&3", "4@8({[<369&#!1|0$5+7%2" * 9],
)
def test_unlikely_passwords_take_many_guesses(password: str) -> None:
    assert strength.guesses(password, known_words=[]) >= GUESSES_MIN


def test_words_known_about_the_user_take_few_guesses() -> None:
    email = "wxyvkqzpl@example.com"
    assert strength.guesses(email, known_words=[]) >= GUESSES_MIN
    assert strength.guesses(email, known_words=[email]) < GUESSES_MIN
    assert strength.guesses(email, known_words=[]) >= GUESSES_MIN, "the words of one user are not kept for the next"


@pytest.mark.parametrize(
    "password", ["4@8({[<369&#!1|0$5+7%2" * 9, "abaa" * 50, "9t8be/8bqgst3a8b8/x781@od3g7sswxeo6d!q/" * 5]
)
def test_zxcvbn_sees_a_bounded_password_with_few_readings(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import zxcvbn  # noqa: PLC0415
    from zxcvbn import matching  # noqa: PLC0415

    judged: list[str] = []
    real = zxcvbn.zxcvbn

    def seen(password: str, user_inputs: list[str] | None = None) -> object:
        judged.append(password)
        return real(password, user_inputs=user_inputs)

    monkeypatch.setattr(zxcvbn, "zxcvbn", seen)
    strength.guesses(password, known_words=[])
    assert len(judged[0]) <= strength.CHARACTERS_MAX
    table = matching.relevant_l33t_subtable(judged[0], matching.L33T_TABLE)
    assert len(matching.enumerate_l33t_subs(table)) <= 2 * strength.SUBSTITUTIONS_MAX


async def test_a_hash_costs_what_owasp_asks_for_and_an_unknown_user_as_much() -> None:
    with contextlib.closing(Argon2Passwords()) as passwords:
        password_hash = await passwords.hash("plenty of quiet rivers")
        assert password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert await passwords.matches("plenty of quiet rivers", password_hash)
        assert not await passwords.matches("plenty of quiet river", password_hash)
        assert not await passwords.matches("plenty of quiet rivers", None)
        expected, actual = map(argon2.extract_parameters, (password_hash, passwords._dummy_hash))
        assert actual == expected
        with pytest.raises(argon2.exceptions.VerifyMismatchError):
            passwords._hasher.verify(passwords._dummy_hash, "")


async def test_a_full_queue_is_overloaded_and_never_uses_the_threads_of_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = Argon2Passwords()
    gate, names = threading.Event(), set[str]()

    def guesses(password: str, *, known_words: list[str]) -> int:
        del password, known_words
        names.add(threading.current_thread().name)
        gate.wait(60)
        return 1

    monkeypatch.setattr(strength, "guesses", guesses)
    try:
        waiting = [asyncio.ensure_future(passwords.guesses("x", known_words=[])) for _ in range(WAITING_MAX)]
        await asyncio.sleep(0)
        for work in (passwords.guesses("x", known_words=[]), passwords.hash("x"), passwords.matches("x", None)):
            with pytest.raises(Overloaded):
                await work
        gate.set()
        assert await asyncio.gather(*waiting) == [1] * WAITING_MAX
        assert len(names) <= THREADS
        assert all(name.startswith("passwords") for name in names)
    finally:
        gate.set()
        passwords.close()
