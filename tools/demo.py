"""Train and test a detector and a segmentor on shapes, and show the results.

Makes the shapes unless ``data/shapes`` is there, then runs tools/train.py and
tools/test.py for both configs of configs/shapes. Leaves in work_dirs/demo::

    detection/, segmentation/            logs and checkpoints of the trainings
    detection/test/, segmentation/test/  and those of the tests
    detection/predictions.pkl, ...       what the models see in the images
    detection/pictures/, ...             the same, beside the ground truth
    pictures.jpg                         some of it in one picture
    losses.png                           the loss curves
    summary.json                         the numbers of the printed table
"""
from __future__ import annotations
import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.registry import MODELS, DefaultScope
from pycocotools.coco import COCO

import mmkdna
from mmkdna.launch.command import command

ROOT = Path(__file__).resolve().parent.parent
SHAPES = Path('data/shapes')
OUT = Path('work_dirs/demo')
CONFIGS = dict(
    detection='retinanet_r18-half-kdna-conv_fpn_12e_shapes',
    segmentation='fpn_r18-half-kdna_1xb16-700_shapes-128x128')
# How the host libraries call the metric, what we call it, and its unit.
METRICS = dict(
    detection=('coco/bbox_mAP', 'box_AP', 1),
    segmentation=('mIoU', 'mIoU', 100))
# Two steps of training each: shows that it works, not how well.
QUICK = dict(
    detection=[
        'train_cfg.max_epochs=1', 'train_dataloader.num_batch_per_epoch=2',
        'default_hooks.logger.interval=1'
    ],
    segmentation=['train_cfg.max_iters=2', 'default_hooks.logger.interval=1'])


def config_path(task):
    """The config of a task."""
    return ROOT / 'configs' / 'shapes' / f'{CONFIGS[task]}.py'


def run(tool: str, *args: object) -> None:
    """Run a tool of this folder; if it fails, end with its exit code."""
    command = [str(ROOT / 'tools' / tool), *map(str, args)]
    code = subprocess.run([sys.executable, *command]).returncode
    if code:
        print(
            f'demo.py: error: {" ".join(command)} ended with exit code '
            f'{code}; what it says stands above',
            file=sys.stderr)
        # A negative code is a signal, which a shell calls 128 and more.
        sys.exit(code if code > 0 else 128 - code)


def train_and_test(task: str, quick: bool,
                   flags: list[str]) -> tuple[float, float]:
    """Train and test the model of a task, in processes of their own.

    Args:
        task (str): 'detection' or 'segmentation'.
        quick (bool): Whether to train for two steps only.
        flags (list[str]): What both tools are given in addition.

    Returns:
        tuple[float, float]: The metric, from 0 to 1, and the seconds taken.
    """
    start = time.time()
    folder = OUT / task
    options = ['--cfg-options', *QUICK[task]] if quick else []
    run('train.py', config_path(task), '--work-dir', folder, *options, *flags)
    checkpoint = (folder / 'last_checkpoint').read_text().strip()
    run('test.py', config_path(task), checkpoint, '--work-dir',
        folder / 'test', '--show-dir', folder / 'pictures', '--out',
        folder / 'predictions.pkl', *flags)
    # Of what lies in a work_dir, the folder of the last run has the last name.
    results = sorted((folder / 'test').glob('*/*.json'))[-1]
    key, _, unit = METRICS[task]
    # A detector that finds nothing at all gets no AP from mmdet.
    metric = json.loads(results.read_text()).get(key, 0) / unit
    return metric, time.time() - start


def count(task):
    """How much the model of a task shares.

    Args:
        task (str): 'detection' or 'segmentation'.

    Returns:
        dict[str, int]: Numbers of parameters, of parameters saved and of
        children.
    """
    cfg = Config.fromfile(config_path(task))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    table = mmkdna.sharing_table(model)
    return dict(
        parameters=sum(p.numel() for p in model.parameters()),
        saved_parameters=table.saved_parameters,
        children=table.children)


def draw_losses(path):
    """Draw the loss of both trainings over their steps.

    Args:
        path (Path): Picture to write.
    """
    matplotlib.use('agg')
    from matplotlib import pyplot as plt
    figure, axes = plt.subplots(
        1, len(CONFIGS), figsize=(9, 3.5), layout='constrained')
    for axis, task in zip(axes, CONFIGS):
        scalars = sorted((OUT / task).glob('*/vis_data/scalars.json'))[-1]
        logged = map(json.loads, scalars.read_text().splitlines())
        logged = [line for line in logged if 'loss' in line]
        for name in sorted(set().union(*logged)):
            if 'loss' in name and (name == 'loss' or task == 'detection'):
                axis.plot([line['step'] for line in logged],
                          [line[name] for line in logged],
                          label=name)
        axis.set(title=task, xlabel='step', ylabel='loss', ylim=(0, None))
        axis.legend()
    figure.savefig(path)


def draw_pictures(path, rows=3, scale=1.5):
    """Draw what both models see beside what is there.

    Args:
        path (Path): Picture to write.
        rows (int): How many images to show. Defaults to 3.
        scale (float): How much larger to show them. Defaults to 1.5.
    """
    dataset = Config.fromfile(config_path('detection')).test_dataloader.dataset
    names, palette = dataset.metainfo.classes, dataset.metainfo.palette
    # BGR, with black for the background.
    colours = np.array([*palette, (0, 0, 0)], np.uint8)[:, ::-1]
    truth = COCO(str(SHAPES / dataset.ann_file))
    detected, segmented = (
        load(OUT / task / 'predictions.pkl') for task in CONFIGS)

    def enlarge(image):
        return cv2.resize(
            image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)

    def boxed(image, boxes, labels):
        image = enlarge(image)
        for box, label in zip(np.array(boxes) * scale, labels):
            x1, y1, x2, y2 = np.round(box).astype(int).tolist()
            cv2.rectangle(image, (x1, y1), (x2, y2), (255, 255, 255), 4)
            cv2.rectangle(image, (x1, y1), (x2, y2), colours[label].tolist(),
                          2)
        return image

    def painted(image, labels):
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None]
        image = grey.repeat(3, axis=2)
        return enlarge(cv2.addWeighted(image, 0.3, colours[labels], 0.7, 0))

    lines = []
    # Both tests go through the images in the order of their names.
    for boxes, pixels in list(zip(detected, segmented))[:rows]:
        image = cv2.imread(boxes['img_path'])
        listed = truth.imgToAnns[boxes['img_id']]
        labels = cv2.imread(
            str(SHAPES / 'annotations' / 'validation' /
                f'{Path(pixels["img_path"]).stem}.png'), cv2.IMREAD_UNCHANGED)
        found = boxes['pred_instances']
        # The surest last, on top of the others.
        sure = found['scores'].argsort()
        sure = sure[found['scores'][sure] > 0.5]
        corners = np.array([a['bbox'] for a in listed], float)
        corners[:, 2:] += corners[:, :2]
        lines.append(
            np.hstack([
                boxed(image, corners, [a['category_id'] - 1 for a in listed]),
                boxed(image, found['bboxes'][sure].numpy(),
                      found['labels'][sure].numpy()),
                painted(image, labels - 1),
                painted(image, pixels['pred_sem_seg']['data'][0].numpy())
            ]))
    width = lines[0].shape[1]
    head = np.full((44, width, 3), 255, np.uint8)

    def write(text, x, y, colour):
        cv2.putText(head, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour,
                    1, cv2.LINE_AA)

    for i, text in enumerate(('boxes: truth', 'boxes: predicted',
                              'classes: truth', 'classes: predicted')):
        write(text, i * width // 4 + 4, 16, (0, 0, 0))
    for i, name in enumerate(names):
        write(name, i * width // len(names) + 4, 36, colours[i].tolist())
    cv2.imwrite(
        str(path), np.vstack([head, *lines]), [cv2.IMWRITE_JPEG_QUALITY, 85])


def summarize(metrics, seconds, counts):
    """Print the results as a table and write them to summary.json.

    Args:
        metrics (dict[str, float]): The metric of each task.
        seconds (dict[str, float]): The seconds each task has taken.
        counts (dict[str, dict]): What :func:`count` has returned for each.
    """
    summary = {METRICS[task][1]: round(metrics[task], 4) for task in CONFIGS}
    for name in ('children', 'saved_parameters', 'parameters'):
        summary[name] = {task: counts[task][name] for task in CONFIGS}
    summary['seconds'] = {task: round(seconds[task], 1) for task in CONFIGS}
    # Renamed once complete, so that nobody ever reads one half-written.
    temporary = OUT / 'summary.json.tmp'
    temporary.write_text(json.dumps(summary, indent=4) + '\n')
    os.replace(temporary, OUT / 'summary.json')

    row = '{:14}{:>14}{:>14}{:>18}{:>10}{:>10}'.format
    print('\n' + row('', 'metric', 'parameters', 'saved parameters',
                     'children', 'seconds'))
    for task in CONFIGS:
        print(
            row(task, f'{METRICS[task][1]} {metrics[task]:.3f}',
                f'{counts[task]["parameters"]:,}',
                f'{counts[task]["saved_parameters"]:,}',
                counts[task]['children'], f'{seconds[task]:.0f}'))
    print(f'\nPictures, loss curves and summary.json are in {OUT}')


def get_parser() -> argparse.ArgumentParser:
    """The arguments of demo.py."""
    parser = argparse.ArgumentParser(
        description='Train and test a detector and a segmentor on generated '
        f'shapes; results go to {OUT}')
    parser.add_argument(
        '--quick',
        action='store_true',
        help='train for two steps each, which shows that it works but not '
        'how well')
    return parser


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Make shapes, train, test and show."""
    flags = ['--traceback'] * args.traceback
    OUT.mkdir(parents=True, exist_ok=True)
    # An old one would pass for that of a run that fails.
    (OUT / 'summary.json').unlink(missing_ok=True)
    if not (SHAPES / 'shapes.json').is_file():
        run('dataset_converters/make_shapes.py', SHAPES, *flags)
    metrics, seconds = {}, {}
    for task in CONFIGS:
        metrics[task], seconds[task] = train_and_test(task, args.quick, flags)
    draw_losses(OUT / 'losses.png')
    draw_pictures(OUT / 'pictures.jpg')
    summarize(metrics, seconds, {task: count(task) for task in CONFIGS})


if __name__ == '__main__':
    main()
