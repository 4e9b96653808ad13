"""`./launch.sh test tests/corpus --long` runs the whole corpus instead of the suite's sample."""

import contextlib

import pytest


def pytest_addoption(parser):
    with contextlib.suppress(ValueError):  # tests/security has the same option
        parser.addoption("--long", action="store_true", help="run all of it and write its page")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run the corpus in this process, which shows how far it is, instead of pytest's workers."""
    if not config.getoption("--long"):
        return None
    from corpus.long_run import main

    return main()
