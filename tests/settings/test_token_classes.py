"""Token classes in the settings: models and packs name only classes that exist, and customers can tell them apart."""

import pytest

from support.settings import MODEL, UPSTREAM, problems_of, settings_of
from tok0n.bootstrap.services import packs_of, token_classes_of
from tok0n.settings import find_problems

PREMIUM = '[token_classes.premium]\ntitle = "Premium tokens"\n'
PACK = '[packs.pro]\nname = "Pro"\ntokens = 5\nprice_usd = "1.00"\n'


def test_without_classes_there_is_one_and_everything_belongs_to_it() -> None:
    settings = settings_of(UPSTREAM + MODEL + PACK)
    classes = token_classes_of(settings)
    assert (classes.ids, classes.are_several()) == (["standard"], False)
    assert settings.models["gpt-5.5"].token_class == packs_of(settings)["pro"].token_class == "standard"


def test_models_and_packs_belong_to_the_class_that_they_name() -> None:
    of_class = 'token_class = "premium"\n'
    settings = settings_of(PREMIUM + UPSTREAM + MODEL + of_class + PACK + of_class)
    assert settings.models["gpt-5.5"].token_class == packs_of(settings)["pro"].token_class == "premium"
    assert token_classes_of(settings).titles() == {"standard": "Standard tokens", "premium": "Premium tokens"}


def test_the_standard_class_may_have_another_title_and_stays_the_first() -> None:
    classes = token_classes_of(settings_of(PREMIUM + '[token_classes.standard]\ntitle = "Small tokens"\n'))
    assert classes.titles() == {"standard": "Small tokens", "premium": "Premium tokens"}
    assert list(classes.titles()) == ["standard", "premium"]


@pytest.mark.parametrize("section", ['models."gpt-5.5"', "packs.pro"])
@pytest.mark.parametrize(
    ("declared", "named", "hint"),
    [
        ("", "premium", "add [token_classes.premium]"),
        (PREMIUM, "premiun", "Did you mean premium?"),
        (PREMIUM, "Standard", "Did you mean standard?"),
        (PREMIUM, "x.y z", 'add [token_classes."x.y z"]'),
    ],
)
def test_an_unknown_class_is_an_error_that_says_how_to_declare_it(
    section: str, declared: str, named: str, hint: str
) -> None:
    table = MODEL if section.startswith("models") else PACK
    problems = problems_of(declared + UPSTREAM + f'{table}token_class = "{named}"\n')
    assert list(problems) == [f"{section}.token_class"]
    assert hint in problems[f"{section}.token_class"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[token_classes.premium]\n", "token_classes.premium.title"),
        ('[token_classes.premium]\ntitle = ""\n', "token_classes.premium.title"),
        ('[token_classes.premium]\ntitle = " Premium"\n', "token_classes.premium.title"),
        ('[token_classes.premium]\ntitle = "a\\nb"\n', "token_classes.premium.title"),
        (f'[token_classes.premium]\ntitle = "{"x" * 101}"\n', "token_classes.premium.title"),
        ("[token_classes.premium]\ntitle = 5\n", "token_classes.premium.title"),
        ('[token_classes.premium]\ntitle = "Standard tokens"\n', "token_classes.premium.title"),
        (PREMIUM + '[token_classes.pro]\ntitle = "Premium tokens"\n', "token_classes.pro.title"),
        ('[token_classes."a b"]\ntitle = "A"\n', 'token_classes."a b"'),
        ('[token_classes."/a"]\ntitle = "A"\n', 'token_classes."/a"'),
        ("token_classes = 5\n", "token_classes"),
        ('[token_classes]\npremium = "Premium"\n', "token_classes.premium"),
    ],
)
def test_an_invalid_class_is_one_error_at_its_setting(text: str, where: str) -> None:
    assert list(problems_of(text)) == [where]


def test_the_standard_class_may_get_a_title_that_frees_its_default_for_another() -> None:
    text = '[token_classes.standard]\ntitle = "Small tokens"\n[token_classes.big]\ntitle = "Standard tokens"\n'
    assert token_classes_of(settings_of(text)).title("big") == "Standard tokens"


def test_a_class_can_come_from_the_environment() -> None:
    environ = {"TOK0N_TOKEN_CLASSES__PREMIUM__TITLE": "Premium", "TOK0N_MODELS__GPT_5_5__TOKEN_CLASS": "premium"}
    settings = settings_of(UPSTREAM + MODEL, environ=environ)
    assert token_classes_of(settings).title(settings.models["gpt-5.5"].token_class) == "Premium"
    assert [
        problem
        for problem in find_problems(None, environ=environ, dotenv={}, overrides={})
        if problem.severity == "error"
    ] == []
