"""[site]: wrong values are reported before a visitor sees them."""

from pathlib import Path

import pytest

from support.settings import MODEL, UPSTREAM, machine_problems_of, problems_of, settings_of
from tok0n.settings.machine import LOGO_BYTES_MAX

TEXT = "must be printable text on one line, without spaces at either end."


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('name = ""', "of 1 to 60 characters"),
        (f'name = "{"a" * 61}"', "of 1 to 60 characters"),
        ('name = " Acme"', TEXT),
        ('name = "Ac\\nme"', TEXT),
        (f'tagline = "{"a" * 201}"', "200 characters"),
        ('tagline = "one\\ntwo"', TEXT),
        ('accent_color = "green"', 'must be a color in the form "#rrggbb", such as "#0b6b53".'),
        ('accent_color = "#0b6b5"', 'must be a color in the form "#rrggbb", such as "#0b6b53".'),
        ('support_email = "support"', "must be an email address, such as support@example.com."),
        ('terms_url = "javascript:alert(1)"', "must be the URL of a page, such as https://example.com/terms."),
        ('privacy_url = "/privacy"', "must be the URL of a page, such as https://example.com/terms."),
        ('imprint_url = "https://a:b@example.com/"', "must be the URL of a page, such as https://example.com/terms."),
        ("show_powered_by = 3", ""),
    ],
)
def test_a_wrong_value_is_reported(setting: str, message: str) -> None:
    problems = problems_of(UPSTREAM + MODEL + f"[site]\n{setting}\n")
    where = f"site.{setting.partition(' ')[0]}"
    assert list(problems) == [where]
    assert message in problems[where]


def test_a_logo_is_a_small_readable_file_of_a_known_format() -> None:
    text = UPSTREAM + MODEL + '[site]\nlogo = "{}"\n'
    Path("large.svg").write_bytes(b" " * (LOGO_BYTES_MAX + 1))
    Path("good.svg").write_bytes(b" " * LOGO_BYTES_MAX)
    Path("good.PNG").write_bytes(b" ")
    Path("photo.jpg").write_bytes(b" ")
    assert "can't be read" in machine_problems_of(text.format("none.svg"))["site.logo"].message
    assert "It may have at most 100000" in machine_problems_of(text.format("large.svg"))["site.logo"].message
    assert "ends with .png or .svg" in machine_problems_of(text.format("photo.jpg"))["site.logo"].message
    assert machine_problems_of(text.format("good.svg")) == {}
    assert machine_problems_of(text.format("good.PNG")) == {}


def test_a_logo_is_relative_to_the_settings_file(tmp_path: Path) -> None:
    settings = settings_of(UPSTREAM + MODEL + '[site]\nlogo = "logo.svg"\n')
    assert Path(settings.site.logo).is_absolute()
    assert Path(settings.site.logo).name == "logo.svg"
