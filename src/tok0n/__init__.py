"""Tok0n: a self-hosted, prepaid, OpenAI-compatible LLM gateway."""

from importlib.metadata import version

__version__ = version("tok0n")
