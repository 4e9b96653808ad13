"""BlockSkip Studio: teach a big diffusion transformer your pet, on the card you already own."""

import logging
import os
import warnings

__version__ = "0.2.0"

# Pinned RAM is planned to the byte; torch would round it up to the next power of two and keep it.
# It reads this when it is imported. The two numbers must be equal: torch takes a cached piece of a
# class of sizes without asking whether it is large enough.
os.environ.setdefault(
    "PYTORCH_ALLOC_CONF", "pinned_max_round_threshold_mb:1,pinned_max_cached_size_mb:1"
)
# What the libraries have to say is for those who write programs, not for who started this one.
for _name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
    os.environ.setdefault(_name, "error")
warnings.filterwarnings("ignore", category=FutureWarning, module=r"diffusers\.")
# Without a card it asks on the screen for a package that nothing here needs.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
