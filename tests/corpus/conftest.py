"""`./launch.sh test tests/corpus --long` runs the whole corpus instead of the suite's sample, and
`--power-cuts` instead cuts the power everywhere."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--power-cuts", action="store_true", help="cut the power, and write the page")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run the corpus in this process, which shows how far it is, instead of pytest's workers."""
    if config.getoption("--power-cuts"):
        from corpus.power_run import main
    elif config.getoption("--long"):
        from corpus.long_run import main
    else:
        return None
    return main()
