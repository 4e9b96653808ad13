"""A ComfyUI folder with several models in several precisions, and files that cannot be read: each
model takes the best that can, and says which."""

import json

import pytest
import torch
from helpers import comfy_text_encoders as text_encoders
from helpers.comfy_cases import CASES
from helpers.comfy_families import program, qwen_vocabulary, usual_file, write_part
from helpers.unreadable_files import KINDS, packed, write_broken
from safetensors.torch import save_file

from blockskip.cli import app
from blockskip.core import presets
from blockskip.models import sources

# model → the transformer's file → precision, the best first
FILES = {
    "flux2-klein-4b": {
        "flux-2-klein-base-4b-Q8_0.gguf": "Q8_0",
        "flux-2-klein-base-4b-fp8.safetensors": "fp8_scaled",
    },
    "qwen-image": {
        "qwen_image_bf16.safetensors": "bf16",
        "qwen_image_int8_convrot.safetensors": "int8",
    },
    "flux-dev": {"found on a disk.sft": "bf16", "another.gguf": "Q8_0"},  # renamed
}


@pytest.fixture(scope="module")
def comfy(tmp_path_factory):
    """(ComfyUI folder, rows of the tiny models, names of the files that cannot be read)."""
    tmp_path = tmp_path_factory.mktemp("many")
    home, rows, unreadable = tmp_path / "ComfyUI", {}, []
    vocabulary = tmp_path / "vocabularies"
    qwen_vocabulary(vocabulary / "qwen25_tokenizer", "".join(CASES[name].texts for name in FILES))
    text_encoders.vocabularies(vocabulary)
    transformers = home / "models/diffusion_models"
    for name, files in FILES.items():
        case = CASES[name]
        torch.manual_seed(0)
        with torch.no_grad():
            case.save(tmp_path / name, vocabulary)
        rows[name] = row = case.tiny_row(tmp_path / name)
        states = case.states(tmp_path / name)
        for file, precision in files.items():
            write_part(transformers / file, states["transformer"], precision)
        for part in states.keys() - {"transformer"}:
            write_part(usual_file(row, home, part), states[part], "bf16")
        for kind in KINDS:
            usual = row.comfyui.usual("transformer")[0]
            unreadable.append(f"{usual}-{kind.__name__}.safetensors")
            state = {key: tensor.bfloat16() for key, tensor in states["transformer"].items()}
            save_file(packed(state, kind), transformers / unreadable[-1])
        program(case, home / "program" / name, vocabulary)
    for folder in (home / "program").iterdir():
        for path in folder.rglob("*.*"):
            there = home / path.relative_to(folder)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(path.read_bytes())
    broken = write_broken(transformers, transformers / "qwen_image_bf16.safetensors")
    return home, rows, unreadable, broken


def use(monkeypatch, capsys, home, code=0):
    monkeypatch.setattr("sys.argv", ["blockskip", "models", "use-comfyui", str(home), "--json"])
    assert app.main() == code
    return json.loads(capsys.readouterr().out)


def test_each_model_takes_its_best_file_and_says_which(comfy, monkeypatch, capsys):
    home, rows, unreadable, broken = comfy
    monkeypatch.setattr(presets, "model_rows", lambda: {row.name: row for row in rows.values()})
    for turn in (0, 1):  # then without the best files
        answer = use(monkeypatch, capsys, home)
        assert len(answer["files"]) == len(FILES)
        for name, files in FILES.items():
            best = home / "models/diffusion_models" / list(files)[turn]
            assert answer["files"][rows[name].name]["transformer"] == str(best)
            assert sources.find_model(rows[name]).files["transformer"] == best
        said = " ".join(answer["unreadable"])
        assert [name for name in (*unreadable, *broken) if name not in said] == []
        assert len(answer["unreadable"]) == len(unreadable) + len(broken)
        for files in FILES.values():
            (home / "models/diffusion_models" / list(files)[turn]).unlink()
    nothing = use(monkeypatch, capsys, home, code=1)
    assert "transformer was not found" in nothing["error"], nothing
    assert [name for name in broken if name not in nothing["error"]] == [], nothing
