"""Fixtures that tests of embedding share."""

import pytest

from support.undisturbed import Undisturbed, make_undisturbed


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Pictures and what a run makes of them. Only to be read."""
    pytest.importorskip("open_clip")
    return make_undisturbed(tmp_path_factory.mktemp("undisturbed"))
