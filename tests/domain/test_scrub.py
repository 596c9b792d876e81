"""What an upstream says about a request is shown without the operator's secrets, and is still worth reading."""

import time

import pytest

from tok0n.domain.scrub import CHARACTERS_MAX, READ_CHARACTERS_MAX, scrub

SECRETS = ["operators-own-key", "", "https://llm.corp.example/v1", "llm.corp.example", "llm", "value-of-a-header"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Key OPERATORS-own-key is wrong", "Key [redacted] is wrong"),
        ("(operators-own-key)", "([redacted])"),
        ("POST https://llm.corp.example/v1/chat failed", "POST [redacted]/chat failed"),
        ("llm says no, LLMs do not", "[redacted] says no, LLMs do not"),
        ("x value-of-a-header x", "x [redacted] x"),
        ("provided: sk-proj-ab****cdef.", "provided: [redacted]"),
        ("in x.sk-abcdefgh", "in x.[redacted]"),
        ("_sk-abcdefgh", "_[redacted]"),
        ("Authorization: Bearer abc", "Authorization: [redacted]"),
        ("org-AbCdEf123456 and proj_AbCdEf123456", "[redacted] and [redacted]"),
        ("user-8Ab3dEf, req_0123456789", "[redacted], [redacted]"),
        ("see http://user:pw@host:80/x?y=1 now", "see [redacted] now"),
        ("from 10.0.0.1:8000 and bad:10.0.0.1", "from [redacted] and bad:[redacted]"),
        (
            "at [::1]:8000, [fe80::1%eth0], fe80::1 and 2001:db8:0:0:0:0:0:1.",
            "at [redacted], [redacted], [redacted] and [redacted].",
        ),
        ("ask api.openai.com. Or localhost:8000", "ask [redacted]. Or [redacted]"),
        ("node7.rack:8000 and ops@corp.example", "[redacted] and [redacted]"),
        ("one\r\ntwo\x00three\x9b", "one two three"),
    ],
)
def test_a_secret_is_taken_out(text: str, shown: str) -> None:
    assert scrub(text, SECRETS) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Invalid 'messages[100].content': expected a string, got [bad].",
        "Invalid type for 'messages.0.content[1].text'; the user-provided key-value pairs have no org-level name.",
        "At 12:34:56, std::string, max_tokens:100, ratio 16:9, 1.5 of 2.25: ask-anything, disk-based-storage.",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
        "Ungültiger Wert für „Temperatur“: 3 > 2",
    ],
)
def test_what_is_no_secret_can_still_be_read(text: str) -> None:
    assert scrub(text, SECRETS) == text


def test_it_is_short() -> None:
    shown = scrub("word " * 1000, SECRETS)
    assert len(shown) == CHARACTERS_MAX
    assert shown.endswith("…")


def test_a_secret_that_is_cut_in_two_is_taken_out() -> None:
    text = "http://a/" + "b" * (READ_CHARACTERS_MAX - 20) + " operators-own-key"
    assert "operators" not in scrub(text, SECRETS)
    assert "operators" in scrub("The operators wait.", SECRETS)


@pytest.mark.parametrize(
    "piece",
    ["a-", "a.", "a:", "-a", "[", "[:", "1.", "f:", "::", "bearer ", "sk-", "a+", "@", "a@", "key-", "é.", "x://"],
)
def test_no_text_takes_long(piece: str) -> None:
    text = piece * READ_CHARACTERS_MAX
    started = time.process_time()
    scrub(text, SECRETS)
    assert time.process_time() - started < 0.05


def test_the_result_can_be_encoded() -> None:
    assert scrub("a\ud800\udfffb", []) == "a b"
