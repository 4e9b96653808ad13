"""Where the page's links lead."""

import re
from urllib.parse import unquote

from helpers import fake_feed

from blockskip.runs.run import Run
from blockskip.studio import page, places, screen, strings


def steps(told, shown):
    """Return {step: address} of the steps that are links, as a tab with that view shows them."""
    drawn = told(shown)[0]["nav"]["value"]
    return {
        re.sub(r"<[^>]*>|\d", "", words): address
        for address, words in re.findall(r'<li[^>]*><a href="([^"]*)"[^>]*>(.*?)</a>', drawn)
    }


def test_the_steps_lead_to_where_one_may_go(pet, finished, told):
    photos, budget, train, results = strings.STEPS_NAV.values()
    setup = {photos: places.SETUP, budget: places.BUDGET}
    assert steps(told, "") == steps(told, "*") == setup
    own = places.training(finished.name)
    assert steps(told, finished.name) == setup | {train: own, results: own + "/results"}
    run = fake_feed.make_run(pet)
    fake_feed.feed(run, 60)
    assert steps(told, run.name) == setup | {train: places.training(run.name)}
    fake_feed.seem_alive(run)
    assert steps(told, "")[train] == steps(told, "*")[train] == places.training(run.name)


def test_an_address_names_any_run_and_closes_nothing(pet, told):
    """Folders that users renamed: slashes of an address, marks, quotes."""
    for name in ("a#b?c&d", '"><img src=x>', "100% ü", "*", "\u202e"):
        run = fake_feed.make_run(pet)
        run = Run(run.folder.rename(run.folder.with_name(name.replace("/", ""))))
        address = places.training(run.name, "results")
        assert address.count("/") == 3 and not set(address) & set("\"'<>&? ")
        assert unquote(address.split("/")[2]) == run.name
        assert f'href="{places.training(run.name)}"' in told("*")[0]["list"]["value"]


def test_a_tab_with_an_address_is_answered_that(pet, finished):
    for view in ("", "*", finished.name, "gone"):
        shown, *_ = page.open_page(view, "", "1")
        assert shown == view
    fake_feed.seem_alive(fake_feed.make_run(pet, name="busy"))
    assert page.open_page(places.NO_VIEW, "", "1")[0] == screen.initial_view() == "busy"
    assert page.open_page("", "", "1")[0] == "", "a tab in setup stays there"
