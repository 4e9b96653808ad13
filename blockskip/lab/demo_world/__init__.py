"""A drawn world of pets, and a genuine small FLUX pretrained on it from scratch.

No weights can be downloaded where this is built, and newcomers should see it work before fetching
24 GB. The stages are world (attributes) -> render -> captions -> tokenizers -> data (pictures on
disk) -> vae -> latents -> flow (transformer and text encoders) -> export (FluxPipeline folder).
``pretrain`` runs them all and resumes where it was killed.
"""
