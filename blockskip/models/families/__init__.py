"""Model families: all that differs between diffusion transformers, and nothing else."""
