"""One config of each family trains by tools/train.py for two iterations.

On real pictures and otherwise as it stands, with its size, pipeline and
optimizer, but without a schedule, for which two iterations are too few.
"""
import pytest
import yaml
from mmengine.config import Config

from tests.runs import CONFIGS, ROOT, logged, real_data, run_tool

# What ends the run, and where the data are.
LEAVES = dict(
    mmdet='''
_base_ = '{config}'
train_cfg = dict(max_epochs=1, val_interval=2)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict({wrapped}indices=4{closed}))
''',
    mmseg='''
_base_ = '{config}'
train_cfg = dict(max_iters=2, val_interval=3)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False)
''',
    mmpretrain='''
_base_ = '{config}'
train_cfg = dict(max_epochs=1, val_interval=2)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
    dataset=dict(
        indices=4, ann_file='labels.txt', data_prefix='images', split=''))
''')
COMMON = '''
param_scheduler = []
val_cfg = val_dataloader = val_evaluator = None
test_cfg = test_dataloader = test_evaluator = None
default_hooks = dict(logger=dict(interval=1))
model = dict(backbone=dict(init_cfg=None){pretrained})
randomness = dict(seed=0)
'''
DATA = dict(
    mmdet=('coco_tiny80', 'data/coco'),
    mmseg=('ade_from_coco', 'data/ade/ADEChallengeData2016'),
    mmpretrain=('imagenet250', 'data/imagenet'))
DATASETS = ('COCO', 'ADE20K', 'ImageNet-1k')


def smallest_configs():
    """Of each folder, the config with fewest parameters that has children.

    What is trained on generated or small data has its tests elsewhere.
    """
    configs = {}
    for path in sorted(CONFIGS.glob('*/metafile.yml')):
        models = [
            model for model in yaml.safe_load(path.read_text())['Models']
            if model['Metadata']['Children']
            and model['Metadata']['Training Data'] in DATASETS
        ]
        if models:
            least = min(models, key=lambda m: m['Metadata']['Parameters'])
            configs[path.parent.name] = ROOT / least['Config']
    return configs


SMALLEST = smallest_configs()


@pytest.mark.slow
@pytest.mark.parametrize('folder', SMALLEST)
def test_trains(folder, tmp_path):
    config = SMALLEST[folder]
    cfg = Config.fromfile(config)
    host = cfg.default_scope
    source, target = DATA[host]
    (tmp_path / target).parent.mkdir(parents=True)
    (tmp_path / target).symlink_to(real_data(source))
    wrapper = cfg.train_dataloader.dataset.get('dataset')
    (tmp_path / 'leaf.py').write_text((LEAVES[host] + COMMON).format(
        config=config,
        wrapped='dataset=dict(' if wrapper else '',
        closed=')' if wrapper else '',
        pretrained=', pretrained=None' if host == 'mmseg' else ''))
    run_tool('train', 'leaf.py', '--work-dir', 'run', cwd=tmp_path)
    losses = logged(tmp_path / 'run', 'loss')
    assert len(losses) == 2
    assert all(0 < loss < 1e4 for loss in losses.values())
    assert len(list((tmp_path / 'run').glob('*.pth'))) == 1
