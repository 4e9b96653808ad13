"""The measurement of reading knows every format, and what it streams is what the file means."""

import pytest
import torch

from blockskip.lab.bench import reading
from blockskip.models.sources.tensors import find_weight, tensor_table


@pytest.mark.parametrize("kind", reading.FORMATS)
def test_a_file_of_each_format_is_streamed(tmp_path, kind):
    path = tmp_path / kind
    reading.write(path, kind, 256, 3)
    report = reading.stream({"path": str(path), "width": 256, "blocks": 3})
    assert report["file_gib"] * 2**30 == path.stat().st_size
    assert report["block_gib"] * 2**30 == 2 * 9 * 256**2
    table = tensor_table([path])
    first, last = (find_weight(table, f"{n}.down.weight").read(torch.float32) for n in (0, 2))
    assert first.shape == (256, 1024) and torch.equal(first, last) and first.std() > 0
