"""Every state of the page, in every language: no wider than the window at any width, and axe finds
nothing wrong. All of them: ./launch.sh test tests/browser/test_looks.py --long"""

import pytest
from axe_playwright_python.sync_playwright import Axe
from helpers import fake_feed
from helpers.browser_steps import horizontal_overflow, wait_for, wait_for_text
from helpers.page_states import STATES, open_anew, photos_in

from blockskip.studio import strings

WIDTHS = (390, 640, 768, 1280, 1440, 1920)  # 640: 1280 enlarged to 200 % (WCAG 1.4.4)


@pytest.fixture
def pet(tmp_path):
    return fake_feed.make_photos(tmp_path / "pet", side=200)


def assert_it_fits(page):
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        assert horizontal_overflow(page) <= 0, f"at {width} px"
        wide = page.evaluate("""() => [...document.querySelectorAll('.card, .press, dialog, #train, #controls button')]
            .filter(one => one.checkVisibility() && one.getBoundingClientRect().width &&
                one.getBoundingClientRect().right > window.innerWidth + 1)
            .map(one => `${one.id} ${one.className} ${one.innerText.slice(0, 30)}`)""")
        assert not wide, f"cut off at {width} px: {wide}"
        spilt = page.evaluate("""() => [...document.querySelectorAll('.plan-bars span')]
            .filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.innerText)""")
        assert not spilt, f"wider than its column at {width} px: {spilt}"
    page.set_viewport_size({"width": 1280, "height": 900})


def assert_accessible(page):
    """axe in light and dark, on a desk and a phone; what a translation can change on a phone only."""
    looks = (("light", 1280), ("dark", 1280), ("dark", 390))
    for scheme, width in looks[-1:] if strings.tag() != "en" else looks:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        wait_for(
            page, "dark => document.body.classList.contains('dark') === dark", scheme == "dark"
        )
        page.evaluate("Promise.allSettled(document.getAnimations().map(one => one.finished))")
        found = Axe().run(page).response["violations"]
        faults = [
            (fault["id"], node["target"], node["failureSummary"][:300])
            for fault in found
            for node in fault["nodes"]
        ]
        assert not faults, (scheme, width, faults)


def test_the_drawn_photos_have_no_frame_of_the_dialog(open_tab, server, pet):
    page = open_tab(drawn=False)
    photos_in(page, pet)
    page.wait_for_selector(".plan-crops rect.frame")
    outlines = page.locator(".plan-crops rect").evaluate_all(
        "all => all.map(one => getComputedStyle(one).outlineStyle)"
    )
    assert set(outlines) == {"none"}


@pytest.fixture(params=strings.LANGUAGES)
def page(request, open_tab, server):
    """A tab of a browser in each language, which is that of `strings` meanwhile too. In other
    languages than English every fourth state only, with --long all."""
    state = request.node.callspec.params.get("state")
    seldom = request.param != "en" and state in STATES and STATES.index(state) % 4
    if seldom and not request.config.getoption("--long"):
        pytest.skip("--long")
    with strings.language(request.param):
        yield open_tab(locale=request.param, drawn=False)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_every_state_fits_and_is_accessible(page, pet, state):
    state(page, pet)
    assert page.evaluate("document.documentElement.lang") == strings.tag()
    assert_it_fits(page)
    assert_accessible(page)


def test_results_fit_and_are_accessible(page, trained):
    open_anew(page)
    wait_for_text(page, "#results", strings.DONE.format(name="Momo"))
    wait_for(page, "document.querySelector('.compare .after').complete")
    assert_it_fits(page)
    assert_accessible(page)
