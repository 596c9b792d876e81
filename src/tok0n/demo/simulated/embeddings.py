"""`POST /embeddings` of the simulated upstream. The vectors follow from the input alone."""

import base64
import hashlib
import struct
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from tok0n.demo.simulated.replies import Conversation, Item, json_of, tokens_of

DIMENSIONS_DEFAULT = 1_536
DIMENSIONS_MAX = 3_072
INPUTS_MAX = 2_048

_Tokens = Annotated[list[int], msgspec.Meta(min_length=1)]


class EmbeddingsBody(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a request that the simulation uses. It ignores the others."""

    prompt_field: ClassVar[str] = "input"

    model: str
    input: str | Annotated[list[Any], msgspec.Meta(min_length=1, max_length=INPUTS_MAX)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=DIMENSIONS_MAX)] = DIMENSIONS_DEFAULT

    stream = None
    stream_options = None

    @property
    def inputs(self) -> list[str | list[int]]:
        """The inputs, each a text or a list of tokens."""
        values = self.input
        if isinstance(values, str) or (values and isinstance(values[0], int)):
            values = [values]
        return msgspec.convert(values, list[Annotated[str, msgspec.Meta(min_length=1)] | _Tokens])

    def conversation(self) -> Conversation:
        """Return the inputs as items. A verification has one."""
        items = [
            Item(role="user", text=value if isinstance(value, str) else "", tokens=_count(value))
            for value in self.inputs
        ]
        return Conversation(model=self.model, items=items, limit=1)

    def answer(self, conversation: Conversation) -> dict[str, Any]:
        """Return the vectors in OpenAI's format. Usage counts only the inputs."""
        tokens = sum(item.tokens for item in conversation.items)
        data = [
            {"object": "embedding", "index": index, "embedding": self._encoded(value)}
            for index, value in enumerate(self.inputs)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": self.model, "usage": usage}

    def events(self, answer: dict[str, Any]) -> list[bytes]:
        """Embeddings have no stream."""
        raise NotImplementedError(answer)

    def _encoded(self, value: str | list[int]) -> list[float] | str:
        vector = _vector(value, self.dimensions)
        if self.encoding_format == "float":
            return vector
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _count(value: str | list[int]) -> int:
    return tokens_of(value) if isinstance(value, str) else len(value)


def _vector(value: str | list[int], dimensions: int) -> list[float]:
    """Return a vector of length 1, with float32 values."""
    raw = hashlib.shake_256(json_of(value).encode()).digest(2 * dimensions)
    numbers = [number + 0.5 for number in struct.unpack(f"<{dimensions}h", raw)]
    length = sum(number * number for number in numbers) ** 0.5
    return list(struct.unpack(f"<{dimensions}f", struct.pack(f"<{dimensions}f", *(n / length for n in numbers))))
