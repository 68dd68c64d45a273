"""Show what repeats in a network: outputs that are alike, and kernels.

Usage: python tools/analysis_tools/similarity.py CONFIG CHECKPOINT
    --images FOLDER [--out PAGE.html] [--json FILE]

The pictures need no labels. The page opens in a browser, without a network. It
says how alike the outputs of each two convolutions are (linear CKA), and how
alike the kernels that could be one, beside noise in their place: what is not
nearer than noise is not alike.
"""
import argparse
import json
from dataclasses import asdict
from pathlib import Path

from mmengine.utils import track_iter_progress

from mmkdna.checkpoints.writing import written_whole
from mmkdna.forward import forward_dense
from mmkdna.launch.arguments import add_cfg_options, add_picture_arguments
from mmkdna.launch.command import command
from mmkdna.launch.config import read_config
from mmkdna.launch.errors import CommandError
from mmkdna.launch.model import load_trained
from mmkdna.launch.outputs import check_output
from mmkdna.launch.pictures import Pictures, check_run, picture_size
from mmkdna.similarity import measure_similarity
from mmkdna.similarity.page import similarity_page, verdict


def get_parser() -> argparse.ArgumentParser:
    """The arguments of similarity.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of a plain or a shared network')
    parser.add_argument('checkpoint', help='its weights')
    add_picture_arguments(parser)
    parser.add_argument(
        '--out',
        default='similarity.html',
        help='page to write; default: similarity.html')
    parser.add_argument('--json', help='file to write every figure to')
    add_cfg_options(parser)
    return parser


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Measure, and write the page."""
    if args.batch < 4 or (args.size and min(args.size) < 1):
        raise CommandError(f'--batch {args.batch} and --size {args.size} are '
                           'given, 4 or more pictures and a positive size are '
                           'expected')
    for path in filter(None, (args.out, args.json)):
        check_output(path, args.config, args.checkpoint)
    cfg = read_config(args.config, args.cfg_options)
    size = picture_size(args.size, cfg, args.config)
    model = load_trained(cfg, args.config, args.checkpoint)
    pictures = Pictures(args.images, model, size, args.batch)
    if len(pictures.files) < args.batch:
        raise CommandError(
            f'--images {args.images} has {len(pictures.files)} pictures, '
            f'--batch {args.batch} or more are expected: give more, or a '
            'smaller batch')
    check_run(pictures, args.config)
    try:
        similarity = measure_similarity(
            model, track_iter_progress((pictures, len(pictures))),
            forward_dense)
    except CommandError:
        raise
    except ValueError as error:
        raise CommandError(
            f'{args.checkpoint} and {args.images} are given, but {error}'
        ) from error
    name = Path(args.config).stem
    conditions = (f'{name}, {Path(args.checkpoint).name}, on '
                  f'{similarity.num_pictures} pictures of '
                  f'{"x".join(map(str, pictures.size))}')
    with written_whole(args.out, 'w', 'utf-8') as file:
        file.write(similarity_page(similarity, name, conditions))
    if args.json:
        with written_whole(args.json, 'w', 'utf-8') as file:
            json.dump(asdict(similarity), file, indent=1)
    print(f'{verdict(similarity)} {args.out} shows all.')


if __name__ == '__main__':
    main()
