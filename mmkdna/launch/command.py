"""The frame that every command has in common."""
from __future__ import annotations
import argparse
import functools
import logging
import sys
from contextlib import contextmanager
from typing import Callable, Iterator

from ..checkpoints.files import CheckpointError
from ..checkpoints.whole_files import whole_files
from .arguments import parse_args
from .distributed import is_first_process
from .errors import CommandError, lack_of_room
from .interrupts import ended_by_signals
from .safe_loading import safe_loading


def command(get_parser: Callable[[], argparse.ArgumentParser]) -> Callable:
    """Make a function the ``main`` of a tool.

    Without arguments, it reads the command line. An error that a user can do
    something about ends it with one paragraph and exit status 1, and so do
    Ctrl-C and SIGTERM with 130 and 143; with --traceback, which every tool
    takes, Python shows where it came from.

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
            launcher = getattr(args, 'launcher', 'none')
            try:
                with ended_by_signals(
                        is_first_process(launcher), args.traceback
                ), safe_loading(), whole_files(), whole_logs():
                    function(args)
            except (CommandError, CheckpointError) as error:
                if args.traceback:
                    raise
                raise SystemExit(str(error)) from error
            except Exception as error:
                lack = lack_of_room(error)
                if args.traceback or not lack:
                    raise
                raise SystemExit(
                    f'{lack.filename or "A file"} cannot be written: '
                    f'{lack.strerror}. Nothing of it is left, and what was '
                    'saved before is whole: make room, or raise the limit '
                    '(ulimit -f), and run it again; a training goes on with '
                    '--resume') from error

        return main

    return decorate


@contextmanager
def whole_logs() -> Iterator[None]:
    """Have a log that there is no room for end a run, as any other file."""
    handle_error = logging.Handler.handleError

    def handle(handler: logging.Handler, record: logging.LogRecord) -> None:
        if lack_of_room(sys.exc_info()[1]):
            raise
        handle_error(handler, record)

    logging.Handler.handleError = handle  # type: ignore
    try:
        yield
    finally:
        logging.Handler.handleError = handle_error  # type: ignore
