import re

import pytest

from blockskip.cli import app


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Runs a command in this process. Returns its exit code, stdout and stderr on one line."""

    def run(*words):
        monkeypatch.setattr("sys.argv", ["blockskip", *map(str, words)])
        code = app.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out.strip(), " ".join(re.sub("[│╭╮╰╯─]", " ", said.err).split())

    return run
