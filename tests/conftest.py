"""Options of all tests."""

from __future__ import annotations

import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--update-cases", action="store_true", help="write what the cases print as expected output"
    )


@pytest.fixture(scope="session")
def update_cases(request):
    return request.config.getoption("--update-cases")
