"""Released weights by name: ``checkpoint='mmkdna://NAME'``."""
from __future__ import annotations
import difflib
import hashlib
import os
import os.path as osp
import re
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, Mapping, Sequence
from urllib.parse import unquote, urlparse

import torch
import yaml
from mmengine.dist import barrier, get_dist_info
from mmengine.logging import print_log

from .files import CheckpointError, load_file

SCHEME = 'mmkdna://'
PACKAGE = osp.dirname(osp.dirname(osp.abspath(__file__)))
# In a checkout .mim is links, and messages name what they lead to.
INDEX = osp.realpath(osp.join(PACKAGE, '.mim', 'model-index.yml'))
_HASH = re.compile(r'_\d{8}-([0-9a-f]{8})\.pth$')


def load_from_mmkdna(filename: str,
                     map_location: Any = None) -> dict[str, Any]:
    """Load released weights for mmengine, e.g. as ``load_from``.

    Args:
        filename (str): 'mmkdna://NAME', NAME as in a metafile.
        map_location (str, optional): Same as :func:`torch.load`.

    Returns:
        dict: The checkpoint.

    Raises:
        CheckpointError: See :func:`resolve` and
            :func:`mmkdna.checkpoints.files.load_file`.
    """
    rank, _ = get_dist_info()
    try:
        if rank == 0:
            path = resolve(filename[len(SCHEME):])
    finally:
        # The other ranks find what rank 0 has downloaded, and are not kept
        # waiting if it could not.
        barrier()
    if rank > 0:
        path = resolve(filename[len(SCHEME):])
    print_log(f'{filename} is {path}', logger='current')
    return load_file(path, map_location=map_location)


def resolve(name: str, index: str | None = None) -> str:
    """Find the file of released weights, and make sure that it is the one.

    It is looked for in the folder that the environment variable
    ``MMKDNA_WEIGHTS`` names. Else, where the metafile has a path, it is the
    file that came with mmkdna; where it has an address, it is looked for in
    the cache of ``torch.hub`` and downloaded to there. Wherever it comes from,
    its sha256 has to be the one in its name.

    Args:
        name (str): Name of a model in a metafile.
        index (str, optional): The model-index.yml that imports the metafiles.
            Defaults to None, that of mmkdna.

    Returns:
        str: Path of the file.

    Raises:
        CheckpointError: If there is no such model, it has no weights, they
            are not there or cannot be downloaded, or the file is not the one
            that was released. A bad download is deleted; nothing is unpickled
            here.
    """
    index = index or INDEX
    models = read_models(index)
    if name not in models:
        near = difflib.get_close_matches(name, models)
        raise CheckpointError(
            f'{SCHEME}{name} is given, but no metafile has a model of that '
            f'name. {_list("Closest", near)}{_with_weights(models)}')
    url = models[name].get('Weights')
    if not url:
        raise CheckpointError(
            f'{SCHEME}{name} is given, but no weights were released for this '
            f'model: {models[name]["metafile"]} has no Weights for it. '
            f'{_with_weights(models)} Or train it by '
            f'{models[name].get("Config")} and give the file')
    file = osp.basename(unquote(urlparse(url).path))
    if not _HASH.search(file):
        raise CheckpointError(
            f'{models[name]["metafile"]} has the Weights {url} for {name}; a '
            'file name CONFIG_YYYYMMDD-HASH.pth is expected, HASH the first 8 '
            'digits of its sha256: tools/model_converters/publish_model.py '
            'makes it')
    mirrored = _find_in_mirror(file)
    if mirrored:
        _check(mirrored, 'Copy it to there again from where it was released')
        return mirrored
    if '://' in url:
        if not url.startswith(('https://', 'http://')):
            raise CheckpointError(
                f'{models[name]["metafile"]} has the Weights {url} for '
                f'{name}: an address of the web, or a path beside '
                f'{index}, is expected')
        return _find_or_download(file, url)
    path = _inside(url, index)
    if not osp.isfile(path):
        raise CheckpointError(
            f'{SCHEME}{name} is given, but there is no {path}, which '
            f'{models[name]["metafile"]} has as its Weights: install mmkdna '
            f'again, or put {file} in a folder and name that folder in the '
            'environment variable MMKDNA_WEIGHTS')
    _check(path, 'Install mmkdna again')
    return path


def read_models(index: str | None = None) -> dict[str, dict[str, Any]]:
    """All models of the metafiles.

    Args:
        index (str, optional): See :func:`resolve`.

    Returns:
        dict[str, dict]: Name to entry, which has the path of its metafile
        as 'metafile' in addition.

    Raises:
        FileNotFoundError: If the index or a metafile does not exist.
        CheckpointError: If one is not what is expected, or leads out of the
            folder of the index.
    """
    index = index or INDEX
    models = {}
    for entry in _read_list(index, 'Import'):
        if not isinstance(entry, str):
            raise CheckpointError(f'{index} has an Import that is no path')
        metafile = _inside(entry, index)
        for model in _read_list(metafile, 'Models'):
            if not (isinstance(model, dict)
                    and isinstance(model.get('Name'), str)
                    and isinstance(model.get('Weights') or '', str)):
                raise CheckpointError(
                    f'{metafile} has a model that is none: a Name is '
                    'expected, and Weights, if any, that are a path or an '
                    'address')
            models[model['Name']] = dict(model, metafile=metafile)
    return models


def hash_of(path: str | Path) -> str:
    """The sha256 of a file.

    Args:
        path (str): The file.

    Returns:
        str: 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def _inside(path: str, index: str) -> str:
    """Join a path to the folder of the index, which it must not leave."""
    folder = osp.dirname(index)
    joined = osp.join(folder, path)
    if osp.isabs(path) or osp.normpath(path).split(osp.sep)[0] == osp.pardir:
        raise CheckpointError(f'{path} leads out of the folder of {index}, a '
                              'path in it is expected')
    return joined


def _read_list(path: str, key: str) -> list[Any]:
    """Read the list that a YAML file has under a key."""
    try:
        # mmengine's loader builds any object a YAML file asks for.
        with open(path, encoding='utf-8') as file:
            content = yaml.safe_load(file) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = ' '.join(str(error).split())
        raise CheckpointError(
            f'{path} is expected to be YAML, but it is not: {reason}'
        ) from error
    found = content.get(key) or [] if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise CheckpointError(f'{path} is expected to have a list as {key}')
    return found


def _list(what: str, names: Sequence[str]) -> str:
    return f'{what}: {", ".join(names)}. ' if names else ''


def _with_weights(models: Mapping[str, Mapping[str, Any]]) -> str:
    names = [name for name, model in models.items() if model.get('Weights')]
    return (_list('Models with weights', names)
            or 'No model has released weights. ').rstrip()


def _find_in_mirror(file: str) -> str | None:
    mirror = os.getenv('MMKDNA_WEIGHTS')
    if not mirror:
        return None
    mirror = osp.expanduser(mirror)
    if not osp.isdir(mirror):
        raise CheckpointError(
            f'MMKDNA_WEIGHTS={mirror} is given, but there is no such folder: '
            'name the folder that holds the released files, or unset it to '
            'have them downloaded')
    path = osp.join(mirror, file)
    return path if osp.isfile(path) else None


def _find_or_download(file: str, url: str) -> str:
    path = osp.join(torch.hub.get_dir(), 'checkpoints', file)
    if not osp.isfile(path):
        print_log(f'Downloading {url} to {path}', logger='current')
        os.makedirs(osp.dirname(path), exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, path, progress=os.isatty(0))
        except (OSError, ValueError, HTTPException) as error:
            raise CheckpointError(
                f'{url} cannot be downloaded ({error}). Where there is no '
                'network, put the file in a folder and name that folder in '
                'the environment variable MMKDNA_WEIGHTS') from error
    try:
        _check(path, 'It has been deleted: try again to download it anew')
    except CheckpointError:
        with suppress(FileNotFoundError):
            os.remove(path)
        raise
    return path


def _check(path: str, advice: str) -> None:
    named = _HASH.search(path)
    assert named is not None
    expected, found = named.group(1), hash_of(path)
    if not found.startswith(expected):
        raise CheckpointError(
            f'{path} is not the file that was released: its name asks for a '
            f'sha256 of {expected}..., but it is {found}, with '
            f'{osp.getsize(path):,} bytes. It has not been loaded. {advice}')
