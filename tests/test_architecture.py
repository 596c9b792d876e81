"""docs/architecture.md agrees with the code: its paths, tests, names, layers and transitions exist. Files are short."""

import ast
import itertools
import re
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tok0n.domain.ledger_rules import TRANSITIONS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "tok0n"
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
DRAWING = ROOT / "docs" / "architecture.svg"
DRAWING_BYTES_MAX = 8 * 1024
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

QUOTED = sorted(set(re.findall(r"`([^`\n]+)`", PAGE)))
TESTS = [quoted for quoted in QUOTED if "::" in quoted]
PATHS = [quoted for quoted in QUOTED if re.fullmatch(r"\w[\w./-]*(/|\.(py|md|toml|html|sql|lua))", quoted)]
NAMES = [quoted for quoted in QUOTED if re.fullmatch(r"\w+", quoted)]
LISTS = re.findall(r"((?:`\w+`(?:, |,? and |,? or )?)+)\s(?:in|of)\s`([\w./]+\.\w+)`", " ".join(PAGE.split()))
PLACED = [(name, path) for names, path in LISTS for name in re.findall(r"\w+(?=`)", names)]
"""The names that stand beside their file: `A`, `B` and `C` in `path.py`."""


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/architecture.md has no section {title!r}"
    return found[1]


def rows(title: str) -> list[list[str]]:
    """The cells of the section's table, without its header."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("path", PATHS)
def test_every_path_on_the_page_exists(path: str) -> None:
    bases = (ROOT, PACKAGE)
    exists = any((base / path).is_dir() if path.endswith("/") else (base / path).is_file() for base in bases)
    assert exists, f"docs/architecture.md names {path}, which is neither in the repository's root nor in src/tok0n/"


@pytest.mark.parametrize("test", TESTS)
def test_every_test_on_the_page_exists(test: str) -> None:
    path, _, name = test.partition("::")
    assert (ROOT / path).is_file(), f"docs/architecture.md names {path}, which does not exist"
    assert f"def {name}(" in (ROOT / path).read_text("utf-8"), f"docs/architecture.md names {name}, not in {path}"


@pytest.mark.parametrize("name", NAMES)
def test_every_name_on_the_page_is_in_the_code(name: str) -> None:
    files = [*PACKAGE.rglob("*.py"), ROOT / "pyproject.toml", *(ROOT / "tests" / "support").glob("*.py")]
    word = re.compile(rf"\b{name}\b")
    is_found = any(word.search(file.read_text("utf-8")) for file in files)
    assert is_found, f"docs/architecture.md names {name}, which is not in the code"


@pytest.mark.parametrize(("name", "path"), PLACED)
def test_a_name_beside_a_file_is_in_that_file(name: str, path: str) -> None:
    texts = [(base / path).read_text("utf-8") for base in (ROOT, PACKAGE) if (base / path).is_file()]
    assert any(re.search(rf"\b{name}\b", text) for text in texts), f"{path} has no {name}"


def test_paths_tests_and_names_are_found_on_the_page() -> None:
    assert (len(PATHS) > 30, len(TESTS) > 8, len(NAMES) > 15, len(PLACED) > 25) == (True, True, True, True)


def test_the_layers_on_the_page_are_those_of_import_linter() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (contract,) = (contract for contract in settings["contracts"] if contract["type"] == "layers")
    enforced = [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]
    levels = itertools.groupby(rows("Layers"), key=lambda row: row[0])
    documented = [[row[1].strip("`") for row in layers] for _, layers in levels]
    assert documented == enforced, "the table of layers in docs/architecture.md differs from pyproject.toml"


def test_the_transitions_on_the_page_are_those_of_the_domain() -> None:
    documented = {(row[0], row[1]): row[2] for row in rows("The life of a reservation")}
    transitions = {(f"`{status}`", f"`{event}`"): f"`{after}`" for (status, event), after in TRANSITIONS.items()}
    assert documented == transitions, "docs/architecture.md differs from domain/ledger_rules.py"


def test_the_picture_is_small_accessible_and_has_no_script() -> None:
    assert DRAWING.stat().st_size <= DRAWING_BYTES_MAX
    picture = ET.parse(DRAWING).getroot()
    tags = [element.tag.rpartition("}")[2] for element in picture.iter()]
    assert tags[1:3] == ["title", "desc"]
    assert not {"script", "image", "foreignObject"} & set(tags)


def test_every_file_in_the_picture_is_in_its_band() -> None:
    """Each band of the picture is a package: http, api, services, adapters."""
    texts = re.findall(r'<text class="(name|file)" x="(\d+)" y="(\d+)">([^<]+)<', DRAWING.read_text("utf-8"))
    bands = {text: (int(y) - 45, int(y) + 75) for kind, x, y, text in texts if kind == "name" and x == "30"}
    assert bands, "the picture has no bands"
    for kind, _, y, text in texts:
        for stem in re.findall(r"[\w/]+", text.replace(".py", "")) if kind == "file" else ():
            near = [band for band, (top, bottom) in bands.items() if top <= int(y) <= bottom]
            exists = any(list((PACKAGE / band).rglob(f"{stem}.py")) for band in near)
            assert exists, f"docs/architecture.svg names {stem} beside {near}, where no such file exists"


def python_files(folder: str) -> list[Path]:
    """The project's Python files, without those of virtual environments that tests create."""
    return [path for path in (ROOT / folder).rglob("*.py") if not {".venv", "node_modules"} & set(path.parts)]


@pytest.mark.parametrize("folder", ["src", "tests"])
def test_no_file_is_long(folder: str) -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in python_files(folder)}
    assert lengths
    long = {path: lines for path, lines in lengths.items() if lines > FILE_LINES_MAX}
    assert not long, f"split these files of more than {FILE_LINES_MAX} lines"


def test_no_function_is_long() -> None:
    functions = [
        (path.name, node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for path in python_files("src")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert functions
    long = [function for function in functions if function[2] > FUNCTION_LINES_MAX]
    assert not long, f"split these functions of more than {FUNCTION_LINES_MAX} lines"
