"""LoRA files: names, metadata, export."""
