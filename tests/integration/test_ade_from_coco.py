"""UPerNet R18-kdna on real pictures: train, save, resume, test, see."""
import re

import cv2
import pytest

from tests.runs import CONFIGS, logged, pictures, real_data, run_tool

pytestmark = pytest.mark.hosts('mmseg')

CONFIG = (
    CONFIGS / 'upernet' / 'upernet_r18-kdna_4xb4-80k_ade-from-coco-512x512.py')
# mmengine keeps no state of the random generators in its checkpoints. So that
# a resumed run can be compared, nothing is random after the start: no random
# augmentation and no dropout.
REDUCED = f'''
_base_ = '{CONFIG}'
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='Resize', scale=(96, 96), keep_ratio=False),
    dict(type='PackSegInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs')
]
train_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(pipeline=pipeline, indices=4))
val_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(pipeline=test_pipeline, indices=3))
test_dataloader = val_dataloader
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(96, 96)),
    decode_head=dict(channels=64, dropout_ratio=0),
    auxiliary_head=dict(channels=32, dropout_ratio=0))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=3e-3), clip_grad=None)
train_cfg = dict(max_iters=12, val_interval=12)
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=6))
log_processor = dict(window_size=1)
randomness = dict(seed=0)
'''


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with the reduced config and an uninterrupted run of it."""
    real_data('ade_from_coco')
    folder = tmp_path_factory.mktemp('ade_from_coco')
    (folder / 'reduced.py').write_text(REDUCED)
    (folder / 'train.log').write_text(
        run_tool('train', 'reduced.py', cwd=folder))
    return folder


def test_loss_falls(trained):
    losses = list(logged(trained / 'work_dirs' / 'reduced').values())
    assert len(losses) == 12
    # Every step is one over all pictures.
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


def test_validates(trained):
    log = (trained / 'train.log').read_text()
    assert re.search(r'Iter\(val\) .*mIoU: \d+\.\d', log)


def test_resumes_to_the_same_losses(trained):
    run_tool(
        'train',
        'reduced.py',
        '--work-dir',
        'resumed',
        '--resume',
        'work_dirs/reduced/iter_6.pth',
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
        'work_dirs/reduced/iter_12.pth',
        '--show-dir',
        'shown',
        '--work-dir',
        'tested',
        cwd=trained)
    assert re.search(r'Iter\(test\) .*mIoU: \d+\.\d', out)
    shown = pictures(trained / 'shown')
    assert len(shown) == 3
    originals = real_data('ade_from_coco') / 'images' / 'validation'
    for name, picture in shown.items():
        name = re.fullmatch(r'test_(.*)_\d+\.png', name)[1]
        height, width, _ = cv2.imread(str(originals / name)).shape
        # Ground truth on the left, prediction on the right.
        assert picture.shape[:2] == (height, 2 * width)
