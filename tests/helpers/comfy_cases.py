"""The families whose tiny models are read from ComfyUI's files. A new one adds an entry."""

from helpers import comfy_flux2, comfy_z_image

CASES = {case.row: case for case in (comfy_z_image.CASE, comfy_flux2.CASE)}
