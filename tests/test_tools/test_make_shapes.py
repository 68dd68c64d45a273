"""The generated dataset is what its two layouts say it is."""
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

COCO = pytest.importorskip('pycocotools.coco').COCO
ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'dataset_converters' / 'make_shapes.py'
BASES = ROOT / 'configs' / '_base_' / 'datasets'
NUM_TRAIN, NUM_VAL, SIZE = 12, 3, 96


def load_tool():
    spec = importlib.util.spec_from_file_location('make_shapes', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


def make(folder, **kwargs):
    kwargs = {
        **dict(num_train=NUM_TRAIN, num_val=NUM_VAL, size=SIZE),
        **kwargs
    }
    tool.make_shapes(folder, **kwargs)
    return folder


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*') if path.is_file()
    }


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return make(tmp_path_factory.mktemp('data') / 'shapes')


def dataset(name, split, root):
    """The dataset of a config of ours, on the shapes of a test."""
    cfg = Config.fromfile(BASES / f'{name}.py')
    cfg = cfg[f'{split}_dataloader'].dataset
    cfg.data_root = str(root)
    if name == 'shapes_detection':
        pytest.importorskip('mmdet')
        init_default_scope('mmdet')
        from mmdet.registry import DATASETS
    else:
        pytest.importorskip('mmseg')
        init_default_scope('mmseg')
        from mmseg.registry import DATASETS
    # The last steps before packing; they keep size and orientation.
    cfg.pipeline = [
        step for step in cfg.pipeline
        if step.type not in ('Resize', 'RandomFlip', 'PackDetInputs',
                             'PackSegInputs')
    ]
    return DATASETS.build(cfg)


def coco(root, split):
    return COCO(str(root / 'annotations' / f'instances_{split}.json'))


def test_same_seed_same_bytes(shapes, tmp_path):
    assert content(make(tmp_path / 'again')) == content(shapes)


def test_other_seed_other_images(shapes, tmp_path):
    first, second = content(shapes), content(make(tmp_path / 'b', seed=1))
    assert first.keys() == second.keys()
    images = [name for name in first if name.endswith('.jpg')]
    assert len(images) == NUM_TRAIN + NUM_VAL
    assert len({first[name]
                for name in images}
               | {second[name]
                  for name in images}) == 2 * len(images)


def test_images_do_not_depend_on_their_number(shapes, tmp_path):
    fewer = content(make(tmp_path / 'fewer', num_train=2, num_val=1))
    more = content(shapes)
    images = [name for name in fewer if name.endswith(('.jpg', '.png'))]
    assert len(images) == 6
    assert all(fewer[name] == more[name] for name in images)


def test_images_are_stored_once(shapes):
    files = content(shapes)
    assert sorted(name for name in files if not name.endswith('.png')) == [
        'annotations/instances_train.json', 'annotations/instances_val.json'
    ] + [f'images/training/{i:06d}.jpg' for i in range(NUM_TRAIN)
         ] + [f'images/validation/{i:06d}.jpg'
              for i in range(NUM_VAL)] + ['shapes.json']


@pytest.mark.parametrize('split, number', [('train', NUM_TRAIN),
                                           ('val', NUM_VAL)])
def test_boxes_are_the_extents_of_the_masks(shapes, split, number):
    data = dataset('shapes_detection', split, shapes)
    annotations = coco(shapes, split)
    assert len(data) == number
    assert list(data.metainfo['classes']) == [
        category['name'] for category in annotations.cats.values()
    ]
    for index in range(number):
        info = data.get_data_info(index)
        assert cv2.imread(info['img_path']).shape == (SIZE, SIZE, 3)
        listed = annotations.imgToAnns[info['img_id']]
        assert len(info['instances']) == len(listed) > 0
        for instance, annotation in zip(info['instances'], listed):
            mask = annotations.annToMask(annotation)
            y, x = mask.nonzero()
            assert instance['bbox'] == [
                x.min(), y.min(), x.max() + 1,
                y.max() + 1
            ]
            assert annotation['area'] == mask.sum()
            assert instance['bbox_label'] == annotation['category_id'] - 1


@pytest.mark.parametrize('split', ['train', 'val'])
def test_pixels_of_both_layouts_agree(shapes, split):
    data = dataset('shapes_segmentation', split, shapes)
    annotations = coco(shapes, split)
    names = [category['name'] for category in annotations.cats.values()]
    assert data.metainfo['classes'] == (*names, 'background')
    for index in range(len(data)):
        sample = data[index]
        number = int(Path(sample['img_path']).stem)
        expected = np.full((SIZE, SIZE), len(names))
        covered = np.zeros((SIZE, SIZE), int)
        for annotation in annotations.imgToAnns[number]:
            mask = annotations.annToMask(annotation)
            expected[mask > 0] = annotation['category_id'] - 1
            covered += mask
        assert covered.max() == 1  # visible parts do not overlap
        assert (sample['gt_seg_map'] == expected).all()
        assert sample['img'].shape[:2] == (SIZE, SIZE)


def test_every_class_occurs(shapes):
    numbers = {a['category_id'] for a in coco(shapes, 'train').anns.values()}
    assert numbers == {1, 2, 3, 4, 5, 6}


def test_shapes_hide_one_another(monkeypatch):
    drawn = []
    draw = tool.draw_mask
    monkeypatch.setattr(tool, 'draw_mask',
                        lambda *args: drawn.append(draw(*args)) or drawn[-1])
    shares = []
    for seed in range(20):
        drawn.clear()
        _, visible = tool.draw_sample(np.random.default_rng(seed), SIZE)
        for _, part in visible:
            # Its own mask is one that has all of it.
            whole = min((mask for mask in drawn if (mask | ~part).all()),
                        key=np.sum)
            shares.append(part.sum() / whole.sum())
    assert tool.MIN_VISIBLE <= min(shares) < 0.7
    assert 0.1 < np.mean(np.array(shares) < 1) < 0.7


def test_shapes_and_background_are_textured():
    spreads = []
    for seed in range(20):
        image, visible = tool.draw_sample(np.random.default_rng(seed), SIZE)
        background = ~np.any([part for _, part in visible], axis=0)
        for part in [background] + [part for _, part in visible]:
            spreads.append(image[part].std(0).max())
    assert min(spreads) > 1
    assert np.median(spreads) > 15


@pytest.mark.parametrize('name, value', [('size', 63), ('num_train', 0),
                                         ('num_val', 0), ('seed', -1)])
def test_number_too_small(name, value, tmp_path):
    with pytest.raises(ValueError, match=f'{name}={value} .* expected'):
        make(tmp_path / 'shapes', **{name: value})
    assert not any(tmp_path.iterdir())


def test_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'photo.jpg').write_text('dear to me')
    with pytest.raises(FileExistsError, match='mine.* holds no shapes: name'):
        make(tmp_path / 'mine')
    with pytest.raises(FileExistsError):
        make(tmp_path / 'mine' / 'photo.jpg')
    assert content(tmp_path) == {'mine/photo.jpg': b'dear to me'}


def test_older_shapes_are_replaced(shapes, tmp_path):
    (tmp_path / 'shapes').mkdir()  # an empty folder will do
    make(tmp_path / 'shapes', num_train=1, num_val=1, seed=3)
    make(tmp_path / 'shapes')
    assert content(tmp_path / 'shapes') == content(shapes)
    assert list(tmp_path.iterdir()) == [tmp_path / 'shapes']


def test_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    older = content(make(tmp_path / 'shapes', num_train=1, num_val=1))

    def full(path, image):
        raise OSError(f'{path} cannot be written')

    monkeypatch.setattr(tool, 'write_image', full)
    for folder in (tmp_path / 'shapes', tmp_path / 'new'):
        with pytest.raises(OSError, match='cannot be written'):
            make(folder)
    assert content(tmp_path / 'shapes') == older
    assert list(tmp_path.iterdir()) == [tmp_path / 'shapes']


def test_command_line(tmp_path):

    def call(*args):
        return subprocess.run(
            [sys.executable, str(TOOL), *args],
            cwd=tmp_path,
            capture_output=True,
            text=True)

    small = ['--num-train', '2', '--num-val', '1', '--size', '64']
    done = call(*small, '--seed', '5')
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / 'data/shapes/shapes.json').read_text())
    assert record == dict(num_train=2, num_val=1, size=64, seed=5)
    (tmp_path / 'data' / 'shapes' / 'shapes.json').unlink()
    done = call(*small)
    assert done.returncode == 1
    assert 'make_shapes.py: error: ' in done.stderr
    assert 'Traceback' not in done.stderr
