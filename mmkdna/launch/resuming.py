"""The newest whole checkpoint of a run that was interrupted."""
from __future__ import annotations
import glob
import os
import os.path as osp
import re

from mmengine.config import Config

from ..checkpoints.files import CheckpointError, load_with_state
from ..checkpoints.writing import unfinished_name


def find_newest(cfg: Config) -> tuple[str | None, list[str]]:
    """Find the newest whole checkpoint that a run has left.

    Files that a killed process had not finished are deleted.

    Args:
        cfg (Config): The config, with its work_dir.

    Returns:
        tuple[str | None, list[str]]: Its path, None if there is none, and
        what there is to say about newer ones that were passed over.
    """
    named = _named(cfg.work_dir)
    if named and '://' in named:
        return named, []
    passed_over = []
    if named is not None and not osp.exists(named):
        passed_over.append(
            f'{osp.join(cfg.work_dir, "last_checkpoint")} is passed over by '
            f'--resume: it names {named!r}, but there is no such file')
    folders = {cfg.work_dir, _out_dir(cfg)}
    for folder in folders:
        _delete_unfinished(folder)
    for path in _newest_first(folders, cfg, named):
        try:
            # A folder has the parts that the processes of FSDP have saved.
            parts = sorted(glob.glob(osp.join(glob.escape(path), '*.pth')))
            for part in parts or [path]:
                load_with_state(part)
        except (CheckpointError, FileNotFoundError) as error:
            passed_over.append(f'{path} is passed over by --resume: {error}')
        else:
            return path, passed_over
    return None, passed_over


def _named(work_dir: str) -> str | None:
    """What last_checkpoint names; None if it is not there."""
    path = osp.join(work_dir, 'last_checkpoint')
    if not osp.isfile(path):
        return None
    with open(path, encoding='utf-8', errors='replace') as file:
        return file.read().strip()


def _hook(cfg: Config) -> dict:
    return (cfg.get('default_hooks') or {}).get('checkpoint') or {}


def _out_dir(cfg: Config) -> str:
    """Where mmengine's CheckpointHook saves."""
    out_dir = _hook(cfg).get('out_dir')
    if not out_dir:
        return cfg.work_dir
    return osp.join(str(out_dir), osp.basename(cfg.work_dir.rstrip(os.sep)))


def _newest_first(folders: set[str], cfg: Config,
                  named: str | None) -> list[str]:
    """All checkpoints of a run but its best ones, by the time of saving.

    What last_checkpoint names comes first, unless it is clear that another one
    was saved after it: times alone do not survive copying.
    """
    hook = _hook(cfg)
    usual = 'epoch_{}.pth' if hook.get('by_epoch', True) else 'iter_{}.pth'
    before, _, after = (hook.get('filename_tmpl') or usual).partition('{}')
    pattern = re.compile(f'{re.escape(before)}([0-9]+){re.escape(after)}')
    found = {}
    for folder in folders:
        for name in os.listdir(folder) if osp.isdir(folder) else ():
            match = pattern.fullmatch(name)
            if match:
                path = osp.join(folder, name)
                found[path] = osp.getmtime(path), int(match[1])
    paths = sorted(found, key=lambda path: found[path], reverse=True)
    same = [path for path in paths if named and _same(path, named)]
    if named and not same and osp.exists(named):
        return [named, *paths]
    if not same:
        return paths
    time, number = found[same[0]]
    later = [p for p in paths if found[p][0] > time and found[p][1] > number]
    return [
        *later, same[0], *(p for p in paths if p not in later and p != same[0])
    ]


def _same(path: str, named: str) -> bool:
    # A work_dir may have been moved since.
    return osp.basename(path) == osp.basename(named)


def _delete_unfinished(folder: str) -> None:
    for path in glob.glob(
            unfinished_name(osp.join(glob.escape(folder), '*.pth'), '*')):
        process = path.rpartition('.')[2]
        if process.isdigit() and not _runs(int(process)):
            os.remove(path)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
