"""What people can use is documented, links lead somewhere, and modules say what they are."""

import re
import sqlite3
import tomllib
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import pytest
from sqlite_utils.cli import cli as sqlite_utils

import datasette_clip_search
from datasette_clip_search import Collection, Hit, sql
from datasette_clip_search.common import config, errors
from datasette_clip_search.database.prepare import create_tables
from datasette_clip_search.database.schema import OWN_TABLES
from datasette_clip_search.sql.table_function import TableFunction
from support.paths import ROOT

README = (ROOT / "README.md").read_text("utf-8")
DOCS = ROOT / "docs"
PAGES = {page.name: page.read_text("utf-8") for page in sorted(DOCS.glob("*.md"))}
ALL_DOCS = "\n".join([README, *PAGES.values()])
MODULES = sorted((ROOT / "datasette_clip_search").rglob("*.py"))
COMMANDS = {
    "embed-images": "embed.md",
    "clip-search": "shell.md",
    "clip-index": "index-file.md",
    "clip-publish": "publish.md",
}

OPTIONS = [
    pytest.param(option, page, id=f"{name}-{option.name}")
    for name, page in COMMANDS.items()
    for option in sqlite_utils.commands[name].params
]


def test_every_command_has_a_page():
    ours = {
        name
        for name, command in sqlite_utils.commands.items()
        if command.callback.__module__.startswith("datasette_clip_search")
    }
    assert ours == set(COMMANDS)


@pytest.mark.parametrize(("option", "page"), OPTIONS)
def test_options_have_help(option, page):
    names = [name for name in option.opts if name.startswith("--")]
    assert all(name in PAGES[page] for name in names)
    assert not names or option.help


@pytest.mark.parametrize(("option", "page"), OPTIONS)
def test_environment_variables_are_explained(option, page):
    variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
    assert all(f"`{name}`" in PAGES[page] for name in variables)


def section(page: str, heading: str) -> str:
    """Return what stands below a heading of the second level."""
    [found] = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    return found


@pytest.mark.parametrize("function", sql.FUNCTIONS, ids=lambda function: function.name)
def test_sql_functions_are_documented(function):
    entry = section(PAGES["sql.md"], function.name)
    signature, sentence = entry.strip().split("\n\n")[:2]
    assert signature.startswith(f"`{function.name}(")
    assert signature in PAGES["sql.md"][: PAGES["sql.md"].index("## ")]
    assert sentence.startswith("Returns ")
    assert sentence.endswith(".")
    assert "```sql\n" in entry
    assert "| argument | example | result |" in entry
    if isinstance(function, TableFunction):
        assert all(f"`{column}`" in entry for column in function.columns)
        assert all(name in signature for name in function.parameters)


@pytest.mark.parametrize("name", datasette_clip_search.__all__)
def test_names_for_python_are_documented(name):
    assert f"`{name}" in PAGES["python.md"]


def attributes(of: type) -> list[str]:
    return [name for each in (of, *of.__bases__) for name in vars(each) if not name.startswith("_")]


@pytest.mark.parametrize("name", attributes(Collection))
def test_methods_of_collections_are_documented(name):
    assert re.search(rf"`(photos\.)?{name}[`(]", PAGES["python.md"])


@pytest.mark.parametrize("name", [*(field.name for field in fields(Hit)), *attributes(Hit)])
def test_attributes_of_hits_are_documented(name):
    assert f"| `{name}` |" in section(PAGES["python.md"], "Hits")


def test_every_table_and_column_is_documented(tmp_path):
    with closing(sqlite3.connect(tmp_path / "photos.db")) as connection, connection:
        create_tables(connection, "images")
        tables = {"images", *OWN_TABLES}
        assert tables == set(re.findall(r"^\| \[`(\w+)`\]", PAGES["tables.md"], re.M))
        for table in tables:
            columns = connection.execute("select name, type from pragma_table_info(?)", [table])
            documented = re.findall(
                r"^\| `(\w+)` \| (\w+) \| \S.*\|$", section(PAGES["tables.md"], table), re.M
            )
            assert documented == [(name, type.lower() or "any") for name, type in columns], table


@pytest.mark.parametrize("field", fields(config.Config), ids=lambda field: field.name)
def test_every_default_is_documented(field):
    assert f"`{field.name}`" in section(PAGES["security.md"], "Every default and limit")


def test_every_default_says_what_it_is_for():
    source = Path(config.__file__).read_text("utf-8")
    commented = re.findall(r"    # .+\n(?:    # .+\n)*((?:    \w+: .+\n)+)", source)
    named = {name for lines in commented for name in re.findall(r"(\w+): ", lines)}
    assert {field.name for field in fields(config.Config)} <= named


def test_every_extra_is_documented():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = set(project["optional-dependencies"]) - {"test"}
    assert all(re.search(rf"\[[\w,]*\b{extra}\b[\w,]*\]", ALL_DOCS) for extra in extras)


def test_readme_is_short():
    assert len(README.splitlines()) <= 250


def test_every_page_is_in_the_table_of_contents():
    linked = re.findall(r"\]\(([\w-]+\.md)\)", PAGES["README.md"])
    assert sorted(linked) == sorted(PAGES.keys() - {"README.md"})
    assert len(linked) == len(set(linked))


@pytest.mark.parametrize("name", sorted(PAGES.keys() - {"README.md"}))
def test_pages_begin_with_what_their_reader_wants(name):
    assert "You want " in PAGES[name].split("\n\n")[1]


LINKING = {
    str(page.relative_to(ROOT)): page.read_text("utf-8")
    for page in (
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "demo/README.md",
        ROOT / ".github/SECURITY.md",
        *DOCS.glob("*.md"),
        *(ROOT / "tests/benchmarks/results").glob("*.md"),
    )
}
PROJECT = "https://github.com/datasette-clip-search/datasette-clip-search/blob/main/"
RAW = "https://raw.githubusercontent.com/datasette-clip-search/datasette-clip-search/main/"


def links(text: str) -> list[str]:
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", LINKING)
def test_links_have_targets(name):
    for link in links(LINKING[name]):
        path, _, anchor = link.partition("#")
        if path.startswith((PROJECT, RAW)):
            target = ROOT / path.removeprefix(PROJECT).removeprefix(RAW)
        elif "://" in path:
            continue
        else:
            target = ROOT / name if not path else (ROOT / name).parent / path
        assert target.resolve().is_file(), link
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), link


def test_links_of_the_readme_work_on_the_package_index():
    assert all("://" in link for link in links(README))


def test_the_packages_and_files_that_are_named_exist():
    named = re.findall(
        r"`((?:[\w.-]+/)+(?:[\w-]+\.\w+)?|[\w-]+\.(?:py|toml|md))`", PAGES["develop.md"]
    )
    assert len(named) > 40
    for path in named:
        assert any((folder / path).exists() for folder in (ROOT, ROOT / "datasette_clip_search")), (
            path
        )


def test_make_has_every_target_that_is_named():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = set(re.findall(r"(?:`|^    )make ([a-z]+)", ALL_DOCS, re.M))
    assert {"demo", "test", "quick", "lint", "docs"} <= named
    assert named <= set(re.findall(r"^([a-z]+):", makefile, re.M))


def test_every_package_is_described():
    packages = {
        f"{folder.name}/"
        for folder in (ROOT / "datasette_clip_search").iterdir()
        if (folder / "__init__.py").exists()
    }
    rows = re.findall(r"^\| `(\w+/)` \|", PAGES["develop.md"], re.M)
    assert sorted(rows) == sorted(packages)


def test_figures_of_the_results_are_shown():
    pictures = {path.name for path in (ROOT / "tests/benchmarks/results").glob("*.png")}
    shown = {Path(link).name for text in LINKING.values() for link in links(text)}
    assert pictures <= shown


def test_errors_say_what_they_mean():
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.ClipSearchError):
            assert error.__doc__


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_modules_begin_with_what_they_are(module):
    assert module.read_text("utf-8").startswith('"""')
