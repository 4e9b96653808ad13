"""Presses inside drawn parts: what each does, and that nothing they carry does any harm."""

import contextlib
import json
import math
import re
from types import SimpleNamespace

import gradio as gr
import pytest
from helpers import fake_feed

from blockskip.core import file_manager, files
from blockskip.core.errors import BadInput
from blockskip.core.paths import ASSETS
from blockskip.runs import image_requests
from blockskip.runs.run import list_runs
from blockskip.studio import actions, click_handlers, draft, page, run_preferences, strings

HOSTILE = (
    None,
    "",
    "x" * 100_000,
    "../../../../run.toml",
    "/etc/passwd",
    "C:\\Windows\\win.ini",
    "~",
    "\0",
    "a\nb\u202e",
    "<img src=x onerror=alert(1)>",
    "nan",
    "inf",
    "-1",
    "1e309",
    0,
    -1,
    10**400,
    math.nan,
    math.inf,
    True,
    [],
    [math.nan] * 4,
    [0, 0, 1],
    ["a", "b", "c", "d"],
    [0, 0, 10**400, 1],
    {},
    {"do": "delete"},
    {"__proto__": 1},
)
CARRIED = (
    "run",
    "file",
    "model",
    "value",
    "folder",
    "budget",
    "step",
    "id",
    "box",
    "caption",
    "files",
)


@pytest.fixture
def house(pet, finished, tmp_path, monkeypatch):
    """A studio with photos and a training, and files around it that are nobody's business. Answers
    with the bytes of all those files."""
    draft.add(pet)
    outside = tmp_path / "outside"
    fake_feed.make_photos(outside)
    (outside / "run.toml").write_text("mine", encoding="utf-8")
    monkeypatch.chdir(outside)
    monkeypatch.setenv("HOME", str(outside))

    def bytes_outside():
        return {
            path: path.read_bytes()
            for folder in (outside, tmp_path / "pet")
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return bytes_outside


@pytest.mark.parametrize("what", sorted({*click_handlers.CLICK_HANDLERS, "train", "__init__", ""}))
def test_hostile_presses_do_no_harm(house, finished, event, told, what):
    """Wrong types, paths, NaN, huge texts: the page goes on, and nothing outside is touched."""
    before, press = house(), actions.user_errors(page.on_click)
    slow = what == "use_comfyui"  # it asks a process each time
    for value in HOSTILE[2:8:2] if slow else HOSTILE:
        for shown in (finished.name,) if slow else (finished.name, "../x", ""):
            said = dict.fromkeys(CARRIED, value)
            try:
                answer = press(shown, "", event(do=what, **said))
                assert len(answer) == 2 + len(page.FORM_FIELDS)
            except gr.Error as error:
                assert str(error), "a message in words"
        told("")
    assert house() == before
    assert finished.folder.exists(), "no name that is not its own deletes it"
    json.dumps(files.read_json(draft.photos_dir().parent / "draft.json"), allow_nan=False)


def test_the_file_manager_is_sent_to_trainings_only(house, finished, event, monkeypatch):
    """And what it is sent is a whole path, which no program takes for an option."""
    shown, press = [], actions.user_errors(page.on_click)
    monkeypatch.setattr(file_manager, "show", shown.append)
    for name in (finished.name, *map(str, HOSTILE), "..", "../..", "-e", "--help", "/etc", "."):
        with contextlib.suppress(gr.Error):
            press(finished.name, "", event(do="show_folder", run=name))
    assert len(shown) == 1 and shown[0].is_absolute()
    assert shown[0].is_relative_to(finished.folder)


@pytest.mark.parametrize("said", [{}, {"do": None}, {"do": ["model"]}, {"do": {}}, {"do": 3}])
def test_what_no_button_says_is_not_done(told, event, said):
    assert page.on_click("", "", event(**said))[0] == {"__type__": "update"}


def test_a_press_that_fails_is_a_message(event, finished):
    with pytest.raises(gr.Error, match="not kept"):
        actions.user_errors(page.on_click)(finished.name, "", event(do="keep", step="7"))


def test_doors_lead_where_they_say(pet, event):
    """Clicks that only lead elsewhere are the page's own: a late answer would lead back."""
    run, same = fake_feed.make_run(pet), {"__type__": "update"}
    for do in ("open", "list", "new", "here"):
        assert page.on_click("", "", event(do=do, run=run.name))[0] == same
    draft.save_answers(name="Luna")
    _, *answers = page.on_click(run.name, "", event(do="new"))
    assert answers[page.FORM_FIELDS.index("name")] == "Luna"
    shown, *answers = page.on_click("*", "", event(do="again", run=run.name))
    assert shown == "" and answers[page.FORM_FIELDS.index("name")] == "Momo"


def test_only_answers_that_changed_elsewhere_are_filled_in(event):
    """The user may have typed another name since the request was sent."""
    draft.save_answers(name="Luna", budget=8)
    *_, sent = page.on_click("", "", event(do="here"))
    draft.save_answers(budget=12)
    _, *answers, now = page.on_click("", sent, event(do="here"))
    filled = dict(zip(page.FORM_FIELDS, answers, strict=True))
    assert filled.pop("budget") == 12 and json.loads(now)["name"] == "Luna"
    assert all(value == {"__type__": "update"} for value in filled.values())


def test_caption_and_frame_of_one_photo(pet, event):
    draft.add(pet)
    file = draft.load().photos[2].file
    page.on_click(
        "", "", event(do="photo", file=file, caption="  on\nthe  sofa ", box=[0.1, 0.2, 0.9, 1.5])
    )
    changed = draft.load().photos[2]
    assert changed.caption == "on the sofa" and changed.box == (0.1, 0.2, 0.9, 1.0)
    page.on_click("", "", event(do="photo", file=file, box=[0.1, 0.2, 0.9, 0.9]))
    assert draft.load().photos[2].caption == "on the sofa", "what is not said stays"
    for empty in (None, [0.5, 0.5, 0.5, 0.9], [0.9, 0.1, 0.1, 0.9]):
        page.on_click("", "", event(do="photo", file=file, caption="", box=empty))
        assert draft.load().photos[2].box is None
    for wrong in ([math.nan, 0.1, 0.9, 0.9], [0.1, 0.1, 0.9], "0.1,0.1,0.9,0.9", {}, 5):
        with pytest.raises(BadInput, match="box"):
            page.on_click("", "", event(do="photo", file=file, caption="x", box=wrong))
    others = [p for p in draft.load().photos if p.file != file]
    assert all(not p.caption and p.box is None for p in others)


def test_a_budget_of_the_plan_is_taken(event):
    _, *answers = page.on_click("", "", event(do="budget", budget="12"))
    assert answers[page.FORM_FIELDS.index("budget")] == 12 == draft.load().answers["budget"]


def test_rename_and_delete_from_the_list(finished, event, told):
    page.on_click("*", "", event(do="rename", run=finished.name, value="Luna"))
    assert run_preferences.pet_name(finished) == "Luna" and "Luna" in told("*")[0]["list"]["value"]
    page.on_click("*", "", event(do="delete", run=finished.name))
    assert strings.LIST_EMPTY in told("*")[0]["list"]["value"] and not list_runs()


def test_own_pictures_are_deleted_and_stopped(finished, event, told, monkeypatch):
    monkeypatch.setattr(image_requests, "ensure_worker", lambda run: None)
    ids = [image_requests.submit(finished, f"momo {n}", step=300) for n in range(3)]
    assert 'data-do="paint_stop"' in told(finished.name)[0]["pictures"]["value"]
    page.on_click(finished.name, "", event(do="paint_delete", id=ids[0]))
    assert {p.id for p in image_requests.all_requests(finished)} == set(ids[1:])
    page.on_click(finished.name, "", event(do="paint_stop"))
    assert not image_requests.all_requests(finished)
    assert strings.OWN_EMPTY in told(finished.name)[0]["pictures"]["value"]


def test_every_button_drawn_is_known(finished, pet, told):
    """What the drawn parts can send is what click_handlers.py can do."""
    draft.add(pet)
    drawn = []
    for model in ("demo", "flux-dev"):
        draft.save_answers(model=model)
        drawn += [
            part.get("value")
            for shown in ("", "*", finished.name)
            for part in told(shown)[0].values()
        ]
    sent = {do for value in drawn for do in re.findall(r'data-do="([^"]*)"', str(value))}
    assert (
        sent <= set(click_handlers.CLICK_HANDLERS)
        and {"open", "delete", "show_folder", "remove", "new"} <= sent
    )


def test_every_part_that_sends_clicks_is_listened_to():
    """A part whose clicks nobody handles looks alive and does nothing."""
    script = (ASSETS / "studio.js").read_text(encoding="utf-8")
    functions = re.split(r"\n  const (\w+) = ", script)
    sending = {
        name
        for name, body in zip(functions[1::2], functions[2::2], strict=True)
        if re.search(r"presses\(|trigger\('click'|^\(\{element, trigger\}\)", body)
    }
    with page.build() as blocks:
        listened = {
            target
            for dependency in blocks.fns.values()
            for target, event in dependency.targets
            if event == "click"
        }
    parts = [
        block
        for block in blocks.blocks.values()
        if getattr(block, "js_on_load", None)
        and any(f"blockskip.{name}(" in block.js_on_load for name in sending)
    ]
    assert len(parts) >= 10
    assert not [part.elem_id for part in parts if part._id not in listened]


def test_a_late_look_does_not_undo_what_the_tab_typed_since(event):
    """The first letter was saved when the look arrived; the others were typed after it was asked."""
    tab, other = (SimpleNamespace(session_hash=name) for name in ("tab", "other"))
    name = page.FORM_FIELDS.index("name")
    *answers, sent = page.form_values()
    page.save_answers(tab, *answers[:name], "L", *answers[name + 1 :], sent)
    looked = page.on_click("", sent, event(do="here"), tab)[1:]
    assert looked[name] == gr.skip(), "the field holds this or more"
    page.save_answers(tab, *answers[:name], "Luna", *answers[name + 1 :], sent)
    assert page.on_click("", sent, event(do="here"), other)[1:][name] == "Luna"
    page.save_answers(other, *answers[:name], "Momo", *answers[name + 1 :], sent)
    assert page.on_click("", sent, event(do="here"), tab)[1:][name] == "Momo"
    page.save_answers(other, *answers[:name], "Luna", *answers[name + 1 :], sent)
    assert page.on_click("", sent, event(do="here"), tab)[1:][name] == "Luna", "it was replaced"
