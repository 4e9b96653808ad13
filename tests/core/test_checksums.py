"""No tensor file of ours is read as something else than what was written."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from blockskip.core import safetensors_files
from blockskip.core.safetensors_files import Damaged, load_tensors, read_metadata, save_tensors
from blockskip.models.sources.tensor_reader import Reader, StoredTensor
from blockskip.training.windows import WindowStore, load_rows, save_window

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).reshape(3, 2),
    "b": torch.tensor([1, 2, 3], dtype=torch.bfloat16),
    "c": torch.tensor(7, dtype=torch.int8),
    "ü": torch.empty(0, 2),
}


def same(found: dict) -> bool:
    return found.keys() == TENSORS.keys() and all(torch.equal(found[n], TENSORS[n]) for n in found)


@pytest.mark.parametrize("by_row", [False, True])
def test_no_flipped_bit_and_no_cut_passes(tmp_path, by_row):
    path = tmp_path / "a.safetensors"
    save_tensors(path, TENSORS, {"step": "4", "fingerprint": "f"}, by_row=by_row)
    assert same(load_tensors(path)) and same(load_file(path))
    assert read_metadata(path) == {"format": "pt", "step": "4", "fingerprint": "f"}
    whole, unnoticed = path.read_bytes(), 0
    for bit in range(0, 8 * len(whole), 9):  # each byte, another bit of it
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            assert same(load_tensors(path)), bit
            assert read_metadata(path).items() >= {"step": "4", "fingerprint": "f"}.items()
            unnoticed += 1
        except Damaged as error:
            assert "a.safetensors" in error.title
    assert unnoticed <= 8 * len("crc32"), "only the name of the checksums themselves"
    for length in range(0, len(whole), 5):
        path.write_bytes(whole[:length])
        with pytest.raises(Damaged):
            load_tensors(path)
    path.write_bytes(bytes(len(whole)))
    with pytest.raises(Damaged):
        load_tensors(path)


def test_checksums_are_the_same_bytes_again_and_can_be_left_out(tmp_path):
    paths = [tmp_path / f"{name}.safetensors" for name in "abcd"]
    save_tensors(paths[0], TENSORS, {"x": "1", "y": "2"})
    save_tensors(paths[1], dict(reversed(TENSORS.items())), {"y": "2", "x": "1"})
    assert paths[0].read_bytes() == paths[1].read_bytes() and b"crc32" in paths[0].read_bytes()
    save_tensors(paths[2], TENSORS, checksums=False)
    save_file(TENSORS, paths[3])  # as older versions and other programs write
    assert all(b"crc32" not in path.read_bytes() for path in paths[2:])
    assert all(same(load_tensors(path)) for path in paths)
    assert all(map(safetensors_files.is_intact, paths))


def flip(path, name, row=0):
    """Flip the lowest bit of a tensor's row."""
    header = safetensors_files.read_header(path)
    entry, data = header.table[name], bytearray(path.read_bytes())
    size = (entry["stop"] - entry["start"]) // entry["shape"][0]
    data[entry["start"] + row * size] ^= 1
    path.write_bytes(data)


def test_a_windows_rows_are_verified_as_they_are_read(tmp_path):
    path, device = WindowStore(tmp_path, "f").path(0), torch.device("cpu")
    window = {"x": torch.randn(5, 3), "t": torch.rand(5)}
    save_window(path, window, "f")
    assert torch.equal(load_rows(path, 1, 3, device)["x"], window["x"][1:3])
    flip(path, "x", row=3)
    assert torch.equal(load_rows(path, 0, 3, device)["t"], window["t"][:3])
    with pytest.raises(Damaged, match="not what was written"):
        load_rows(path, 2, 4, device)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Damaged, match="cut short"):
        WindowStore(tmp_path, "f").has(0, "f")
    path.unlink()
    with pytest.raises(Damaged, match="it is gone"):
        load_rows(path, 0, 1, device)


def test_a_cached_block_is_verified_when_first_read(tmp_path):
    path = tmp_path / "block.safetensors"
    save_tensors(path, TENSORS)
    reader, out = Reader(), torch.empty(3, 2)
    reader.read(StoredTensor(path, "a"), out)
    assert torch.equal(out, TENSORS["a"])
    flip(path, "a")
    reader.read(StoredTensor(path, "a"), out)  # a second reading costs no checksum
    with pytest.raises(Damaged, match="block.safetensors"):
        Reader().read(StoredTensor(path, "a"), out)
    reader.read(StoredTensor(path, "a", rows=(1, 3)), torch.empty(2, 2))
