"""Options of all tests."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

import pytest
from hypothesis import settings

CACHE = tempfile.mkdtemp(prefix="silogen-tests-")
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)
os.environ["HF_DATASETS_CACHE"] = CACHE  # read while datasets is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch; models this small are faster on one core

# In CI the same examples every time; elsewhere new ones, which may find what these do not. No example has a
# deadline, which a busy machine would miss.
settings.register_profile("elsewhere", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "elsewhere")


def pytest_addoption(parser):
    parser.addoption(
        "--update-cases", action="store_true", help="write what the cases print as expected output"
    )
    parser.addoption("--wide", action="store_true", help="train every cell of the matrix, not a few")


def pytest_configure():
    """Hear Ctrl-C as in a terminal: a shell starts what runs in the background deaf to it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path, config):
    """Leave out the tests of several processes unless they are asked for: they have minutes to themselves."""
    asked_for = any("distributed" in argument for argument in config.args)
    return True if collection_path.name == "distributed" and not asked_for else None


@pytest.fixture(scope="session")
def update_cases(request):
    return request.config.getoption("--update-cases")
