"""`./launch.sh test tests/security --long` tries every probe instead of the suite's sample."""

import contextlib

import pytest


def pytest_addoption(parser):
    with contextlib.suppress(ValueError):  # tests/corpus has the same option
        parser.addoption("--long", action="store_true", help="try every probe and write its page")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Try the probes in this process, which shows how far it is, instead of pytest's workers."""
    if not config.getoption("--long") or not any("security" in word for word in config.args):
        return None
    from security.report import main

    return main()
