"""`./launch.sh test tests/launchers --page` tries all scenarios and seeded faults and writes their
page."""

import shutil

import pytest
from helpers.launching import COMPILER, wine


def pytest_addoption(parser):
    parser.addoption("--page", action="store_true", help="write the page of evidence")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    if not config.getoption("--page"):
        return None
    from launchers.page import main

    return main()


@pytest.fixture(scope="session")
def windows(tmp_path_factory):
    """A fresh wine and the pretended programs for it."""
    if not (shutil.which("wine") and shutil.which(COMPILER)):
        pytest.skip(f"launch.bat NOT RUN: it needs wine and {COMPILER} here")
    with wine(tmp_path_factory.mktemp("windows")) as ready:
        yield ready
