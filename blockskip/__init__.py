"""BlockSkip Studio: teach a big diffusion transformer your pet, on the card you already own."""

import logging
import os
import warnings

from blockskip.core import environment, torch_allocator

__version__ = "0.2.0"

torch_allocator.configure()  # read by torch on import
environment.refuse_telemetry()  # read by huggingface_hub and gradio on import
# These messages are meant for programmers, not for users of this program.
for _name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
    os.environ.setdefault(_name, "error")
warnings.filterwarnings("ignore", category=FutureWarning, module=r"diffusers\.")
# Without a GPU it prints a request for a package that nothing in this project needs.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
