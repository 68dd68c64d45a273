"""Test a model of mmdet, mmseg or mmpretrain by its config and checkpoint."""
import argparse
import os
import os.path as osp
import signal

if __name__ == '__main__':
    # The libraries take seconds to load; main has a handler of its own.
    def _end(number, _):
        os.write(2, f'Ended by {signal.Signals(number).name}\n'.encode())
        os._exit(128 + number)

    for _number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(_number) != signal.SIG_IGN:
            signal.signal(_number, _end)

from mmengine.config import ConfigDict
from mmengine.evaluator import DumpResults

import mmkdna  # noqa: F401
from mmkdna.launch.arguments import add_common_arguments
from mmkdna.launch.checkpoint_check import check_checkpoint
from mmkdna.launch.class_check import check_classes
from mmkdna.launch.command import command
from mmkdna.launch.config import load_config
from mmkdna.launch.data_check import check_data, leaf_datasets
from mmkdna.launch.errors import CommandError
from mmkdna.launch.form_check import check_form
from mmkdna.launch.model_check import check_model
from mmkdna.launch.outputs import check_output
from mmkdna.launch.runner import build_runner

TTA_MODELS = dict(
    mmdet=dict(
        type='DetTTAModel',
        tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5),
                     max_per_img=100)),
    mmseg=dict(type='SegTTAModel'),
    mmpretrain=dict(type='AverageClsScoreTTA'))

DRAWING = dict(
    mmdet='DetVisualizationHook',
    mmseg='SegVisualizationHook',
    mmpretrain='VisualizationHook')


def get_parser() -> argparse.ArgumentParser:
    """The arguments of test.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or address')
    parser.add_argument(
        '--out', metavar='FILE.pkl', help='file for the predictions')
    parser.add_argument(
        '--show-dir',
        help='folder for pictures of the predictions beside the ground truth')
    parser.add_argument(
        '--tta',
        action='store_true',
        help='augment the test images and merge the predictions: by '
        'tta_model and tta_pipeline of the config, or else by flipping')
    add_common_arguments(parser)
    return parser


def draw_pictures(cfg, show_dir):
    """Switch on the host library's visualization hook.

    The three hooks and their visualizers put ground truth, if the test
    pipeline loads any, and prediction into one picture.
    """
    scope = cfg.get('default_scope')
    if scope not in DRAWING:
        raise CommandError(
            f'--show-dir is given, but {cfg.filename} has the default_scope '
            f'{scope}, and only {", ".join(DRAWING)} are known to have a hook '
            'that draws: leave --show-dir away')
    # The hooks take a relative path from somewhere in the work_dir.
    show_dir = osp.abspath(show_dir)
    hooks = cfg.setdefault('default_hooks', ConfigDict())
    hook = hooks.get('visualization') or ConfigDict(type=DRAWING[scope])
    hooks.visualization = hook
    if scope == 'mmdet':
        hook.update(draw=True, test_out_dir=show_dir)
    elif scope == 'mmpretrain':
        hook.update(enable=True, interval=1, out_dir=show_dir)
    else:
        # This one leaves the folder to the visualizer.
        hook.update(draw=True, interval=1)
        cfg.visualizer.vis_backends = [
            dict(type='LocalVisBackend', img_save_dir=show_dir)
        ]


def augment(cfg):
    """Test with augmentation."""
    scope = cfg.get('default_scope')
    tta_model = cfg.get('tta_model') or TTA_MODELS.get(scope)
    if not tta_model:
        raise CommandError(
            f'--tta is given, but {cfg.filename} sets no tta_model, and the '
            f'default_scope {scope} has no usual one as have '
            f'{", ".join(TTA_MODELS)}: set tta_model, or leave --tta away')
    for dataset in leaf_datasets(cfg.test_dataloader):
        dataset.pipeline = cfg.get('tta_pipeline') or _flipped(
            dataset.pipeline)
    cfg.model = ConfigDict(**tta_model, module=cfg.model)


def _flipped(pipeline):
    """A pipeline that ends in the image and its mirror image."""
    *steps, pack = pipeline
    pack = {key: pack[key] for key in pack if key != 'meta_keys'}
    # The ground truth is taken from the first: the one that is not flipped.
    flips = [dict(type='RandomFlip', prob=prob) for prob in (0., 1.)]
    return [*steps, dict(type='TestTimeAug', transforms=[flips, [pack]])]


def dump_metric(path, scope):
    """The metric that writes predictions to a file instead of judging them.

    Args:
        path (str): The file.
        scope (str): The host library.

    Returns:
        DumpResults: mmdet's own, or one that leaves out what is no
        prediction: a segmentor's ground truth, and its logits, which would
        be kept in memory for every class, pixel and image of the dataset.
    """
    if scope == 'mmdet':
        from mmdet.evaluation import DumpDetResults
        return DumpDetResults(out_file_path=path)

    class DumpPredictions(DumpResults):

        def process(self, data_batch, data_samples):
            super().process(data_batch, [{
                key: value
                for key, value in sample.items()
                if key not in ('gt_sem_seg', 'seg_logits')
            } for sample in data_samples])

    return DumpPredictions(out_file_path=path)


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Test."""
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise CommandError(f'--out {args.out} is given, but predictions are '
                           'written as a pickle: name it *.pkl')
    if args.out:
        check_output(args.out, args.config, args.checkpoint)
    cfg = load_config(args, 'test')
    check_checkpoint(args.checkpoint, 'checkpoint')
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.tta and args.show_dir and cfg.get('default_scope') == 'mmpretrain':
        raise CommandError(
            '--tta and --show-dir are given, but mmpretrain\'s '
            'VisualizationHook cannot draw augmented images: give one of them')
    if args.show_dir:
        draw_pictures(cfg, args.show_dir)
    if args.tta:
        augment(cfg)
    check_data(cfg, ('test', ))
    check_classes(cfg, ('test', ))
    check_form(cfg, check_model(cfg), args.checkpoint)
    runner = build_runner(cfg, ('test', ))
    if args.out:
        runner.test_evaluator.metrics.append(
            dump_metric(args.out, cfg.get('default_scope')))
    runner.test()


if __name__ == '__main__':
    main()
