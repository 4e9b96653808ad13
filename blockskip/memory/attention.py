"""Which of torch's kernels compute attention on an NVIDIA card.

torch tries them in this order (2.13, aten/.../cuda/sdp_utils.cpp): flash, which takes no mask and
is not in the builds for Windows; memory-efficient; math, which holds a score for every pair of
tokens, several times; cuDNN. On data-centre cards (sm_90, sm_100) cuDNN comes first.
"""

from __future__ import annotations

import torch
from torch.backends import cuda


def choose_kernels(masked: bool) -> None:
    """Allow cuDNN's kernel unless the model's attention is masked: its backward gives NaN for some
    lengths where there is a mask (pytorch issue 196678, torch 2.11 to 2.13)."""
    cuda.enable_cudnn_sdp(not masked)


def math_kernel_warning(
    device: torch.device, dtype: torch.dtype, head_dim: int, masked: bool
) -> str:
    """Return a warning if only the math kernel can compute such attention and its gradients, or ""."""
    if device.type != "cuda":
        return ""
    query = torch.zeros(1, 1, 64, head_dim, dtype=dtype, device=device, requires_grad=True)
    mask = torch.zeros(1, 1, 64, 64, dtype=dtype, device=device) if masked else None
    call = cuda.SDPAParams(query, query, query, mask, 0.0, False, False)
    if cuda.can_use_flash_attention(call) or cuda.can_use_efficient_attention(call):
        return ""
    return (
        f"{torch.cuda.get_device_name(device)} has no fast attention for this model in this build "
        "of torch: training will be much slower, and may take more graphics memory than planned."
    )
