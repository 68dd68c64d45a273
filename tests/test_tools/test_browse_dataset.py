"""Pictures of datasets show each label where it belongs."""
import cv2
import numpy as np
import pytest
from mmengine.config import Config

from tests.runs import CONFIGS, load_tool, pictures, run_tool

TOOL = 'analysis_tools/browse_dataset'
DETECTOR = str(CONFIGS / 'shapes' /
               'retinanet_r18-half-kdna-conv_fpn_12e_shapes.py')
SEGMENTOR = str(CONFIGS / 'shapes' /
                'fpn_r18-half-kdna_1xb16-700_shapes-128x128.py')
# Colours fade at edges, and in a JPEG.
NEAR = 60


@pytest.fixture
def browse(shapes, monkeypatch, tmp_path):
    """Run the tool where the data is; returns the pictures."""
    monkeypatch.chdir(shapes)

    def run(*args):
        monkeypatch.setattr(
            'sys.argv',
            [TOOL, *args, '--not-show', '--output-dir',
             str(tmp_path / 'out')])
        load_tool(TOOL).main()
        return pictures(tmp_path / 'out')

    return run


def is_near(picture, colors):
    """Where a picture has a colour, which is given in RGB."""
    difference = picture[..., ::-1].astype(int) - np.array(colors)
    return np.abs(difference).max(-1) < NEAR


def test_boxes(browse, shapes):
    """Those of the second picture, though tests load them unscaled."""
    pytest.importorskip('mmdet')
    from pycocotools.coco import COCO
    drawn = browse(DETECTOR, '--split', 'val')
    assert list(drawn) == ['0_000000.jpg', '1_000001.jpg']
    palette = Config.fromfile(DETECTOR).metainfo.palette
    coco = COCO(shapes / 'data/shapes/annotations/instances_val.json')
    for picture, boxes in zip(drawn.values(), coco.imgToAnns.values()):
        assert picture.shape == (128, 128, 3)
        for box in boxes:
            x, y, width, height = [round(2 * side) for side in box['bbox']]
            color = palette[box['category_id'] - 1]
            there = is_near(picture, color)
            right, bottom = min(x + width, 126), min(y + height, 126)
            # Other boxes and names hide some of the four edges.
            edges = [
                there[line:line + 2, x:right].any(0) for line in (y, bottom)
            ]
            edges += [
                there[y:bottom, line:line + 2].any(1) for line in (x, right)
            ]
            assert max(edge.mean() for edge in edges) > 0.6


@pytest.mark.parametrize('split', ['train', 'val'])
def test_segments(browse, shapes, split):
    pytest.importorskip('mmseg')
    drawn = browse(SEGMENTOR, '--split', split, '--number', '1',
                   '--cfg-options', 'visualizer.alpha=1.',
                   'train_dataloader.dataset.pipeline.3.prob=0.')
    (name, picture), = drawn.items()
    assert name == '0_000000.jpg'
    folder = dict(train='training', val='validation')[split]
    labels = cv2.imread(
        str(shapes / f'data/shapes/annotations/{folder}/000000.png'),
        cv2.IMREAD_UNCHANGED)
    labels = labels.repeat(2, 0).repeat(2, 1)
    palette = np.array(Config.fromfile(SEGMENTOR).metainfo.palette)
    # All but what the names of the classes hide.
    assert is_near(picture, palette[labels - 1]).mean() > 0.7


def test_classes(classifier):
    pytest.importorskip('mmpretrain')
    run_tool(
        TOOL,
        'tiny.py',
        '--not-show',
        '--output-dir',
        'out',
        '--number',
        '5',
        cwd=classifier)
    drawn = pictures(classifier / 'out')
    assert [name[:6] for name in drawn
            ] == ['0_brig', '1_brig', '2_brig', '3_brig', '4_dark']
    given = pictures(classifier / 'data' / 'bright')['bright0.png']
    assert drawn['0_bright0.png'].shape == given.shape
    # Below the label, nothing is changed.
    assert np.abs(drawn['0_bright0.png'][-8:].astype(int) -
                  given[-8:]).mean() < 12


@pytest.mark.parametrize(
    'args, said', [
        (['tiny.py', '--not-show'], ['--not-show', '--output-dir FOLDER']),
        (['tiny.py', '--number', '0'], ['--number 0', 'at least 1']),
        (['tiny.py', '--number', '-1'], ['--number -1', 'at least 1']),
        (['none.py'], ['none.py', 'there is no such file']),
        (['tiny.py', '--cfg-options', 'val_dataloader=None', '--split', 'val'
          ], ['tiny.py', 'no val_dataloader']),
        ([
            'tiny.py', '--cfg-options',
            'train_dataloader.dataset.data_root=none'
        ], ['none', 'train_dataloader.dataset.data_root=PATH']),
    ],
    ids=lambda value: ' '.join(value[:3]))
def test_refuses(classifier, refuse, args, said):
    pytest.importorskip('mmpretrain')
    message = refuse(TOOL, *args)
    for part in said:
        assert part in message
