"""Five pets in line: the studio is killed twice, one training is broken, and none is lost."""

import pytest
from helpers import fake_feed, quick_worker
from helpers.browser_steps import wait_for_text, wait_for_tiles
from helpers.studio_server import serve
from helpers.waiting import until

from blockskip.core import files, processes
from blockskip.runs import run as run_module
from blockskip.runs import run_queue
from blockskip.runs.run import find_run, list_runs
from blockskip.studio import strings

OTHERS = ("luna", "rex", "kit")
WAITS = "#list .line li"


@pytest.fixture
def data(tmp_path, monkeypatch, browser):
    folder = tmp_path / "Dätä"
    monkeypatch.setenv("BLOCKSKIP_DATA", str(folder))
    monkeypatch.setattr(run_module, "WORKER", quick_worker.NAME)
    yield folder
    for run in list_runs():
        processes.kill(run.worker())


def studio(data):
    return serve(data, variables={"STUB_WORKER": quick_worker.NAME})


def train_the_demo_pet(page, words):
    page.locator("#demo").click()
    wait_for_tiles(page, 5)
    page.locator("#train").click()
    wait_for_text(page, "#status", words)


def pets_in_line(page):
    page.locator("#nav [data-do=list]").click()
    page.wait_for_selector("#list ul")
    return page.locator(f"{WAITS} h3").all_inner_texts()


def put_in_line(photos, name):
    run = fake_feed.make_run(photos, 4, name=name, pet=name.title())
    seed = quick_worker.BROKEN_SEED if name == "rex" else 0
    text = (run.folder / "run.toml").read_text(encoding="utf-8")
    text = text.replace("seed = 0", f"seed = {seed}").replace('"momo"', f'"{name}"')
    files.write_text(run.folder / "run.toml", text)
    run_queue.add(run)


def trained(data):
    return (data / "order").read_text(encoding="utf-8").split()


def test_five_in_line(open_tab, data, tmp_path):
    with studio(data) as server:
        page = open_tab(server)
        train_the_demo_pet(page, strings.STATES["running"])
        page.locator("#nav [data-do=new]").click()
        train_the_demo_pet(page, strings.STATES["waiting"])
        for name in OTHERS:
            put_in_line(fake_feed.make_photos(tmp_path / name, 1), name)
        assert pets_in_line(page) == ["Momo", "Luna", "Rex", "Kit"]
        page.locator(f"{WAITS}:nth-child(4) [data-do=queue_move]").click()
        wait_for_text(page, f"{WAITS}:nth-child(3)", "Kit")
        page.context.close()
        server.process.kill()
    (data / "end-0").touch()
    until(lambda: len(trained(data)) == 2)
    processes.kill(next(filter(None, (run.worker() for run in list_runs()))))  # a power cut
    with studio(data) as server:  # begins it again, and is killed at once
        until(lambda: len(trained(data)) == 3)
        server.process.kill()
    for n in range(1, 6):
        (data / f"end-{n}").touch()
    with studio(data) as server:
        page = open_tab(server)
        until(lambda: not run_queue.read().names)
        assert pets_in_line(page) == []
        wait_for_text(page, "#list", strings.STATES["failed"])
    states = [run.state() for run in list_runs()]
    assert sorted(states) == ["done"] * 4 + ["failed"] and find_run("rex").state() == "failed"
    assert trained(data) == ["momo", "momo", "momo", "luna", "kit", "rex"]
