"""Checkpoints: reading files, names of released weights, converting."""
