"""BlockSkip Studio: teach a big diffusion transformer your pet, on the card you already own."""

import logging
import os
import warnings

__version__ = "0.2.0"

# Pinned RAM is planned to the byte, but torch would round it up to the next power of two and keep
# it. torch reads this variable on import. The two numbers must be equal, because torch reuses any
# cached block of a size class without checking that it is large enough.
os.environ.setdefault(
    "PYTORCH_ALLOC_CONF", "pinned_max_round_threshold_mb:1,pinned_max_cached_size_mb:1"
)
# These messages are meant for programmers, not for users of this program.
for _name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
    os.environ.setdefault(_name, "error")
warnings.filterwarnings("ignore", category=FutureWarning, module=r"diffusers\.")
# Without a GPU it prints a request for a package that nothing in this project needs.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
