"""The smallest models and data that a tool can run."""
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.runs import CONFIGS, load_tool

CLASSIFIER = f'''
_base_ = [
    '{CONFIGS}/_base_/mmkdna.py', 'mmpretrain::_base_/default_runtime.py'
]
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='KernelDNAResNet', depth=18, base_channels=8, stem_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=2, in_channels=64, topk=(1, ),
        loss=dict(type='CrossEntropyLoss')))
data_preprocessor = dict(num_classes=2, mean=[127.5] * 3, std=[60.] * 3)
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=2, num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset', data_root='data', with_label=True,
        pipeline=pipeline))
test_dataloader = val_dataloader = train_dataloader
test_evaluator = val_evaluator = dict(type='Accuracy', topk=(1, ))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(logger=dict(interval=1))
randomness = dict(seed=0)
'''
TESTED = f'''
_base_ = [
    '{CONFIGS}/_base_/mmkdna.py', '{CONFIGS}/_base_/models/%s_shapes.py',
    '{CONFIGS}/_base_/datasets/shapes_%s.py', '%s::_base_/default_runtime.py'
]
model = dict(backbone=dict(type='KernelDNAResNet'), %s)
test_dataloader = dict(num_workers=0, persistent_workers=False)
test_cfg = dict(type='TestLoop')
train_dataloader = val_dataloader = val_evaluator = None
default_hooks = dict(visualization=dict(%s))
'''
DETECTOR = TESTED % ('retinanet_r18-half_fpn', 'detection', 'mmdet',
                     'test_cfg=dict(score_thr=0., max_per_img=5)',
                     'score_thr=0.')
SEGMENTOR = TESTED % ('fpn_r18-half', 'segmentation', 'mmseg', '', '')


def make_classes(folder):
    """Four pictures of each of two classes, dark and bright."""
    random = np.random.RandomState(0)
    for name, level in (('dark', 60), ('bright', 150)):
        (folder / name).mkdir(parents=True)
        for i in range(4):
            picture = random.randint(0, 60, (32, 32, 3)) + level
            cv2.imwrite(str(folder / name / f'{name}{i}.png'), picture)


@pytest.fixture
def classifier(tmp_path, monkeypatch):
    """The current folder, with a classifier's config and data."""
    (tmp_path / 'tiny.py').write_text(CLASSIFIER)
    make_classes(tmp_path / 'data')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    """A folder with a detector's and a segmentor's config and data."""
    pytest.importorskip('pycocotools')  # encodes the masks
    folder = tmp_path_factory.mktemp('shapes')
    (folder / 'detector.py').write_text(DETECTOR)
    (folder / 'segmentor.py').write_text(SEGMENTOR)
    load_tool('dataset_converters/make_shapes').make_shapes(
        folder / 'data' / 'shapes', num_train=1, num_val=2, size=64)
    return folder


@pytest.fixture
def refuse(capsys, monkeypatch):
    """Run a tool that ends with a message and writes nothing."""

    def run(name, *args, folder='.'):
        before = sorted(Path(folder).rglob('*'))
        monkeypatch.setenv('LOCAL_RANK', '0')
        monkeypatch.setattr('sys.argv', [name, *args])
        with pytest.raises(SystemExit) as stopped:
            load_tool(name).main()
        assert sorted(Path(folder).rglob('*')) == before
        if stopped.value.code == 2:  # argparse writes its message itself
            return capsys.readouterr().err
        message = stopped.value.code
        assert isinstance(message, str) and '\n' not in message
        return message

    return run
