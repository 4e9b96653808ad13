"""Encode, compute residuals, skip blocks, train."""
