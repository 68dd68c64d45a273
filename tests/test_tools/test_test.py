"""What the arguments of tools/test.py do, and what it refuses."""
import pickle

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import mmkdna  # noqa: F401
from tests.runs import load_tool, pictures, run_tool


def save_model(config, checkpoint):
    """Save the model of a config as it is built."""
    cfg = Config.fromfile(config)
    if cfg.get('data_preprocessor'):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), checkpoint)


def load(file):
    return pickle.loads(file.read_bytes())


def test_classifier(classifier):
    pytest.importorskip('mmpretrain')
    save_model('tiny.py', 'tiny.pth')
    out = run_tool(
        'test',
        'tiny.py',
        'tiny.pth',
        '--out',
        'out/plain.pkl',
        '--show-dir',
        'shown',
        cwd=classifier)
    assert 'accuracy/top1' in out
    plain = load(classifier / 'out' / 'plain.pkl')
    assert len(plain) == 8
    assert len(pictures(classifier / 'shown')) == 8
    for name, picture in pictures(classifier / 'shown').items():
        clean = cv2.imread(
            str(classifier / 'data' / name.split('.')[0][:-1] /
                name.replace('_0.png', '')))
        assert (picture != clean).any(), 'nothing is written on it'

    # The test images are not shuffled, here for once.
    run_tool(
        'test',
        'tiny.py',
        'tiny.pth',
        '--tta',
        '--out',
        'flipped.pkl',
        '--work-dir',
        'elsewhere',
        cwd=classifier)
    flipped = load(classifier / 'flipped.pkl')
    scores = [{
        sample['img_path']: sample['pred_score']
        for sample in samples
    } for samples in (plain, flipped)]
    for path, score in scores[0].items():
        assert not torch.equal(score, scores[1][path])
        assert torch.allclose(score, scores[1][path], atol=0.1)
    assert list((classifier / 'elsewhere').iterdir())


@pytest.mark.parametrize('task, scope, measure, prediction, names', [
    ('detector', 'mmdet', 'coco/bbox_mAP:', 'pred_instances',
     ['{0:06}.jpg', '{0:06}.jpg']),
    ('segmentor', 'mmseg', 'mIoU:', 'pred_sem_seg',
     ['{0:06}.jpg', 'test_{0:06}.jpg_']),
])
def test_draws_beside_ground_truth(shapes, task, scope, measure, prediction,
                                   names):
    pytest.importorskip(scope)
    folder = shapes
    save_model(folder / f'{task}.py', folder / f'{task}.pth')
    shown = {}
    for flags in ([], ['--tta']):
        kind = task + ''.join(flags)
        out = run_tool(
            'test',
            f'{task}.py',
            f'{task}.pth',
            *flags,
            '--out',
            f'{kind}.pkl',
            '--show-dir',
            f'shown/{kind}',
            '--work-dir',
            kind,
            cwd=folder)
        assert measure in out
        predictions = load(folder / f'{kind}.pkl')
        assert len(predictions) == 2
        for sample in predictions:
            assert prediction in sample
            assert 'seg_logits' not in sample
            assert not any(key.startswith('gt_') for key in sample)
        shown[kind] = pictures(folder / 'shown' / kind)

    originals = folder / 'data' / 'shapes' / 'images' / 'validation'
    for i in range(2):
        name, start = (name.format(i) for name in names)
        original = cv2.imread(str(originals / name))
        # Some versions number them from 0 and others from 1.
        plain, flipped = (
            found.pop(next(key for key in found
                           if key.startswith(start))).astype(float)
            for found in shown.values())
        assert plain.shape == flipped.shape == (64, 128, 3)
        # Ground truth on the left, not mirrored where the prediction is one
        # of mirrored images, too.
        truth = plain[:, :60]
        assert np.abs(truth - original[:, :60]).max() > 50
        assert np.abs(truth - flipped[:, :60]).mean() < 3
        assert np.abs(truth - plain[:, 64:124]).mean() > 5
    assert not any(shown.values())


@pytest.mark.parametrize(
    'args, said', [
        (['none.py', 'tiny.pth'], ['none.py', 'there is no such file']),
        (['nothing.py', 'tiny.pth'
          ], ['nothing.py', 'has no model, test_dataloader']),
        (['tiny.py', 'none.pth'
          ], ['none.pth', 'checkpoint', 'there is no such file']),
        (['tiny.py', 'tiny.pth', '--out', 'tiny.py/out.pkl'
          ], ['tiny.py is no folder: choose another place']),
        (['tiny.py', 'tiny.pth', '--out', 'out.json'
          ], ['--out out.json', '*.pkl']),
        (['tiny.py', 'tiny.pth', '--show-dir', 'shown', '--tta'
          ], ['--show-dir', '--tta', 'one of them']),
        ([
            'tiny.py', 'tiny.pth', '--show-dir', 'shown', '--cfg-options',
            'default_scope=mmengine'
        ], ['--show-dir', 'mmengine', 'mmpretrain']),
        ([
            'tiny.py', 'tiny.pth', '--tta', '--cfg-options',
            'default_scope=mmengine'
        ], ['--tta', 'mmengine', 'tta_model']),
        ([
            'tiny.py', 'tiny.pth', '--cfg-options',
            'test_dataloader.dataset.data_root=none'
        ], ['none is expected', 'test_dataloader']),
        (['tiny.py', 'tiny.pth', '--cfg-options', 'model.backbone.depth=19'
          ], ['depth=19', '(18, 34, 50, 101)']),
    ],
    ids=lambda value: ' '.join(value[-2:]))
def test_refuses(classifier, refuse, args, said):
    pytest.importorskip('mmpretrain')
    (classifier / 'nothing.py').write_text('lr = 0.1')
    torch.save({}, classifier / 'tiny.pth')
    message = refuse('test', *args)
    for part in said:
        assert part in message


def test_refuses_what_the_runner_cannot_build(classifier, monkeypatch):
    pytest.importorskip('mmpretrain')
    save_model('tiny.py', 'tiny.pth')
    monkeypatch.setattr('sys.argv', [
        'test', 'tiny.py', 'tiny.pth', '--cfg-options',
        'test_evaluator.type=Accuracyy'
    ])
    with pytest.raises(SystemExit, match='test_evaluator .*Accuracyy'):
        load_tool('test').main()


def test_tta_of_the_config_comes_first():
    cfg = Config(
        dict(
            default_scope='mmdet',
            model=dict(type='A'),
            tta_model=dict(type='B'),
            tta_pipeline=[dict(type='C')],
            test_dataloader=dict(
                dataset=dict(datasets=[dict(pipeline=[dict(type='D')])] * 2))))
    load_tool('test').augment(cfg)
    assert cfg.model == dict(type='B', module=dict(type='A'))
    for dataset in cfg.test_dataloader.dataset.datasets:
        assert dataset.pipeline == [dict(type='C')]
