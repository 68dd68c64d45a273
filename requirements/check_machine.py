"""What of a machine the set-up lacks, before it downloads and compiles.

Usage: python requirements/check_machine.py STACK [FOLDER]

``make install`` runs it first, by the Python that it will use, to set up an
environment in FOLDER with a stack of ``requirements/stacks``; without FOLDER
it is run by the Python of the finished environment, just before mmcv is
compiled against its torch. It needs nothing but Python, and any Python can
read it.
"""
from __future__ import print_function
import os
import shutil
import subprocess
import sys
import sysconfig

# The oldest Python that the libraries of a stack ask for, and the newest that
# its torch was built for, where that is an old one.
PYTHONS = {
    'current': ((3, 10), None),
    'classic': ((3, 8), (3, 11)),
    'light': ((3, 10), None)
}
# The environment takes 6 GB, downloads and objects beside it 4 more.
GIGABYTES = 10
# All that compiling mmcv takes of the machine: C++17 and Python's headers.
PROGRAM = '#include <Python.h>\n#include <optional>\nstd::optional<int> a;\n'
TORCH = 'pip install -r requirements/stacks/{}/torch.txt'


def check_python(stack):
    """Say what is wrong with this Python, if anything."""
    oldest, newest = PYTHONS[stack]
    version = tuple(sys.version_info[:2])
    if version < oldest or newest and version > newest:
        wanted = ('{}.{} to {}.{}'.format(
            *(oldest +
              newest)) if newest else '{}.{} or newer'.format(*oldest))
        return ('{} is Python {}.{}, but {} is expected: install it, and run '
                'make install PYTHON=/path/to/python3'.format(
                    sys.executable, version[0], version[1], wanted))
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        return ('{} has no module {}, which makes environments: install it '
                '(apt install python{}.{}-venv), or take another Python by '
                'make install PYTHON=/path/to/python3'.format(
                    sys.executable, error.name, *sys.version_info))
    return None


def check_compiler():
    """Say why nothing can be compiled, if so."""
    compiler = os.environ.get('CXX', 'c++')
    if shutil.which(compiler) is None:
        return ('There is no C++ compiler {}, which mmcv\'s ops are compiled '
                'with: install one (apt install g++, dnf install gcc-c++), or '
                'name yours in the environment variable CXX'.format(compiler))
    command = [
        compiler, '-std=c++17', '-fsyntax-only',
        '-I' + sysconfig.get_paths()['include'], '-x', 'c++', '-'
    ]
    tried = subprocess.run(
        command,
        input=PROGRAM,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True)
    if tried.returncode:
        said = [line for line in tried.stdout.splitlines() if 'error' in line]
        return ('{} cannot compile C++17 with Python\'s headers ({}): install '
                'g++ 9 or newer, and the headers of {} (apt install '
                'python{}.{}-dev)'.format(compiler,
                                          (said
                                           or ['no reason given'])[0].strip(),
                                          sys.executable, *sys.version_info))
    return None


def check_disk(folder):
    """Say that a disk is too full, if so.

    Args:
        folder (str): Where the environment goes.
    """
    existing = os.path.abspath(folder)
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    free = shutil.disk_usage(existing).free / 1e9
    if free < GIGABYTES:
        return ('{} has {:.1f} GB free, but the set-up takes {} GB: make '
                'room, or name a folder on another disk by make install '
                'VENV=FOLDER'.format(existing, free, GIGABYTES))
    return None


def check_torch(stack):
    """Say what is wrong with torch, which mmcv is compiled against."""
    command = TORCH.format(stack)
    from importlib.metadata import PackageNotFoundError, requires, version
    try:
        torch = version('torch')
    except PackageNotFoundError:
        return ('{} has no torch, which mmcv\'s ops are compiled against: '
                '{}'.format(sys.executable, command))
    try:
        torchvision = version('torchvision')
    except PackageNotFoundError:
        return ('{} has torch {}, but not the torchvision that belongs to it '
                'and that the libraries import: {}'.format(
                    sys.executable, torch, command))
    # 'torch==2.11.0'; a build for some device has '+cu128' behind that.
    pinned = [
        line.partition('==')[2].strip()
        for line in requires('torchvision') or () if line.startswith('torch==')
    ]
    if pinned and pinned[0].split('+')[0] != torch.split('+')[0]:
        return ('{} has torch {}, but torchvision {}, which belongs to torch '
                '{}: {}'.format(sys.executable, torch, torchvision, pinned[0],
                                command))
    return None


def main():
    """Say all that is missing, or nothing."""
    stack = sys.argv[1] if sys.argv[1:] else None
    if stack not in PYTHONS:
        sys.exit('the first argument is {!r}, one of {} is expected'.format(
            stack, ', '.join(sorted(PYTHONS))))
    missing = check_python(stack)
    # The other checks need what only a new one has.
    if missing is None:
        folder = sys.argv[2] if sys.argv[2:] else None
        last = check_torch(stack) if folder is None else check_disk(folder)
        compiler = None if stack == 'light' else check_compiler()
        missing = '\n'.join(filter(None, [compiler, last]))
    sys.exit(missing or 0)


if __name__ == '__main__':
    main()
