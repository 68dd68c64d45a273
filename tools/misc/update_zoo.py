"""Write the figures of all configs into metafiles and tables.

Usage: python tools/misc/update_zoo.py [FOLDER ...]

For every config in a folder that has a metafile, or in those named only, as
``configs/resnet``: parameters, FLOPs and children, computed from the built
model, into its entry; what else an entry says (``Results``, ``Weights``)
stays. The data of all go into the collection. Then ``model-index.yml`` and the
tables in README.md, docs and the READMEs of the folders; a table stands
between

    <!-- zoo PATTERN [PATTERN ...] -->
    <!-- end of zoo -->

and lists the configs whose paths match one of the patterns. Nothing is to be
typed into metadata or tables by hand.

``tests/state_dicts.json`` holds what the state dict of each model looks like.
Where that has changed, checkpoints of before do not load, so nothing is
written, unless ``--new-states`` says that it is meant.
"""
import argparse
import hashlib
import json
import os.path as osp
import re
from collections import defaultdict
from fnmatch import fnmatch
from pathlib import Path

import yaml
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmkdna.analysis import image_shape, model_cost
from mmkdna.analysis.tables import billions, markdown_table, millions
from mmkdna.launch.command import command
from mmkdna.launch.errors import CommandError
from mmkdna.launch.model import init_model

ROOT = Path(__file__).resolve().parents[2]
STATES = ROOT / 'tests' / 'state_dicts.json'
DATASETS = dict(
    coco='COCO',
    ade20k='ADE20K',
    cityscapes='Cityscapes',
    in1k='ImageNet-1k',
    bccd='bccd',
    cifar10='CIFAR-10',
    imagenet250='imagenet250',
    shapes='Shapes')
TASKS = dict(
    bbox_head='Object Detection',
    mask_head='Instance Segmentation',
    mmseg='Semantic Segmentation',
    mmpretrain='Image Classification')
KEYS = ('Name', 'In Collection', 'Config', 'Metadata', 'Results')
METRICS = ('box AP', 'mask AP', 'mIoU', 'Top 1 Accuracy')
TABLE = re.compile(
    r'(?<=<!-- zoo )(?P<patterns>[^>]+) -->\n.*?(?=<!-- end of zoo -->)',
    re.DOTALL)


def find_configs():
    """All configs that belong to a metafile.

    Returns:
        dict[Path, list[Path]]: Metafile to its configs, both sorted.
    """
    return {
        metafile: sorted(metafile.parent.glob('*.py'))
        for metafile in sorted(ROOT.glob('configs/*/metafile.yml'))
    }


def describe(path):
    """What the metadata of a config say.

    Args:
        path (Path): The config.

    Returns:
        tuple[dict, dict]: Data, parameters, FLOPs of one image of the named
        shape, children, and parameters and FLOPs without sharing; and what
        :func:`state_of` says.
    """
    cfg = Config.fromfile(path)
    model = init_model(cfg)
    cost = model_cost(model, image_shape(cfg))
    words = re.split('[-_]', path.stem)
    metadata = {
        'Training Data': next(DATASETS[w] for w in words if w in DATASETS),
        'Parameters': cost.parameters,
        'FLOPs': cost.flops,
        'Image': 'x'.join(map(str, cost.shape)),
        'Children': cost.children,
        'Plain Parameters': cost.plain_parameters,
        'Plain FLOPs': cost.plain_flops
    }
    return metadata, state_of(model)


def state_of(model):
    """What the state dict of a model looks like, in short.

    Args:
        model (nn.Module): The model.

    Returns:
        dict[str, str]: By part, as backbone, the number of tensors and a hash
        of their keys, shapes and types.
    """
    parts = defaultdict(list)
    for key, value in model.state_dict().items():
        parts[key.partition('.')[0]].append(
            f'{key} {tuple(value.shape)} {value.dtype}')
    return {
        part:
        f'{len(lines)} ' +
        hashlib.sha256('\n'.join(sorted(lines)).encode()).hexdigest()[:12]
        for part, lines in parts.items()
    }


def check_states(old, new):
    """Tell that checkpoints of before do not load.

    Args:
        old (dict[str, dict]): By config, what the state dict looked like.
        new (dict[str, dict]): What it looks like.

    Raises:
        CommandError: If a config is in both, and differs.
    """
    for name, state in new.items():
        differ = [
            part for part in {
                **old.get(name, {}),
                **state
            } if name in old and old[name].get(part) != state.get(part)
        ]
        if differ:
            raise CommandError(
                f'the state dict of {name} has other keys, shapes or types '
                f'than tests/state_dicts.json says, in {", ".join(differ)}: '
                'checkpoints of before would not load; have them migrated '
                '(_version and _load_from_state_dict of the module), or give '
                '--new-states if another model is meant')


def make_entry(path, old, collection, metadata):
    """The entry of a config in its metafile.

    Args:
        path (Path): The config.
        old (dict): Its entry so far, or an empty one.
        collection (str): Name of its collection.
        metadata (dict): From :func:`describe`.

    Returns:
        dict: The entry.
    """
    results = {result['Task']: result for result in old.get('Results', [])}
    data = metadata['Training Data']
    return {
        'Name': path.stem,
        'In Collection': collection,
        'Config': path.relative_to(ROOT).as_posix(),
        # What is typed by hand comes behind.
        'Metadata': {**metadata, **old.get('Metadata', {}), **metadata},
        'Results': [
            results.get(task, dict(Task=task, Dataset=data, Metrics={}))
            for task in tasks_of(Config.fromfile(path))
        ],
        **{key: value for key, value in old.items() if key not in KEYS}
    }  # yapf: disable


def tasks_of(cfg):
    """What a model is for.

    Args:
        cfg (Config): Its config.

    Returns:
        list[str]: One task, or both of a detector that has masks.
    """
    if cfg.default_scope != 'mmdet':
        return [TASKS[cfg.default_scope]]
    heads = {**cfg.model, **cfg.model.get('roi_head', {})}
    return [TASKS[key] for key in ('bbox_head', 'mask_head') if heads.get(key)]


def read_models():
    """The models of all metafiles, in the order of their configs.

    Returns:
        list[dict]: The entries.
    """
    models = []
    for metafile in find_configs():
        models += yaml.safe_load(metafile.read_text())['Models']
    return models


def fill_tables(path, models):
    """A text with its tables filled.

    Args:
        path (Path): A Markdown file.
        models (list[dict]): Entries of all metafiles.

    Returns:
        str: The text.
    """

    def fill(match):
        patterns = match['patterns'].split()
        # In the order of the patterns.
        rows = [
            model for pattern in patterns for model in models
            if fnmatch(model['Config'], pattern)
        ]
        return f'{match["patterns"]} -->\n\n{make_table(rows, path)}\n\n'

    return TABLE.sub(fill, path.read_text())


def make_table(models, path):
    """A table of models.

    It has no column of plain FLOPs, which are those of the model up to its
    gates.

    Args:
        models (list[dict]): Their entries.
        path (Path): The file the table is for, which links start from.

    Returns:
        str: The table.
    """
    metrics = [
        name for name in METRICS if any(
            name in metrics_of(model) for model in models)
    ] or ['result']
    head = ('config', 'image', 'parameters', 'plain', 'FLOPs', 'children',
            *metrics)
    rows = []
    for model in models:
        data = model['Metadata']
        rows.append(
            (f'[{model["Name"]}]({link(model["Config"], path)})',
             data['Image'], millions(data['Parameters']),
             millions(data['Plain Parameters']), billions(data['FLOPs']),
             data['Children'], *(result_of(model, name, path)
                                 for name in metrics)))
    return markdown_table(head, rows)


def metrics_of(model):
    """All metrics of a model.

    Args:
        model (dict): Its entry.

    Returns:
        dict: Metric to value.
    """
    return {
        name: value
        for result in model['Results']
        for name, value in result['Metrics'].items()
    }


def result_of(model, metric, path):
    """A cell with a result.

    Args:
        model (dict): The entry of the model.
        metric (str): The metric.
        path (Path): The file the table is for.

    Returns:
        str | None: The value, with a link to the log of its training, or
        None if the model was not trained.
    """
    value = metrics_of(model).get(metric)
    if value is None:
        return None
    return f'[{value}]({link(model["Training Log"], path)})'


def link(target, path):
    """A link from a file to another one.

    Args:
        target (str): Path from the root of the repository.
        path (Path): The file that has the link.

    Returns:
        str: The relative path.
    """
    return osp.relpath(ROOT / target, path.parent).replace(osp.sep, '/')


class Dumper(yaml.SafeDumper):
    """Indents lists, as OpenMMLab's metafiles do."""

    def increase_indent(self, flow=False, indentless=False):
        """Never without an indent."""
        return super().increase_indent(flow, False)


def get_parser() -> argparse.ArgumentParser:
    """The arguments of update_zoo.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'folders',
        nargs='*',
        type=lambda folder: Path(folder).resolve(),
        metavar='FOLDER',
        help='default: all that have a metafile')
    parser.add_argument(
        '--new-states',
        action='store_true',
        help='whether it is meant that checkpoints of before do not load')
    return parser


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Compute and write."""
    folders = args.folders
    for folder in folders:
        if not (folder / 'metafile.yml').is_file():
            raise CommandError(f'{folder} is given as folder, but has no '
                               'metafile.yml: write one with its Collections')
    MMLogger.get_instance('update_zoo', log_level='ERROR')
    states, texts = {}, {}
    for metafile, paths in find_configs().items():
        if folders and metafile.parent not in folders:
            continue
        text = yaml.safe_load(metafile.read_text())
        old = {model['Name']: model for model in text.get('Models') or []}
        collection = text['Collections'][0]['Name']
        text['Models'] = []
        for path in paths:
            metadata, states[path.stem] = describe(path)
            text['Models'].append(
                make_entry(path, old.get(path.stem, {}), collection, metadata))
        data = sorted({m['Metadata']['Training Data'] for m in text['Models']})
        text['Collections'][0]['Metadata']['Training Data'] = (
            data[0] if len(data) == 1 else data)
        texts[metafile] = text
        print(f'{metafile.relative_to(ROOT)}: {len(paths)} configs')
    old = json.loads(STATES.read_text())
    if not args.new_states:
        check_states(old, states)
    for metafile, text in texts.items():
        metafile.write_text(
            yaml.dump(text, Dumper=Dumper, sort_keys=False, width=79))
    names = {path.stem for paths in find_configs().values() for path in paths}
    states = {n: s for n, s in {**old, **states}.items() if n in names}
    STATES.write_text(json.dumps(states, indent=0, sort_keys=True) + '\n')
    index = [path.relative_to(ROOT).as_posix() for path in find_configs()]
    (ROOT / 'model-index.yml').write_text(
        yaml.dump(dict(Import=index), Dumper=Dumper))
    models = read_models()
    for path in (ROOT / 'README.md', *ROOT.glob('docs/*.md'),
                 *ROOT.glob('configs/*/README.md')):
        path.write_text(fill_tables(path, models))


if __name__ == '__main__':
    main()
