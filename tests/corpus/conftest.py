"""`./launch.sh test tests/corpus --long` runs the whole corpus instead of the suite's sample."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run the whole corpus and write its page")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run the corpus in this process, which shows how far it is, instead of pytest's workers."""
    if not config.getoption("--long"):
        return None
    from corpus.long_run import main

    return main()
