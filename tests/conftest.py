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


@pytest.fixture(scope="session")
def update_cases(request):
    return request.config.getoption("--update-cases")
