"""Look at the pictures and labels of a dataset, as a training sees them.

They come out of the pipeline of the config, and are drawn by the visualizer of
its library.
"""
import argparse
import os.path as osp

import numpy as np
from mmengine.registry import DATASETS, VISUALIZERS, init_default_scope
from mmengine.utils import track_iter_progress

import mmkdna  # noqa: F401
from mmkdna.launch.arguments import add_cfg_options
from mmkdna.launch.command import command
from mmkdna.launch.config import read_config
from mmkdna.launch.data_check import check_data, leaf_datasets
from mmkdna.launch.errors import CommandError


def get_parser() -> argparse.ArgumentParser:
    """The arguments of browse_dataset.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--split',
        choices=('train', 'val', 'test'),
        default='train',
        help='which dataset of the config (default: %(default)s)')
    parser.add_argument(
        '--number', type=int, help='how many pictures (default: all)')
    parser.add_argument('--output-dir', help='folder to write pictures to')
    parser.add_argument(
        '--not-show', action='store_true', help='open no window')
    parser.add_argument(
        '--show-interval',
        type=float,
        default=2,
        help='seconds a picture is shown, 0 is until a key is pressed '
        '(default: %(default)s)')
    add_cfg_options(parser)
    return parser


def load_labels_first(dataloader):
    """Have labels go through all that is done to the pictures.

    Tests load them behind that, as they compare in the original size.

    Args:
        dataloader (dict): Config of a dataloader; it is changed.
    """
    for dataset in leaf_datasets(dataloader):
        dataset.pipeline = sorted(
            dataset.pipeline, key=lambda step: 'Load' not in str(step.type))


def draw(visualizer, name, item, **options):
    """Draw what one item of a dataset has.

    Args:
        visualizer (Visualizer): The host library's.
        name (str): What the picture is called.
        item (dict): Packed inputs, (3, H, W) in BGR, and data_samples.
        **options: Of the visualizer.
    """
    # As cv2 wants it, which older visualizers draw with.
    image = np.ascontiguousarray(item['inputs'].flip(0).permute(1, 2, 0))
    sample = item['data_samples']
    if hasattr(visualizer, 'visualize_cls'):
        visualizer.visualize_cls(
            image, sample, draw_pred=False, name=name, **options)
        return
    boxes = sample.get('gt_instances', {}).get('bboxes')
    if hasattr(boxes, 'tensor'):
        sample.gt_instances.bboxes = boxes.tensor
    visualizer.add_datasample(name, image, sample, draw_pred=False, **options)


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Browse."""
    if args.not_show and not args.output_dir:
        raise CommandError(
            '--not-show is given without --output-dir, but the pictures have '
            'to go somewhere: add --output-dir FOLDER, or leave --not-show '
            'away')
    if args.number is not None and args.number < 1:
        raise CommandError(
            f'--number {args.number} is given, at least 1 picture '
            'is expected: leave --number away for all')
    cfg = read_config(args.config, args.cfg_options)
    for key in (f'{args.split}_dataloader', 'visualizer'):
        if not cfg.get(key):
            raise CommandError(f'{args.config} has no {key}, which --split '
                               f'{args.split} is drawn with')
    check_data(cfg, (args.split, ))
    if args.split != 'train':
        load_labels_first(cfg[f'{args.split}_dataloader'])
    init_default_scope(cfg.get('default_scope'))
    dataset = DATASETS.build(cfg[f'{args.split}_dataloader'].dataset)
    visualizer = VISUALIZERS.build(
        dict(cfg.visualizer, name='browse_dataset', vis_backends=None))
    visualizer.dataset_meta = dataset.metainfo
    number = min(len(dataset), args.number or len(dataset))
    for index in track_iter_progress(range(number)):
        item = dataset[index]
        # Pictures of two folders may have one name.
        name = f'{index}_' + osp.basename(item['data_samples'].get(
            'img_path', 'picture.jpg'))
        draw(
            visualizer,
            name,
            item,
            show=not args.not_show,
            wait_time=args.show_interval,
            out_file=args.output_dir and osp.join(args.output_dir, name))


if __name__ == '__main__':
    main()
