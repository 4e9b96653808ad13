"""Models without weights: what no file holds is there as the library computes it, and what files
hold takes neither memory nor time."""

from functools import partial

import pytest
import torch
from accelerate import init_empty_weights
from diffusers.models import embeddings
from torch.utils._pytree import tree_leaves

from blockskip.core import presets
from blockskip.models.sources.empty_model import build_empty, new_part
from blockskip.models.sources.layouts import configs_folder, read_index

SMALL_FIRST = sorted(presets.model_rows().values(), key=lambda row: row.width * row.num_blocks)
# one part of each class
PARTS = {
    read_index(folder)[part][-1]: (folder, part)
    for row in reversed(SMALL_FIRST)
    for folder in [configs_folder(row)]
    for part in row.parts
}
del PARTS["SD3Transformer2DModel"]


def tensors_of(model):
    """Return every tensor that the modules of a model hold, in whatever form."""
    return {
        (name, key, number): leaf
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if key != "_modules"
        for number, leaf in enumerate(tree_leaves(value))
        if isinstance(leaf, torch.Tensor)
    }


@pytest.mark.parametrize("folder, part", PARTS.values(), ids=PARTS)
def test_what_no_file_holds_is_the_librarys(folder, part):
    build = partial(new_part, folder, part)
    made = build_empty(build, torch.bfloat16)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with init_empty_weights(include_buffers=False):
            wanted = tensors_of(build())
    finally:
        torch.set_default_dtype(torch.float32)
    stored = set(map(id, made.state_dict(keep_vars=True).values()))
    found = tensors_of(made)
    assert found.keys() == wanted.keys()
    assert [k for k, t in found.items() if t.device != wanted[k].device] == []
    constants = {key: tensor for key, tensor in found.items() if id(tensor) not in stored}
    assert [key for key, t in constants.items() if not torch.equal(t, wanted[key])] == []


def test_a_table_that_files_hold_is_not_computed(monkeypatch):
    """Stable Diffusion 3.5 Medium's of positions takes 3.6 GB."""
    compute, made = embeddings.get_2d_sincos_pos_embed, []

    def noting(*args, **options):
        made.append(compute(*args, **options))
        return made[-1]

    monkeypatch.setattr(embeddings, "get_2d_sincos_pos_embed", noting)
    folder = configs_folder(presets.model_row("sd35-medium"))
    model = build_empty(partial(new_part, folder, "transformer"), torch.bfloat16)
    assert [table.is_meta for table in made] == [True]
    table = model.pos_embed.pos_embed
    assert table.shape == (1, 384 * 384, 1536) and table.dtype == torch.bfloat16
    assert not table.is_meta and all(parameter.is_meta for parameter in model.parameters())
