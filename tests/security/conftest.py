"""`./launch.sh test tests/security --long` tries every probe instead of the suite's sample."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Try the probes in this process, which shows how far it is, instead of pytest's workers."""
    if not config.getoption("--long") or not any("security" in word for word in config.args):
        return None
    from security.report import main

    return main()
