"""The endpoints that Tok0n serves. Each has one module, which describes what differs from the others."""

from tok0n.domain.endpoints.chat import CHAT

ENDPOINTS = (CHAT,)
"""All endpoints. To add one, write its module and add it here."""
