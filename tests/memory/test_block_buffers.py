"""Blocks that pass a card share two buffers, and none is overwritten while work on it is queued."""

import pytest
import torch
from helpers.fake_streams import Card
from safetensors.torch import save_file
from torch import nn

from blockskip.memory.placement import on_device, streamed_block
from blockskip.memory.streaming import ALIGNED, offload
from blockskip.models.sources.empty_model import build_empty
from blockskip.models.sources.tensor_reader import StoredTensor

WIDTHS = [16, 16, 16, 16, 8, 8, 8, 24, 24, 8]  # as double blocks, then single ones
ALL = range(len(WIDTHS))


class Blocks(nn.ModuleList):
    def __init__(self) -> None:
        super().__init__(nn.Linear(width, width, bias=False) for width in WIDTHS)


def sizes() -> list[int]:
    return [-(-4 * width**2 // ALIGNED) * ALIGNED for width in WIDTHS]


@pytest.fixture
def stored(tmp_path):
    torch.manual_seed(0)
    tensors = {f"{i}.weight": torch.randn(width, width) for i, width in enumerate(WIDTHS)}
    save_file(tensors, tmp_path / "blocks.safetensors")
    model = build_empty(Blocks, torch.float32)
    index = {name: StoredTensor(tmp_path / "blocks.safetensors", name) for name in tensors}
    return model, offload(model, index), list(tensors.values())


def traverse(card, model, store, expected, blocks=ALL, late=True):
    """Stream blocks; return, per block, whether its work on the card saw its weights.

    late: the work is left in the queues, which then keep the memory that it needs.
    """
    seen, device = [], torch.device(card.kind)
    following = [*(model[i] for i in blocks[1:]), None]
    for i, next_block in zip(blocks, following, strict=True):
        with streamed_block(device, model[i], next_block):
            weight = model[i].weight
            card.main.submit(
                lambda weight=weight, i=i: seen.append(torch.equal(weight.plain(), expected[i]))
            )
            del weight
            store._thread.submit(int).result()  # its copies are queued, and it holds no memory
            if not late:
                card.run()
    return seen


@pytest.mark.parametrize("kind, hurry", [
    ("cuda", "main"), ("cuda", "copies"), ("cuda", "any"), ("mps", "main"),
])  # fmt: skip
def test_work_sees_its_own_weights_whichever_stream_hurries(stored, monkeypatch, kind, hurry):
    model, store, expected = stored
    card = Card(hurry, kind=kind)
    card.install(monkeypatch)
    with torch.no_grad():
        seen = [traverse(card, model, store, expected) for _ in range(2)]  # as with guidance
        card.run()
    assert seen == [[True] * len(WIDTHS)] * 2


def test_without_events_a_hurrying_copy_would_overwrite_weights_in_use(stored, monkeypatch):
    """The test above can fail."""
    model, store, expected = stored
    card = Card("copies", ordered=False)
    card.install(monkeypatch)
    with torch.no_grad():
        seen = traverse(card, model, store, expected)
        card.run()
    assert not all(seen)


@pytest.mark.parametrize("grad", [False, True])
def test_equal_neighbours_take_turns_in_two_buffers(stored, monkeypatch, grad):
    model, store, expected = stored
    card = Card("main")
    card.install(monkeypatch)
    pairs = [a + b for a, b in zip(sizes(), sizes()[1:], strict=False)]
    with torch.set_grad_enabled(grad):
        for i in range(len(WIDTHS) - 1):  # after each of these, a traversal from the start
            card.most = 0
            traverse(card, model, store, expected, range(i + 2), late=False)
            assert card.most == max(pairs[: i + 1]), "two neighbours, as is planned"
            assert card.live == 0, "nothing is kept after the last block"
        card.allocated = 0
        traverse(card, model, store, expected, late=False)
    assert card.allocated == (len(WIDTHS) if grad else 7)


def test_a_prefetch_without_room_leaves_everything_in_order(stored, monkeypatch):
    model, store, expected = stored
    card = Card("any")
    card.install(monkeypatch)
    with torch.no_grad():
        card.limit = max(sizes())  # one block at a time
        assert all(traverse(card, model, store, expected, late=False))
        moved, card.limit = store.stats.transferred_bytes, float("inf")
        assert moved == sum(4 * width**2 for width in WIDTHS)
        seen = traverse(card, model, store, expected)
        card.run()
    assert all(seen) and card.live == 0


def test_what_was_fetched_to_pass_is_not_given_to_autograd(stored, monkeypatch):
    """Its memory would be another block's before the backward pass reads it again."""
    model, store, expected = stored
    card = Card("main")
    card.install(monkeypatch)
    device = torch.device("cuda")
    with torch.no_grad(), streamed_block(device, model[0], model[1]):
        pass
    with streamed_block(device, model[1], model[2]):
        kept = model[1].weight
    with torch.no_grad():
        traverse(card, model, store, expected)
    card.run()
    assert torch.equal(kept.plain(), expected[1])


def test_a_traversal_that_stops_frees_the_card(stored, monkeypatch):
    model, store, expected = stored
    card = Card("main")
    card.install(monkeypatch)
    device, wrapped = torch.device("cuda"), nn.Module()  # wrappers hide a model's blocks from it
    vars(wrapped)["_store"] = store
    with torch.no_grad(), pytest.raises(KeyboardInterrupt), on_device(device, wrapped):
        traverse(card, model, store, expected, range(3), late=False)
        with streamed_block(device, model[0], model[1]):
            raise KeyboardInterrupt
    card.run()
    store._thread.submit(int).result()
    assert card.live == 0
