"""`./launch.sh test tests/endurance --long` makes the whole soak instead of its short version."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Soak in this process instead of running tests."""
    if not config.getoption("--long"):
        return None
    from endurance.long_run import main

    return main()
