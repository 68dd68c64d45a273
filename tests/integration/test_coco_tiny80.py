"""Mask R-CNN R18-kdna on real pictures: train, save, resume, test, see."""
import re

import cv2
import pytest

from tests.runs import CONFIGS, logged, pictures, real_data, run_tool

pytestmark = pytest.mark.hosts('mmdet')

CONFIG = CONFIGS / 'mask_rcnn' / 'mask-rcnn_r18-kdna_fpn_1x_coco-tiny80.py'
# mmengine keeps no state of the random generators in its checkpoints. So that
# a resumed run can be compared, nothing is random after the start: no flips,
# and samplers so large that they take all.
REDUCED = f'''
_base_ = '{CONFIG}'
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='PackDetInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=(
        'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))
]
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(pipeline=pipeline, indices=6))
val_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(pipeline=test_pipeline, indices=3))
test_dataloader = val_dataloader
model = dict(
    backbone=dict(frozen_stages=-1, norm_eval=False, init_cfg=None),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=100000)),
        rpn_proposal=dict(max_per_img=30),
        rcnn=dict(sampler=dict(num=100000))),
    test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=10)))
train_cfg = dict(max_epochs=4, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.2, by_epoch=False, end=5),
    dict(type='MultiStepLR', by_epoch=True, milestones=[3])
]
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=5e-4))
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=2),
    visualization=dict(score_thr=0.0))
log_processor = dict(window_size=1)
randomness = dict(seed=0)
'''


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with the reduced config and an uninterrupted run of it."""
    real_data('coco_tiny80')
    folder = tmp_path_factory.mktemp('coco_tiny80')
    (folder / 'reduced.py').write_text(REDUCED)
    (folder / 'train.log').write_text(
        run_tool('train', 'reduced.py', cwd=folder))
    return folder


def test_loss_falls(trained):
    losses = list(logged(trained / 'work_dirs' / 'reduced').values())
    assert len(losses) == 12
    # The first and the last of four epochs.
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


def test_says_once_what_is_linked(trained):
    log = (trained / 'train.log').read_text()
    assert log.count('KernelDNA: KernelDNAResNet: ') == 1


def test_validates(trained):
    log = (trained / 'train.log').read_text()
    assert re.search(r'Epoch\(val\) \[4\].*bbox_mAP: \d\.\d', log)


def test_resumes_to_the_same_losses(trained):
    run_tool(
        'train',
        'reduced.py',
        '--work-dir',
        'resumed',
        '--resume',
        'work_dirs/reduced/epoch_2.pth',
        cwd=trained)
    uninterrupted = logged(trained / 'work_dirs' / 'reduced')
    resumed = logged(trained / 'resumed')
    assert list(resumed) == list(range(7, 13))
    for step, loss in resumed.items():
        assert loss == pytest.approx(uninterrupted[step], rel=1e-5), step


def test_tests_and_draws(trained):
    out = run_tool(
        'test',
        'reduced.py',
        'work_dirs/reduced/epoch_4.pth',
        '--show-dir',
        'shown',
        '--work-dir',
        'tested',
        cwd=trained)
    for name in ('bbox', 'segm'):
        assert re.search(rf'coco/{name}_mAP: \d\.\d', out), name
    shown = pictures(trained / 'shown')
    assert len(shown) == 3
    originals = real_data('coco_tiny80') / 'val2017'
    for name, picture in shown.items():
        height, width, _ = cv2.imread(str(originals / name)).shape
        # Ground truth on the left, prediction on the right.
        assert picture.shape[:2] == (height, 2 * width)
