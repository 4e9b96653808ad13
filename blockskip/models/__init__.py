"""Diffusion transformers: families, where their weights lie, the LoRA files they take."""
