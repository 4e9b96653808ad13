import functools
import gc
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# several processes share the cores; threads of one would wait for those of another
os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent))

import pytest  # noqa: E402
import typer.main  # noqa: E402

from blockskip.core import file_manager  # noqa: E402
from blockskip.studio import folder_dialog  # noqa: E402

# typer makes all commands anew at each call, which takes longer than most of what is called here
typer.main.get_command = functools.cache(typer.main.get_command)


def pytest_addoption(parser):
    parser.addoption(
        "--long", action="store_true", help="of a folder or file: the whole of it, not the sample"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Three processes run the tests (launch.sh), since that with the browser mostly waits: a file's
    stay together, and one browser at a time is enough for two cores."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            return "browser" if "browser/" in file else file

    return ByFile(config, log)


def pytest_collection_modifyitems(config, items):
    """The file that takes longest is begun early, or one process would wait for the other's end."""
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="with --long only"))
    items.sort(
        key=lambda item: "browser/" not in item.nodeid and "test_whole_run" not in item.nodeid
    )


@pytest.fixture(autouse=True, scope="module")
def _what_is_there_stays():
    """Libraries and earlier tests left millions of objects, which each collection of the program
    would search (it makes one after every stage of a run)."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_windows(monkeypatch):
    """No test opens a window on the screen of who runs it."""
    monkeypatch.setattr(file_manager, "show", lambda path: False)
    monkeypatch.setattr(folder_dialog, "is_possible", lambda: False)


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path, monkeypatch):
    """No test touches the user's runs; the path has a blank and an umlaut on purpose."""
    monkeypatch.setenv("BLOCKSKIP_DATA", str(tmp_path / "Dätä folder"))
