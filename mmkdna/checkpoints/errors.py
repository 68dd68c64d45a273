"""What is raised for a checkpoint that cannot be used."""
from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint that is not there, damaged, none, or not safe to read."""


class Unreadable(Exception):
    """What is wrong with a file, to be said behind its name."""
