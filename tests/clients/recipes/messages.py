"""Calls the gateway with Anthropic's SDK, and prints the results as one JSON document.

Arguments: the URL of the gateway that answers, and of one whose upstream fails. Their API keys are in TOK0N_API_KEY
and OTHER_KEY.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import anthropic

KEY = os.environ["TOK0N_API_KEY"]
MESSAGES: Any = [{"role": "user", "content": "Hello"}]


def client(url: str, **options: Any) -> anthropic.Anthropic:
    """Return a client that never retries."""
    return anthropic.Anthropic(**{"base_url": url, "api_key": KEY, "max_retries": 0} | options)


def error(call: Callable[[], object]) -> list[Any]:
    """Return the class, status and type of the error of a call, and whether it has a request id."""
    try:
        call()
    except anthropic.APIStatusError as raised:
        body: Any = raised.body
        return [type(raised).__name__, raised.status_code, body["error"]["type"], bool(raised.request_id)]
    return ["no error"]


def main(good: str, failing: str) -> None:
    """Call, and print."""
    sdk = client(good)

    def create(of: anthropic.Anthropic, **more: Any) -> Any:
        return of.messages.create(**{"model": "demo", "max_tokens": 50, "messages": MESSAGES} | more)

    message = create(sdk)
    with sdk.messages.stream(model="demo", max_tokens=50, messages=MESSAGES) as stream:
        words = list(stream.text_stream)
        final = stream.get_final_message()
    by_token = anthropic.Anthropic(base_url=good, auth_token=KEY, api_key=None, max_retries=0)
    results = {
        "created": [message.model, message.content[0].text, message.usage.output_tokens],
        "beta": sdk.beta.messages.create(model="demo", max_tokens=50, messages=MESSAGES).content[0].text,
        "bearer": create(by_token).content[0].text,
        "stream": [final.model, "".join(words), final.usage.output_tokens, final.stop_reason],
        "count": sdk.messages.count_tokens(model="demo", messages=MESSAGES).input_tokens,
        "errors": {
            "wrong key": error(lambda: create(client(good, api_key="sk-ant-1"))),
            "invalid": error(lambda: create(sdk, max_tokens=0)),
            "over the limit": error(lambda: create(sdk, max_tokens=5_000)),
            "unknown model": error(lambda: create(sdk, model="nobody")),
            "balance": error(lambda: create(sdk, messages=[MESSAGES[0] | {"content": "x" * 900_000}])),
            "upstream": error(lambda: create(client(failing, api_key=os.environ["OTHER_KEY"]))),
        },
    }
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
