"""The frame that every command has in common."""
from __future__ import annotations
import argparse
import functools
from typing import Callable

from ..checkpoints.files import CheckpointError
from .arguments import parse_args
from .errors import CommandError


def command(get_parser: Callable[[], argparse.ArgumentParser]) -> Callable:
    """Make a function the ``main`` of a tool.

    Without arguments, it reads the command line. An error that a user can do
    something about ends it with one paragraph and exit status 1; with
    --traceback, which every tool takes, Python shows where it came from.

    Args:
        get_parser (Callable): Returns the parser of the tool's arguments.

    Returns:
        Callable: Decorator of a function that takes the parsed arguments.
    """

    def decorate(function: Callable[[argparse.Namespace], None]) -> Callable:

        @functools.wraps(function)
        def main() -> None:
            parser = get_parser()
            parser.add_argument(
                '--traceback',
                action='store_true',
                help='show where an error comes from, instead of one '
                'paragraph on it')
            args = parse_args(parser)
            try:
                function(args)
            except (CommandError, CheckpointError) as error:
                if args.traceback:
                    raise
                raise SystemExit(str(error)) from error

        return main

    return decorate
