"""The endpoints that Tok0n serves. Each has one module, which describes what differs from the others."""

from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.endpoints.count_tokens import COUNT_TOKENS
from tok0n.domain.endpoints.embeddings import EMBEDDINGS
from tok0n.domain.endpoints.messages import MESSAGES
from tok0n.domain.endpoints.responses import RESPONSES

ENDPOINTS = (CHAT, EMBEDDINGS, RESPONSES, MESSAGES, COUNT_TOKENS)
"""All endpoints. To add one, write its module and add it here."""
