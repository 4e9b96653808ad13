"""A drawn world of pets, and a genuine small FLUX that is pretrained on it from nothing.

Why: no weights can be downloaded where this is built, and a newcomer should see it work before
fetching 24 GB. The way: world (attributes) -> render -> captions -> tokenizers -> data (pictures on
disk) -> vae -> latents -> flow (transformer and text encoders) -> export (FluxPipeline folder);
``pretrain`` walks all of it and goes on where it was killed.
"""
