"""The families whose tiny models are read from ComfyUI's files. A new one adds an entry."""

from helpers import (
    comfy_chroma,
    comfy_flux,
    comfy_flux2,
    comfy_krea2,
    comfy_qwen_image,
    comfy_qwen_image21,
    comfy_sd3,
    comfy_z_image,
)

CASES = {
    case.row: case
    for case in (
        comfy_z_image.CASE,
        comfy_flux2.CASE,
        comfy_qwen_image.CASE,
        comfy_krea2.CASE,
        comfy_flux.CASE,
        comfy_chroma.CASE,
        comfy_sd3.CASE,
        comfy_qwen_image21.CASE,
    )
}
