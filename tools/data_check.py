"""Whether the data that a config names exists."""
import inspect
import os
import os.path as osp

from mmengine.registry import DATASETS


def check_data(cfg, splits):
    """End the run if the config names data that does not exist.

    Args:
        cfg (Config): The config.
        splits (Sequence[str]): Those that are used of 'train', 'val' and
            'test'.
    """
    for split in splits:
        for dataset in leaf_datasets(cfg.get(f'{split}_dataloader')):
            if _comes_by_itself(dataset, cfg.get('default_scope')):
                continue
            for key, path in _paths(dataset):
                _check_path(path, f'{split}_dataloader, {key}', split, cfg)
        evaluators = cfg.get(f'{split}_evaluator') or []
        if isinstance(evaluators, dict):
            evaluators = [evaluators]
        for evaluator in evaluators:
            if isinstance(evaluator.get('ann_file'), str):
                _check_path(evaluator['ann_file'],
                            f'{split}_evaluator, ann_file', split, cfg)


def leaf_datasets(dataloader):
    """The datasets of a dataloader, out of their wrappers.

    Args:
        dataloader (dict | None): Config of a dataloader or of a dataset.

    Yields:
        dict: Config of a dataset that wraps no other one.
    """
    inner = dataloader or {}
    inner = inner.get('dataset') or inner.get('datasets') or []
    for dataset in inner if isinstance(inner, list) else [inner]:
        if dataset.get('dataset') or dataset.get('datasets'):
            yield from leaf_datasets(dataset)
        else:
            yield dataset


def _comes_by_itself(dataset, scope):
    """Whether a dataset is downloaded when missing, or read from a server."""
    backend = dataset.get('backend_args') or {}
    if backend.get('backend', 'local') != 'local':
        return True
    cls = dataset.get('type')
    if isinstance(cls, str):
        with DATASETS.switch_scope_and_registry(scope) as registry:
            cls = registry.get(cls)
    parameters = inspect.signature(cls).parameters if cls else {}
    return 'download' in parameters and dataset.get('download', True)


def _paths(dataset):
    """The paths a dataset names, joined as mmengine's BaseDataset does."""
    root = dataset.get('data_root') or ''
    if root:
        yield 'data_root', root
    prefix = dataset.get('data_prefix') or {}
    if not isinstance(prefix, dict):
        prefix = {'data_prefix': prefix}
    for key, path in {**prefix, 'ann_file': dataset.get('ann_file')}.items():
        if isinstance(path, str) and path:
            yield key, osp.join(root, path)


def _check_path(path, where, split, cfg):
    if '://' in path or osp.exists(osp.expanduser(path)):
        return
    raise SystemExit(
        f'{path} is expected to hold data ({where} in {cfg.filename}), but '
        f'there is no such file or folder in {os.getcwd()}: put the dataset '
        'there, or name the folder it is in with --cfg-options '
        f'{split}_dataloader.dataset.data_root=FOLDER (and the ann_file of '
        f'{split}_evaluator, if it has one); configs on real pictures read '
        'the environment variable MMKDNA_DATA, and the data of the shapes '
        'configs is made by tools/dataset_converters/make_shapes.py')
