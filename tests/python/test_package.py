"""What `import datasette_clip_search` offers, and that it imports nothing heavy to offer it."""

import subprocess
import sys

import pytest

import datasette_clip_search

HEAVY = ("numpy", "torch", "open_clip", "faiss", "onnxruntime", "PIL", "sqlite_utils", "click")


def loaded_after(code: str) -> set[str]:
    show = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_importing_the_package_imports_nothing_heavy():
    loaded = loaded_after("import datasette_clip_search; dir(datasette_clip_search)")
    assert "datasette_clip_search" in loaded
    assert not loaded.intersection(HEAVY)


def test_searching_imports_no_torch():
    loaded = loaded_after("from datasette_clip_search import Collection, Hit, Hits")
    assert not loaded.intersection({"torch", "open_clip"})


@pytest.mark.parametrize("name", datasette_clip_search.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(datasette_clip_search, name)
    assert value.__name__ == name
    assert value.__doc__
    assert name in dir(datasette_clip_search)


def test_other_names_are_no_attributes():
    with pytest.raises(AttributeError, match="'datasette_clip_search' has no attribute 'nothing'"):
        datasette_clip_search.nothing  # noqa: B018


def test_embed_is_the_function_whatever_was_imported_before():
    """A subpackage of the same name would take its place."""
    code = (
        "import datasette_clip_search.cli, datasette_clip_search.embedding.run\n"
        "import datasette_clip_search.embedding.api\n"
        "from datasette_clip_search import embed\n"
        "assert embed.__name__ == 'embed' and callable(embed)"
    )
    loaded_after(code)
