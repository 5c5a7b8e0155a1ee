"""What people can use is documented, and the modules stay within their bounds."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from sqlite_utils.cli import cli as sqlite_utils

from datasette_clip_search import sql
from datasette_clip_search.common import config, errors
from datasette_clip_search.sql.table_function import TableFunction
from support.paths import ROOT

README = (ROOT / "README.md").read_text("utf-8")
MODULES = sorted((ROOT / "datasette_clip_search").rglob("*.py"))


OPTIONS = [
    pytest.param(option, id=f"{name}-{option.name}")
    for name in ("embed-images", "clip-search", "clip-index", "clip-publish")
    for option in sqlite_utils.commands[name].params
]


@pytest.mark.parametrize("option", OPTIONS)
def test_options_have_help(option):
    names = [name for name in option.opts if name.startswith("--")]
    assert all(name in README for name in names)
    assert not names or option.help


@pytest.mark.parametrize("function", sql.FUNCTIONS, ids=lambda function: function.name)
def test_sql_functions_are_documented(function):
    assert f"`{function.name}(" in README
    if isinstance(function, TableFunction):
        assert all(f"`{column}`" in README for column in function.columns)


def test_every_default_says_what_it_is_for():
    source = Path(config.__file__).read_text("utf-8")
    commented = re.findall(r"    # .+\n(?:    # .+\n)*((?:    \w+: .+\n)+)", source)
    named = {name for lines in commented for name in re.findall(r"(\w+): ", lines)}
    assert {field.name for field in fields(config.Config)} <= named


def test_errors_say_what_they_mean():
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.ClipSearchError):
            assert error.__doc__


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_modules_begin_with_what_they_are(module):
    assert module.read_text("utf-8").startswith('"""')
