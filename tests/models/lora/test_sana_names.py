"""The native file holds exactly the updates of diffusers' names; what each family's files may be."""

import subprocess
import sys

import pytest
import torch
from helpers.family_cases import CASES
from helpers.family_checks import tiny_row
from helpers.tiny import randomise
from safetensors.torch import load_file

from blockskip.core.errors import UserError
from blockskip.core.safetensors_files import read_metadata
from blockskip.core.settings import Settings
from blockskip.models.lora import sana_names
from blockskip.models.lora.export import export_lora, verify
from blockskip.models.lora.names import lora_names_of
from blockskip.models.lora.sana_names import exported_tensors
from blockskip.training.lora import add_lora
from blockskip.training.residuals import Span

WIDTH = 24
# the makers' layer → the library's linears it is made of, written down here a second time
MADE_OF = {
    "attn.qkv": ["attn1.to_q", "attn1.to_k", "attn1.to_v"],
    "attn.proj": ["attn1.to_out.0"],
    "cross_attn.q_linear": ["attn2.to_q"],
    "cross_attn.kv_linear": ["attn2.to_k", "attn2.to_v"],
    "cross_attn.proj": ["attn2.to_out.0"],
}


def lora_of(span: Span) -> dict[str, torch.Tensor]:
    case = CASES["sana"]
    lora = add_lora(case.model(), case.family, span, 3, "attention", seed=0)
    randomise(lora)
    return {name: p.detach() for name, p in lora.items()}


def update(lora: dict, layer: str) -> torch.Tensor:
    return lora[f"{layer}.lora_B.weight"].double() @ lora[f"{layer}.lora_A.weight"].double()


def check_native(native: dict, lora: dict, block: int, absent: tuple[str, ...] = ()) -> None:
    for layer, linears in MADE_OF.items():
        whole = [
            torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
            if linear in absent
            else update(lora, f"transformer.transformer_blocks.{block}.{linear}")
            for linear in linears
        ]
        found = update(native, f"diffusion_model.blocks.{block}.{layer}")
        torch.testing.assert_close(found, torch.cat(whole), rtol=0, atol=1e-14)


def test_the_fused_updates_are_the_separate_ones():
    lora = lora_of(Span(1, 2))
    native = exported_tensors("native", lora, WIDTH)
    assert len(native) == 3 * 2 * len(MADE_OF)
    for block in (1, 2, 3):
        check_native(native, lora, block)


def test_a_part_without_a_lora_keeps_its_weight_and_half_a_pair_is_refused():
    lora = {n: t for n, t in lora_of(Span(1, 4)).items() if "attn2.to_k" not in n}
    check_native(exported_tensors("native", lora, WIDTH), lora, 1, absent=("attn2.to_k",))
    lora.pop("transformer.transformer_blocks.1.attn1.to_v.lora_B.weight")
    with pytest.raises(KeyError, match="to_v.lora_B"):
        exported_tensors("native", lora, WIDTH)


def test_the_written_file_is_checked_and_says_what_the_other_says(tmp_path):
    row = tiny_row("sana", ("transformer",), width=WIDTH)
    lora, said = lora_of(Span(1, 2)), {}
    rest = dict(settings=Settings(rank=3), row=row, started="2026-01-01", num_photos=3, step=5)
    for format in ("comfyui", "native"):
        done = export_lora(lora, tmp_path / format / "x.safetensors", format=format, **rest)
        header = read_metadata(done.path)
        said[format] = {n: v for n, v in header.items() if "hash" not in n}
    assert said["native"] == said["comfyui"]
    check_native(load_file(done.path), lora, 2)
    modules = {n.removeprefix("transformer.").rpartition(".lora_")[0] for n in lora}
    verify(done.path, modules, format="native", names=sana_names)
    with pytest.raises(UserError, match="is missing"):
        more = modules | {"transformer_blocks.5.attn1.to_q"}
        verify(done.path, more, format="native", names=sana_names)
    with pytest.raises(UserError, match="kohya"):
        export_lora(lora, tmp_path / "k.safetensors", format="kohya", **rest)


def test_what_files_a_model_has_is_known_without_its_libraries():
    code = (
        "import sys\n"
        "from blockskip.models.lora.names import lora_names_of\n"
        "print(*(f'{f} {lora_names_of(f).FORMATS[2:]} {lora_names_of(f).IN_COMFYUI}' for f in sys.argv[1:]), sep=';')\n"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    )
    words = [sys.executable, "-c", code, "flux", "sana", "sd3"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "flux ('kohya',) True;sana ('native',) False;sd3 () True"


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_the_family_itself_says(name):
    own = CASES[name].family.lora_names
    assert (own.FORMATS, own.IN_COMFYUI) == (
        lora_names_of(name).FORMATS,
        lora_names_of(name).IN_COMFYUI,
    )
    assert {"comfyui", "diffusers"} <= set(own.FORMATS)
