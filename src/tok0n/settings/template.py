"""The commented settings file that `tok0n init` writes."""

from pathlib import Path


def template() -> str:
    """The text of it. Everything commented out shows its default."""
    return (Path(__file__).parent / "tok0n.toml").read_text("utf-8")
