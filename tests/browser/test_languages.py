"""The page in the language of its browser, of which nothing is left out."""

import re

import pytest
from helpers import fake_feed, page_states, pseudo_language
from helpers.browser_steps import wait_for_text

from blockskip.core.presets import model_row, model_rows
from blockskip.studio import strings

STATES = (
    *(page_states.problems, page_states.photos_in, page_states.dialog, page_states.selecting),
    *(page_states.learning, page_states.failed, page_states.trainings),
)
SHOWN = """() => {
    const shown = new Set(), seen = one => one.checkVisibility() && one.getClientRects().length;
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        let block = texts.currentNode.parentElement;
        if (!seen(block) || ['SCRIPT', 'STYLE', 'TEXTAREA'].includes(block.tagName)) continue;
        while (getComputedStyle(block).display.startsWith('inline')) block = block.parentElement;
        shown.add(block.innerText);
    }
    for (const name of ['aria-label', 'title', 'alt', 'placeholder'])
        for (const one of document.querySelectorAll(`[${name}]`)) if (seen(one)) shown.add(one.getAttribute(name));
    return [...shown];
}"""
NAMES = [
    *("BlockSkip Studio", "Momo", "momo-cat", r"photo \d.\w+", "film", "pet", r"\d min"),
    *(r"huggingface\.co[\w./-]*", r"[\w-]+/[\w.-]+", "a photo of[ \\w]*", "GB", "MB", "px", "min"),
    *("(number input|range slider) for", r"\d+\.\ds"),  # Gradio's own
    *("Two photos look alike.", "Free 2 GB, then press Resume."),  # made up by these tests
]


@pytest.fixture
def pet(tmp_path):
    return fake_feed.make_photos(tmp_path / "pet", side=200)


@pytest.fixture
def pseudo(monkeypatch):
    monkeypatch.setattr(strings, "LANGUAGES", dict(strings.LANGUAGES))
    pseudo_language.add()
    with strings.language(pseudo_language.TAG):
        yield


def untranslated(page):
    """Return what is shown and not a text of the language, a name or a number."""
    models = [re.escape(row.title) for row in model_rows().values()]
    left = []
    for text in {line for shown in page.evaluate(SHOWN) for line in shown.splitlines()}:
        rest, was = text, ""
        while rest != was:
            rest, was = re.sub(r"⟦[^⟦⟧]*⟧", "", rest), rest
        rest = re.sub("|".join((*models, *NAMES)), "", rest)
        left += [text] if re.search("[A-Za-z]{2}", rest) else []
    return left


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_every_sentence_can_be_translated(open_tab, server, pet, pseudo, state):
    page = open_tab(locale=pseudo_language.TAG, drawn=False)
    state(page, pet)
    assert not untranslated(page)


def test_an_answer_to_a_press_comes_in_the_browsers_language(open_tab, server):
    """Also from Gradio's queue, which works outside the request; the browser beside it is English."""
    german, english = open_tab(locale="de-AT"), open_tab(locale="en-GB")
    for page, tag in ((german, "de"), (english, "en")):
        with strings.language(tag):
            assert page.evaluate("document.documentElement.lang") == tag
            page.locator("#prompt textarea")
            page.locator("#train").click()
            wait_for_text(page, ".problem", strings.NO_NAME)
            wait_for_text(page, "#plan", strings.PLAN_RAM_KEPT)
            assert page.locator("#name label").inner_text().strip() == strings.PET_NAME


def test_the_models_own_words_stay_as_they_are(open_tab, server, pet):
    """The kind of animal goes into prompts, which are English."""
    page = open_tab(locale="de", drawn=False)
    page_states.photos_in(page, pet)
    page.locator("#kind input").click()
    with strings.language("de"):
        dog = strings.PET_KINDS_SHOWN[1]
        page.get_by_role("option", name=dog).click()
        wait_for_text(page, "#wording", "a photo of momo dog")
        assert page.locator("#kind input").input_value() == dog
        quotes = page.locator("#wording q").evaluate("one => getComputedStyle(one).quotes")
        assert quotes == '"„" "“"'
    assert model_row("flux-dev").title in page.locator("#models").inner_text()
