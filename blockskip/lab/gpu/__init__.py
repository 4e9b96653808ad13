"""What only a graphics card can show: `blockskip lab bench --gpu NAME`, a line of gpu.md each.

Everything runs without a card too, on tiny models, and then shows nothing but that it runs."""
