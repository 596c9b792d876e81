"""The commented settings file that `tok0n init` writes."""

from importlib import resources


def template() -> str:
    """The text of it: every setting, commented out where it shows a default or an example."""
    return (resources.files("tok0n.settings") / "tok0n.toml").read_text("utf-8")
