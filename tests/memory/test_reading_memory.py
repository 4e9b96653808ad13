"""However a weight is stored, reading it takes little memory beside it."""

import tracemalloc

import pytest
import torch
from helpers.comfy import to_fp8
from helpers.ggufs import write_gguf
from helpers.int8_files import described, rounded
from safetensors.torch import save_file

from blockskip.lab.measuring.peak_memory import PeakMeter
from blockskip.memory import open_model
from blockskip.memory.quantisation import quantise
from blockskip.models.sources import tensor_reader
from blockskip.models.sources.tensor_reader import Reader
from blockskip.models.sources.tensors import find_weight, tensor_table

SHAPE = 4096, 512
PIECE = 1 << 16  # weights converted at a time here, a 32nd of the matrix
MOST = 16 * PIECE  # bytes beside the parameter: four copies of a piece in float32


def fp8_blocks(weight):
    stored = weight.to(torch.float8_e4m3fn)
    return {"a.weight": stored, "a.weight_scale_inv": torch.rand(32, 4)}


def int8(weight, **told):
    digits, scale = rounded(weight, told.get("convrot_groupsize", 1))
    description = described(format="int8_tensorwise", **told)
    return {"a.weight": digits, "a.weight_scale": scale, "a.comfy_quant": description}


FILES = {
    "bf16": lambda weight: {"a.weight": weight.bfloat16()},
    "f32": lambda weight: {"a.weight": weight},
    "fp8": lambda weight: {"a.weight": weight.to(torch.float8_e4m3fn)},
    "fp8 rows": lambda weight: to_fp8({"a.weight": weight}, "weight_scale"),
    "fp8 blocks": fp8_blocks,
    "int8": int8,
    "int8 rotated": lambda weight: int8(weight, convrot=True, convrot_groupsize=256),
    **dict.fromkeys(("Q8_0", "Q4_K", "IQ4_XS", "IQ2_XXS", "BF16", "F32")),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("swapped", [False, True])
def test_a_weight_is_unpacked_piece_by_piece(tmp_path, monkeypatch, kind, swapped):
    """Compared with a whole float32 copy it takes a tenth: 0.25 to 1 MB of 8."""
    monkeypatch.setattr(tensor_reader, "_CONVERTED_WEIGHTS", PIECE)
    weight, path = torch.randn(SHAPE), tmp_path / "a.file"
    if FILES[kind] is None:
        write_gguf(path, {"a.weight": weight}, kind)
    else:
        save_file({k: v.contiguous() for k, v in FILES[kind](weight).items()}, path)
    table, reader = tensor_table([path]), Reader()
    stored = open_model.stored_tensor(find_weight(table, "a.weight", halves_swapped=swapped))
    small = torch.empty(4096, 512, dtype=torch.bfloat16)
    reader.read(stored, small)  # imports, tables of the package, the rotation's matrix
    out = torch.empty(SHAPE, dtype=torch.bfloat16)
    tracemalloc.start()  # knows NumPy's arrays
    with PeakMeter() as torchs:
        reader.read(stored, out)
    numpys = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert torch.equal(out, small)
    assert torchs.peak_bytes - out.nbytes <= MOST and numpys <= 2 * MOST
    assert reader.bytes_read >= table["a.weight"].nbytes


@pytest.mark.parametrize("rotation", [1, 64])
def test_quantising_takes_the_result_twice_and_pieces(monkeypatch, rotation):
    monkeypatch.setattr("blockskip.memory.quantisation._CHUNK_WEIGHTS", PIECE)
    weight = torch.randn(SHAPE).bfloat16()
    with PeakMeter() as meter:
        parts = quantise(weight, "int8", rotation)
    result = sum(part.nbytes for part in parts.values())
    assert meter.peak_bytes <= 2 * result + weight.nbytes + MOST
