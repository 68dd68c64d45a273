"""Ctrl-C and SIGTERM end a command in one line."""
from __future__ import annotations
import os
import signal
import sys
import threading
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def ended_by_signals(says: bool, traceback: bool) -> Iterator[None]:
    """End the process with one line and the status that shells give a signal.

    The first signal raises ``KeyboardInterrupt``, so that everything is left
    in order; the same signal once more ends the process at once.

    Args:
        says (bool): Whether this process says it. The others of a
            distributed run, which may wait for each other where Python cannot
            raise anything, end at once.
        traceback (bool): Whether to show what was interrupted instead.
    """
    process = os.getpid()
    received: list[int] = []
    again: list[threading.Timer] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            # In what this process has forked, and ends itself.
            return
        for other in SIGNALS:
            same = other == number
            signal.signal(other, signal.SIG_DFL if same else signal.SIG_IGN)
        received.append(number)
        raise KeyboardInterrupt

    def interrupt_again(unraisable: Any) -> None:
        # Where nothing can be raised, as in __del__, Python goes on after it.
        if received and isinstance(unraisable.exc_value, KeyboardInterrupt):
            signal.signal(received[0], interrupt)
            again.append(threading.Timer(0.1, os.kill, (process, received[0])))
            again[-1].start()
        else:
            sys.__unraisablehook__(unraisable)

    def except_hook(kind: type[BaseException], error: BaseException,
                    trace: TracebackType | None) -> None:
        # A forked loader's thread that hands tensors over finds this process
        # gone in the middle of it.
        if os.getpid() == process or not isinstance(
                error, (ConnectionError, EOFError)):
            sys.__excepthook__(kind, error, trace)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, handler in before.items():
            # A shell has what it starts in the background ignore Ctrl-C.
            if handler != signal.SIG_IGN:
                signal.signal(number, interrupt if says else signal.SIG_DFL)
        sys.unraisablehook = interrupt_again
        sys.excepthook = except_hook
        yield
    except BaseException:
        # On the way out, something else may have been raised.
        if not received or traceback:
            raise
    finally:
        sys.unraisablehook = sys.__unraisablehook__
        sys.excepthook = sys.__excepthook__
        for timer in again:
            timer.cancel()
        if not received:
            for number, handler in before.items():
                signal.signal(number, handler)
    if received:
        print(
            f'Ended by {signal.Signals(received[0]).name}. What was saved '
            'before is whole: give the same command again; a training goes on '
            'with --resume',
            file=sys.stderr)
        raise SystemExit(128 + received[0])
