"""What is sent, and what the upstream answers: a chat request of one kilobyte, and some of a mebibyte."""

import json

MODEL = "bench"
UPSTREAM_MODEL = "bench-upstream"
MEBIBYTE = 2**20

COMPLETION = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1,
        "model": UPSTREAM_MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello. " * 60}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 12, "total_tokens": 212},
    }
)


def chat_body(model: str = MODEL) -> str:
    """A conversation of about a kilobyte."""
    return _body(
        model,
        [
            {"role": "system", "content": "You are a helpful assistant. " * 4},
            {"role": "user", "content": "Tell me something about the history of accounting. " * 15},
        ],
    )


def big_bodies() -> dict[str, bytes]:
    """Requests of a mebibyte of UTF-8: plain, of many scripts, and of ligatures that NFKC makes 11 times as long."""
    texts = {
        "ASCII": "The quick brown fox jumps over the lazy dog. ",
        "mixed CJK": "日本語と中文 mixed with 한국어, ｶﾀｶﾅ and e\u0301. ",
        "ligatures U+FDFA": "\ufdfa",
    }
    return {name: _body(MODEL, [_user(_repeated(text, MEBIBYTE))]).encode() for name, text in texts.items()}


def _repeated(text: str, size: int) -> str:
    return text * (size // len(text.encode()))


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _body(model: str, messages: list[dict[str, str]]) -> str:
    request = {"model": model, "messages": messages, "max_completion_tokens": 200, "temperature": 0.7}
    return json.dumps(request, ensure_ascii=False)
