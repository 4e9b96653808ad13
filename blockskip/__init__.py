"""BlockSkip Studio: teach a big diffusion transformer your pet, on the card you already own."""

__version__ = "0.1.0"
