"""Processes that share a step take the step of one process. Threads stand in for them here;
tests/runs/test_ranks.py has real ones."""

import threading
from dataclasses import dataclass

import pytest
import torch
from helpers.training import SETTINGS, losses, trainer

from blockskip.training.draws import TrainingData
from blockskip.training.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Threads(Ranks):
    """Ranks of one process, which add up what each brings to a meeting."""

    meeting: threading.Barrier = None
    brought: list = None

    def sum(self, tensors):
        self.brought[self.rank] = [tensor.detach().clone() for tensor in tensors]
        self.meeting.wait(60)
        for tensor, *parts in zip(tensors, *self.brought, strict=True):
            tensor.detach().copy_(torch.stack(parts).sum(0))
        self.meeting.wait(60)


def together(folder, settings, size):
    """Return (losses, LoRA) of each of several that train together."""
    brought, meeting, found = [None] * size, threading.Barrier(size), [None] * size

    trainers = []  # made one after the other: they draw from torch's common generator
    for rank in range(size):
        mine = folder / f"{rank}"
        mine.mkdir(parents=True)
        trainers.append(trainer(mine, settings, ranks=Threads(rank, size, meeting, brought)))

    def work(rank):
        one = trainers[rank]
        try:
            found[rank] = losses(one), {name: p.detach().clone() for name, p in one.lora.items()}
        finally:
            meeting.abort() if found[rank] is None else None

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(
    "change", [{}, {"prior": 0.4}, {"reuse": 2}, {"front": 0, "back": 0, "prior": 0.4}]
)
def test_several_take_the_steps_of_one(tmp_path, size, change):
    settings = SETTINGS.changed(batch=1, accumulation=4, **change)
    one = trainer(tmp_path / "one", settings)
    expected = losses(one)
    for said, lora in together(tmp_path, settings.changed(processes=size), size):
        assert said == pytest.approx(expected, rel=1e-4)
        for name, parameter in one.lora.items():  # Adam makes much of small gradients' last digits
            torch.testing.assert_close(lora[name], parameter.detach(), atol=3e-4, rtol=1e-3)


def test_all_of_several_hold_the_same_lora_to_the_bit(tmp_path):
    (first, lora), (second, other) = together(tmp_path, SETTINGS.changed(processes=2), 2)
    assert first == second and all(torch.equal(lora[name], other[name]) for name in lora)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_each_draw_of_a_step_is_one_processes(size):
    rows = range(12, 36)
    shares = [Ranks(rank, size).own(rows, 6) for rank in range(size)]
    assert sorted(row for share in shares for row in share) == list(rows)
    for step in range(4):
        drawn = [share[step * 6 // size : (step + 1) * 6 // size] for share in shares]
        assert sorted(row for own in drawn for row in own) == list(rows[step * 6 : step * 6 + 6])


def test_alone_nothing_is_asked_of_others():
    value = torch.tensor([1.0])
    ALONE.sum([value])
    assert value.item() == 1 and ALONE.own(range(3), 3) == range(3)


def test_data_is_the_same_after_it_was_handed_over(tmp_path):
    data = trainer(tmp_path, SETTINGS.changed(prior=0.4, caption_dropout=0.4)).data
    data.save(tmp_path / "data.safetensors")
    again = TrainingData.load(tmp_path / "data.safetensors")
    assert again.draws == data.draws and list(again.captions) == list(data.captions)
    rows = range(len(data.draws))
    assert torch.equal(again.noisy(rows), data.noisy(rows))
    assert torch.equal(again.texts(rows).embeds, data.texts(rows).embeds)


def test_draws_that_cannot_be_shared_are_refused():
    with pytest.raises(ValueError, match="not shared by 4 processes"):
        SETTINGS.changed(batch=2, accumulation=2, processes=4)
