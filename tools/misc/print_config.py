"""Print a config with its bases resolved; it can be saved and used alone."""
import argparse
from pathlib import Path

import mmkdna  # noqa: F401
from mmkdna.launch.arguments import add_cfg_options
from mmkdna.launch.command import command
from mmkdna.launch.config import read_config
from mmkdna.launch.errors import CommandError

# Not .json, which has no tuples.
FORMATS = ('.py', '.yml')


def get_parser() -> argparse.ArgumentParser:
    """The arguments of print_config.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--save-path',
        metavar='FILE',
        help=f'write it to this file as well, {", ".join(FORMATS)}')
    add_cfg_options(parser)
    return parser


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Print."""
    if args.save_path and not args.save_path.endswith(FORMATS):
        raise CommandError(
            f'--save-path {args.save_path} is given, but a config is a file '
            f'in one of the formats {", ".join(FORMATS)}')
    cfg = read_config(args.config, args.cfg_options)
    print(cfg.pretty_text)
    if args.save_path:
        Path(args.save_path).parent.mkdir(parents=True, exist_ok=True)
        cfg.dump(args.save_path)


if __name__ == '__main__':
    main()
