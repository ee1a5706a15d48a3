"""Shared by all tests: where things are, and how to run the compiler on a case."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser):
    parser.addoption(
        "--update-cases", action="store_true", help="write what the cases print as expected output"
    )


@pytest.fixture(scope="session")
def update_cases(request):
    return request.config.getoption("--update-cases")
