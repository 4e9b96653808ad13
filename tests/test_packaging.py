"""The drafts of assets/packaging are whole: Node loads Pinokio's scripts, and each state has a menu."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from blockskip.core.paths import ASSETS, ROOT

PINOKIO = ASSETS / "packaging" / "pinokio"
METHODS = {"shell.run", "local.set", "fs.rm"}  # of Pinokio's, which we use
NODE = """
const folder = process.argv[1] + '/', scripts = {}
for (const name of ['install', 'start', 'update', 'reset']) scripts[name] = require(folder + name + '.js')
const pinokio = require(folder + 'pinokio.js')
const state = (there, busy, url) => pinokio.menu({}, {
  exists: path => there.includes(path), running: name => busy === name, local: () => ({url}),
})
Promise.all([
  state([], ''), state([], 'install.js'), state(['app/.venv'], ''), state(['app/.venv'], 'start.js'),
  state(['app/.venv'], 'start.js', 'http://127.0.0.1:7860/?key=x'), state(['app/.venv'], 'update.js'),
]).then(menus => console.log(JSON.stringify({scripts, menus, title: pinokio.title})))
"""


@pytest.fixture(scope="module")
def told():
    driver = pytest.importorskip("playwright")
    node = next(Path(driver.__file__).parent.glob("driver/node*"), None)
    if node is None or not node.is_file():
        pytest.skip("no Node here")
    done = subprocess.run(
        [node, "-e", NODE, str(PINOKIO)], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_state_has_one_way_on(told):
    names = [[item["text"] for item in menu] for menu in told["menus"]]
    assert names[:2] == [["Install"], ["Installing"]] and names[2][0] == "Start"
    assert names[3] == ["Terminal"] and names[4] == ["Open the studio", "Terminal"]
    assert names[5] == ["Updating"]
    for menu in told["menus"]:
        assert [item["default"] for item in menu].count(True) == 1
        for item in menu:
            assert item["href"].startswith("http") or (PINOKIO / item["href"]).exists()


def test_steps_are_what_pinokio_and_our_launcher_know(told):
    steps = [step for script in told["scripts"].values() for step in script["run"]]
    assert {step["method"] for step in steps} <= METHODS
    messages = " ".join(step["params"].get("message", "") for step in steps)
    for launcher in ("launch.bat", "launch.sh"):
        assert launcher in messages and (ROOT / launcher).exists()
    (seen,) = told["scripts"]["start"]["run"][0]["params"]["on"]
    pattern = seen["event"].strip("/")
    line = "BlockSkip Studio is open at http://127.0.0.1:7861/?key=a-B_9 (Ctrl-C closes it)"
    assert re.search(pattern, line)[0] == "http://127.0.0.1:7861/?key=a-B_9"


def test_stability_matrix_starts_a_file_that_is_there():
    draft = (ASSETS / "packaging/stability-matrix/BlockSkipStudio.cs").read_text("utf-8")
    assert draft.count("{") == draft.count("}")
    (started,) = re.findall(r'LaunchCommand => "(.+)"', draft)
    assert (ROOT / started).exists()
