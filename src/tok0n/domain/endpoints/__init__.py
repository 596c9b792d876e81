"""The endpoints that Tok0n serves. Each has one module, which describes what differs from the others."""

from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.endpoints.embeddings import EMBEDDINGS

ENDPOINTS = (CHAT, EMBEDDINGS)
"""All endpoints. To add one, write its module and add it here."""
