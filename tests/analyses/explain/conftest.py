"""What the tests of several parts share."""

import pytest

from tests.analyses.explain.tiny import tiny_almanac


@pytest.fixture(scope="session")
def almanac(tmp_path_factory):
    """The folder of a tiny almanac of random weights."""
    return tiny_almanac(tmp_path_factory.mktemp("almanac"))
