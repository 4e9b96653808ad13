"""Weights come from files: by name, in pieces, fused or split, each read once."""

import threading

import pytest
import torch
from helpers.parked import CPU, KEEP_ALL, is_empty, num_bytes, offloaded_model, saved_checkpoint
from helpers.tiny import tiny_draws
from safetensors.torch import save_file

from blockskip.core.errors import UserError
from blockskip.memory import placement
from blockskip.memory.block_wrappers import PerCaptionBlock, per_caption_blocks
from blockskip.memory.placement import on_device, pin_on_device, streamed_block
from blockskip.memory.streaming import by_store, offload, offloaded_params, weight_stores
from blockskip.models.families.flux import Flux
from blockskip.models.sources import tensor_reader
from blockskip.models.sources.empty_model import build_empty
from blockskip.models.sources.tensor_reader import Reader, StoredTensor, index_folder
from blockskip.training.residuals import Span, full_velocity

FAMILY, SPAN = Flux(), Span(1, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved_checkpoint(tmp_path_factory.mktemp("model") / "tränsformer")


def test_files_that_do_not_fit_the_model_are_refused_by_name(folder, tmp_path):
    index = index_folder(folder)
    name = "single_transformer_blocks.1.proj_out.weight"
    model, _ = offloaded_model(folder)
    less = {key: where for key, where in index.items() if key != name}
    with pytest.raises(UserError, match=name):
        offload(model, less)
    save_file({"x": torch.zeros(2, 3)}, tmp_path / "other.safetensors")
    offload(model, index | {name: StoredTensor(tmp_path / "other.safetensors", "x")})
    with pytest.raises(UserError, match=r"other\.safetensors"):
        full_velocity(model, FAMILY, tiny_draws(), 2, CPU)
    assert is_empty(model)
    data = index[name].path.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-100])
    with pytest.raises(UserError, match="cut.safetensors cannot be read: it is cut short"):
        Reader().header(tmp_path / "cut.safetensors")
    for shard in folder.glob("*00002*"):
        (tmp_path / "half").mkdir()
        for path in folder.iterdir():
            if path != shard:
                (tmp_path / "half" / path.name).write_bytes(path.read_bytes())
        with pytest.raises(UserError, match=shard.name):
            index_folder(tmp_path / "half")


def test_a_parameter_may_be_rows_of_a_tensor_or_be_made_of_several(tmp_path):
    joined, scale = torch.randn(6, 4), torch.tensor(0.5)
    path = tmp_path / "single.safetensors"
    save_file({"qkv": joined, "w": joined.to(torch.float8_e4m3fn), "w.scale": scale}, path)
    reader = Reader()

    def scaled(reader, where, out):
        weight = reader.tensor(where.path, where.key).float()
        out.copy_(weight * reader.tensor(where.path, f"{where.key}.scale"))

    rows, made = torch.empty(2, 4), torch.empty(6, 4, dtype=torch.bfloat16)
    reader.read(StoredTensor(path, "qkv", (2, 4)), rows)
    reader.read(StoredTensor(path, "w", fill=scaled), made)
    assert torch.equal(rows, joined[2:4])
    assert torch.equal(made, (joined.to(torch.float8_e4m3fn).float() * 0.5).bfloat16())
    assert reader.bytes_read == 2 * 4 * 4 + 6 * 4 + 4


def test_a_tensor_read_in_pieces_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_reader, "_MIN_CHUNK_BYTES", 100)
    path, whole = tmp_path / "one.safetensors", torch.randn(37, 29)
    save_file({"w": whole}, path)
    reader = Reader()
    assert torch.equal(reader.tensor(path, "w"), whole) and reader.bytes_read == 37 * 29 * 4
    assert torch.equal(reader.tensor(path, "w", (5, 36)), whole[5:36])
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(UserError, match="cut short"):
        reader.tensor(path, "w")  # its header was read while it was whole


def test_a_text_encoder_reads_each_weight_once_for_all_captions(tmp_path):
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=60, d_model=24, d_kv=8, d_ff=40, num_layers=3, num_heads=3,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    )  # fmt: skip
    whole = T5EncoderModel(config).eval().requires_grad_(False)
    whole.save_pretrained(tmp_path)
    model = build_empty(lambda: T5EncoderModel(config), torch.float32)
    store = offload(model, index_folder(tmp_path))
    tokens = torch.randint(1, 60, (4, 9))
    with torch.no_grad():
        expected = torch.cat([whole(row[None])[0] for row in tokens])
        blocks = per_caption_blocks(model, CPU)
        assert (
            all(isinstance(block, PerCaptionBlock) for block in blocks.values())
            and len(blocks) == 3
        )
        with placement.replace_modules(model, blocks), on_device(CPU, model):
            actual = model(tokens)[0]
    assert torch.equal(actual, expected)
    assert set(store.stats.reads.values()) == {1}
    assert store.stats.read_bytes == num_bytes(whole) and is_empty(model)


def test_ram_keeps_a_weight_once_whatever_company_it_comes_in(folder):
    """A block of the middle comes with its modulation in windows, and without it in steps."""
    model, store = offloaded_model(folder, KEEP_ALL)
    block, elsewhere = FAMILY.blocks(model)[2][1], torch.device("meta")
    for _ in range(2):
        with streamed_block(elsewhere, block):
            assert not offloaded_params(block)
        held = pin_on_device(elsewhere, block.attn, keep=True)
        assert held and not offloaded_params(block.attn)
        placement.release(held)
        assert offloaded_params(block.attn)
    assert set(store.stats.reads.values()) == {1}
    kept = sum(tensor.numel() * tensor.element_size() for tensor in store._cache.values())
    assert kept == num_bytes(block) and store.stats.read_bytes == kept


def test_what_ram_has_no_room_for_is_read_again(folder):
    model, store = offloaded_model(folder)
    block, elsewhere = FAMILY.blocks(model)[2][1], torch.device("meta")
    for _ in range(2):
        with streamed_block(elsewhere, block):
            pass
    assert set(store.stats.reads.values()) == {2} and not store._cache


def test_off_cuda_only_the_callers_thread_touches_the_device(folder, monkeypatch):
    """Two threads at once crash MPS; a meta tensor stands in for one on such a device."""
    model, index = offloaded_model(folder)[0], index_folder(folder)
    (store,) = weight_stores([model])
    meta, copied, real = torch.device("meta"), {}, torch.Tensor.copy_
    slots = by_store(offloaded_params(model.transformer_blocks[0]))[store]
    names = iter([slot.name for slot in slots])

    def copy_(target, source, *more, **how):
        if target.is_meta:
            copied[next(names)] = threading.get_ident(), source.clone()
        return real(target, source, *more, **how)

    monkeypatch.setattr(torch.Tensor, "copy_", copy_)
    store.prefetch(slots, meta, passing=True)
    store.take(slots, meta, passing=True)
    assert set(copied) == {slot.name for slot in slots}
    for name, (thread, source) in copied.items():
        assert thread == threading.get_ident()
        expected = torch.empty(source.shape, dtype=source.dtype)
        Reader().read(index[name], expected)
        assert torch.equal(source, expected), name
