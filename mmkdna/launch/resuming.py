"""The newest whole checkpoint of a run that was interrupted."""
from __future__ import annotations
import os
import os.path as osp
import re

from mmengine.config import Config

from ..checkpoints.files import CheckpointError, load_with_state


def resume_newest(cfg: Config) -> list[str]:
    """Have a run go on from the newest whole checkpoint it has left.

    Without one it begins, from the weights that the config names.

    Args:
        cfg (Config): The config, with its work_dir.

    Returns:
        list[str]: What there is to say about newer ones that were passed over.
    """
    path, passed_over = find_newest(cfg)
    cfg.resume = path is not None
    cfg.load_from = path or cfg.get('load_from')
    return passed_over


def find_newest(cfg: Config) -> tuple[str | None, list[str]]:
    """Find the newest whole checkpoint that a run has left.

    Args:
        cfg (Config): The config, with its work_dir.

    Returns:
        tuple[str | None, list[str]]: Its path, None if there is none, and
        what there is to say about newer ones that were passed over.
    """
    passed_over: list[str] = []
    named = _named(cfg.work_dir, passed_over)
    if named and '://' in named:
        return named, []
    for path in _newest_first({cfg.work_dir, _out_dir(cfg)}, cfg, named):
        try:
            for part in _parts(path):
                load_with_state(part)
        except (CheckpointError, OSError) as error:
            passed_over.append(f'{path} is passed over by --resume: {error}')
        else:
            return path, passed_over
    return None, passed_over


def _named(work_dir: str, passed_over: list[str]) -> str | None:
    """What last_checkpoint names; None if it is not there, or of no use."""
    path = osp.join(work_dir, 'last_checkpoint')
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            named = file.read().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        passed_over.append(f'{path} is passed over by --resume: {error}')
        return None
    if '://' in named or _is_checkpoint(named):
        return named
    passed_over.append(f'{path} is passed over by --resume: it names '
                       f'{named[:200]!r}, but there is no such checkpoint')
    # A work_dir may have been moved since.
    return named or None


def _is_checkpoint(path: str) -> bool:
    """Whether it is a file, or a folder of what FSDP's processes have saved.

    A path that was cut may be a folder, too.
    """
    return osp.isfile(path) or osp.isfile(osp.join(path, 'rank0.pth'))


def _parts(path: str) -> list[str]:
    """The files that a checkpoint has."""
    if not osp.isdir(path):
        return [path]
    processes = int(os.getenv('WORLD_SIZE', 1))
    return [osp.join(path, f'rank{i}.pth') for i in range(processes)]


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
    if not same:
        return [named, *paths] if named and _is_checkpoint(named) else paths
    time, number = found[same[0]]
    later = [p for p in paths if found[p][0] > time and found[p][1] > number]
    return [
        *later, same[0], *(p for p in paths if p not in later and p != same[0])
    ]


def _same(path: str, named: str) -> bool:
    return osp.basename(path) == osp.basename(named)
