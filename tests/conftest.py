"""Options of all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# In CI the same examples every time; elsewhere new ones, which may find what these do not.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_addoption(parser):
    parser.addoption(
        "--update-cases", action="store_true", help="write what the cases print as expected output"
    )
    parser.addoption("--wide", action="store_true", help="train every cell of the matrix, not a few")


def pytest_ignore_collect(collection_path, config):
    """Leave out the tests of several processes unless they are asked for: they have minutes to themselves."""
    asked_for = any("distributed" in argument for argument in config.args)
    return True if collection_path.name == "distributed" and not asked_for else None


@pytest.fixture(scope="session")
def update_cases(request):
    return request.config.getoption("--update-cases")
