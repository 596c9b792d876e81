"""The brand on all pages: the operator's name, logo, color and links, or Tok0n's."""

from pathlib import Path

import msgspec

from tok0n.domain.colors import accents_of
from tok0n.web.rendering.assets import MEDIA_TYPES, Asset, make_asset

DEFAULT_NAME = "Tok0n"
DEFAULT_TAGLINE = "Every token accounted for."
DESCRIPTION = (
    "Prepaid tokens for any OpenAI SDK. You pay for the tokens that the model reports, and nothing for errors."
)

ACCENT = "accent.css"


class Brand(msgspec.Struct, frozen=True, kw_only=True):
    """What `[site]` sets. Empty texts are not shown. `logo` is the name of an asset."""

    name: str = DEFAULT_NAME
    tagline: str = DEFAULT_TAGLINE
    support_email: str = ""
    terms_url: str = ""
    privacy_url: str = ""
    imprint_url: str = ""
    show_powered_by: bool = True
    logo: str = ""
    has_accent: bool = False

    @property
    def is_default(self) -> bool:
        """Whether pages show Tok0n's own name, so that its logo and pictures fit."""
        return self.name == DEFAULT_NAME

    @property
    def description(self) -> str:
        """What the service is, for search engines."""
        return DESCRIPTION

    @property
    def links(self) -> list[tuple[str, str]]:
        """The labels and URLs of the operator's own pages."""
        pages = (("Terms", self.terms_url), ("Privacy", self.privacy_url), ("Imprint", self.imprint_url))
        return [(label, url) for label, url in pages if url]


def brand_assets(*, accent_color: str, logo: Path | None) -> dict[str, Asset]:
    """Return the assets of a brand: a style sheet with its color, and its logo."""
    assets = {}
    if accent_color:
        assets[ACCENT] = make_asset(_accent_css(accent_color).encode(), MEDIA_TYPES[".css"])
    if logo is not None:
        assets[logo_name(logo)] = make_asset(logo.read_bytes(), MEDIA_TYPES[logo.suffix.lower()])
    return assets


def logo_name(logo: Path) -> str:
    """Return the name of the asset of a logo."""
    return f"logo{logo.suffix.lower()}"


def _accent_css(color: str) -> str:
    light, dark = accents_of(color)
    names = ("--accent", "--accent-text", "--accent-soft")
    rules = "".join(f"{name}:light-dark({a},{b});" for name, a, b in zip(names, light, dark, strict=True))
    return f":root{{{rules}}}\n"
