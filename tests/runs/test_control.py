"""Orders to a worker: obeyed once, none lost, nothing that cannot be sampled."""

import pytest

from blockskip.core.errors import UserError
from blockskip.runs import control


def test_an_order_is_taken_once_and_only_by_who_understands_it(tmp_path):
    path = tmp_path / "control.json"
    assert control.take(path, control.COMMANDS) == {}
    control.send(path, "pause")
    assert control.take(path, ["preview"]) == {}
    assert control.take(path, ["pause", "stop"])["command"] == "pause"
    assert control.take(path, ["pause", "stop"]) == {}


def test_prompts_that_wait_are_not_lost(tmp_path):
    path = tmp_path / "control.json"
    control.send(path, "preview", ["a cat"])
    control.send(path, "preview", ["  a dög  "])
    assert control.take(path, ["preview"])["prompts"] == ["a cat", "a dög"]


def test_an_end_is_not_put_off_by_a_preview(tmp_path):
    path = tmp_path / "control.json"
    control.send(path, "stop")
    with pytest.raises(UserError, match="about to end"):
        control.send(path, "preview", ["a cat"])
    assert control.take(path, ["stop"])["command"] == "stop"


@pytest.mark.parametrize(
    "content",
    [b"[]", b"5", b"", b"\xff\xfe", b"[" * 100_000, b'{"command": "explode"}', b'{"command": []}']
    + [b'{"command": "preview", "prompts": [5]}', b'{"command": "preview", "prompts": ["a\\nb"]}'],
)
def test_what_is_no_order_is_removed_and_said_once(tmp_path, content):
    path = tmp_path / "control.json"
    path.write_bytes(content)
    assert control.pending(path) == {}
    with pytest.raises(UserError, match="control.json is no command and was ignored"):
        control.take(path, ["pause", "stop"])
    assert not path.exists() and control.take(path, control.COMMANDS) == {}
    path.write_bytes(content)
    control.send(path, "preview", ["a cat"])
    assert control.take(path, ["preview"])["prompts"] == ["a cat"]


@pytest.mark.parametrize("prompt", ["", " \t", "a\x00b", "a\nb", "a\ud800", "x" * 501])
def test_what_cannot_be_sampled_is_refused_before_it_is_written(tmp_path, prompt):
    with pytest.raises(UserError):
        control.send(tmp_path / "control.json", "preview", [prompt])
    assert not (tmp_path / "control.json").exists()
