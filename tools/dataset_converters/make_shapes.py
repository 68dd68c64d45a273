"""Make a small dataset of textured shapes that hide one another.

It needs no download, and serves detection, instance segmentation and semantic
segmentation alike, since the COCO and the ADE20K layout share its images::

    data/shapes
    ├── shapes.json                  how the folder was made
    ├── images
    │   ├── training/000000.jpg ...
    │   └── validation/000000.jpg ...
    └── annotations
        ├── instances_train.json     COCO: boxes and masks of what is visible
        ├── instances_val.json
        ├── training/000000.png ...  ADE20K: a number per pixel
        └── validation/000000.png ...

In the PNGs, 1 to 6 are the shapes, with the numbers of the COCO categories,
and 7 is the background, a class of its own. 0 means unlabelled, as in ADE20K,
and does not occur: read them with ``reduce_zero_label=True``.
"""
import argparse
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
from mmengine.utils import track_iter_progress

from mmkdna.launch.command import command
from mmkdna.launch.errors import CommandError

try:
    from pycocotools import mask as coco_mask
except ImportError:
    coco_mask = None

CLASSES = ('circle', 'square', 'triangle', 'star', 'cross', 'ring')
BACKGROUND = len(CLASSES) + 1
# Name of a split in the COCO layout and in the ADE20K layout.
SPLITS = (('train', 'training'), ('val', 'validation'))
RECORD = 'shapes.json'
MIN_SIZE = 64
# Fewer visible pixels than this share of its own leave a shape unlearnable.
MIN_VISIBLE = 0.6


def corners(name):
    """The outlines of an upright shape with radius 1 around the origin.

    Args:
        name (str): One of :data:`CLASSES`.

    Returns:
        list[ndarray]: Polygons of shape (K, 2); what lies in two is a hole.
    """

    def polar(radii, start=-90):
        angles = np.deg2rad(start + np.arange(len(radii)) * 360 / len(radii))
        directions = np.stack([np.cos(angles), np.sin(angles)], 1)
        return directions * np.array(radii)[:, None]

    if name == 'circle':
        return [polar([1] * 64)]
    if name == 'ring':
        return [polar([1] * 64), polar([0.5] * 64)]
    if name == 'square':
        return [polar([1] * 4, start=45)]
    if name == 'triangle':
        return [polar([1] * 3)]
    if name == 'star':
        return [polar([1, 0.5] * 5)]
    # A cross: the same corner in each quadrant.
    quarter = np.array([[1, -0.33], [1, 0.33], [0.33, 0.33]]) / 1.05
    turn = np.array([[0, 1], [-1, 0]])
    turned = [quarter]
    for _ in range(3):
        turned.append(turned[-1] @ turn)
    return [np.concatenate(turned)]


def draw_mask(rng, name, size):
    """A shape of random place and size, more or less upright.

    Args:
        rng (numpy.random.Generator): Source of randomness.
        name (str): One of :data:`CLASSES`.
        size (int): Height and width of the image in pixels.

    Returns:
        ndarray: A mask of type bool, shape (size, size).
    """
    radius = size * rng.uniform(0.11, 0.19)
    centre = rng.uniform(0.6 * radius, size - 0.6 * radius, 2)
    angle = np.deg2rad(rng.uniform(-15, 15))
    cos, sin = radius * np.cos(angle), radius * np.sin(angle)
    rotate = np.array([[cos, sin], [-sin, cos]])
    # cv2 takes coordinates in 1/16 pixel.
    polygons = [
        np.round((polygon @ rotate + centre) * 16).astype(np.int32)
        for polygon in corners(name)
    ]
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, polygons, 1, shift=4)
    return mask.astype(bool)


def draw_colours(rng, vivid):
    """The two colours of a texture.

    Args:
        rng (numpy.random.Generator): Source of randomness.
        vivid (bool): Whether the first has a hue; otherwise both are greyish.

    Returns:
        tuple[ndarray]: Both, BGR values around 0 to 255, shape (3, ).
    """
    if not vivid:
        greys = rng.uniform(40, 215, 2)
        return tuple(grey + rng.uniform(-20, 20, 3) for grey in greys)
    first = rng.uniform(0, 255, 3)
    while np.ptp(first) < 120:
        first = rng.uniform(0, 255, 3)
    return first, first + rng.uniform(-80, 80, 3)


def draw_texture(rng, size, vivid):
    """A random pattern of two colours, with noise.

    Args:
        rng (numpy.random.Generator): Source of randomness.
        size (int): Height and width in pixels.
        vivid (bool): Whether it has a hue, as in :func:`draw_colours`.

    Returns:
        ndarray: BGR values as floats, shape (size, size, 3).
    """
    y, x = np.mgrid[:size, :size].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    phase = 2 * np.pi / rng.uniform(6, 24)
    along = np.sin((x * np.cos(angle) + y * np.sin(angle)) * phase)
    across = np.sin((y * np.cos(angle) - x * np.sin(angle)) * phase)
    pattern = rng.choice(['stripes', 'checks', 'dots', 'clouds', 'ramp'])
    if pattern == 'stripes':
        mix = along > rng.uniform(-0.5, 0.5)
    elif pattern == 'checks':
        mix = along * across > 0
    elif pattern == 'dots':
        mix = along + across > 0.8
    elif pattern == 'clouds':
        grid = rng.uniform(0, 1, [rng.integers(4, 12)] * 2)
        mix = cv2.resize(
            grid.astype(np.float32), (size, size),
            interpolation=cv2.INTER_CUBIC)
    else:
        mix = (x * np.cos(angle) + y * np.sin(angle)) / size
    mix = np.clip(mix, 0, 1).astype(np.float32)[..., None]
    first, second = draw_colours(rng, vivid)
    noise = rng.normal(0, rng.uniform(2, 12), (size, size, 3))
    return first * mix + second * (1 - mix) + noise


def draw_sample(rng, size):
    """An image and what is in it.

    Args:
        rng (numpy.random.Generator): Source of randomness.
        size (int): Height and width in pixels.

    Returns:
        tuple: The BGR image, shape (size, size, 3), and a list with the
        category (int) and the visible part, a mask of shape (size, size), of
        each shape.
    """
    # Shapes have hues and the background has not: what a shape is takes its
    # outline, but where one is can be learnt within minutes on a CPU.
    image = draw_texture(rng, size, vivid=False)
    visible = []
    for _ in range(rng.integers(4, 9)):
        category = int(rng.integers(1, len(CLASSES) + 1))
        mask = draw_mask(rng, CLASSES[category - 1], size)
        texture = draw_texture(rng, size, vivid=True)
        left = [(number, whole, part & ~mask)
                for number, whole, part in visible]
        if any(part.sum() < MIN_VISIBLE * whole for _, whole, part in left):
            continue
        visible = left + [(category, mask.sum(), mask)]
        image[mask] = texture[mask]
    # Light from one side, and the blur of a lens.
    light = np.linspace(*rng.uniform(0.7, 1.2, 2), size)[:, None]
    image = image * (light if rng.random() < 0.5 else light.T)[..., None]
    image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 1))
    image = np.clip(np.round(image), 0, 255).astype(np.uint8)
    return image, [(category, part) for category, _, part in visible]


def annotate(category, mask):
    """The COCO annotation of one visible part, without its ids.

    Args:
        category (int): Number of the category.
        mask (ndarray): The visible part, shape (H, W).

    Returns:
        dict: Box as (x, y, width, height) in pixels, area and RLE mask.
    """
    rows, columns = np.where(mask.any(1))[0], np.where(mask.any(0))[0]
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    rle['counts'] = rle['counts'].decode()
    return dict(
        category_id=category,
        bbox=[
            int(columns[0]),
            int(rows[0]),
            int(columns[-1] - columns[0] + 1),
            int(rows[-1] - rows[0] + 1)
        ],
        area=int(mask.sum()),
        segmentation=rle,
        iscrowd=0)


def write_split(folder, names, number, size, seed):
    """Write the images and both kinds of annotations of one split.

    Args:
        folder (Path): Folder of the dataset.
        names (tuple[str]): The split's entry in :data:`SPLITS`.
        number (int): Number of images.
        size (int): Height and width of the images in pixels.
        seed (int): Seed of the dataset.
    """
    coco_name, ade_name = names
    image_folder = folder / 'images' / ade_name
    mask_folder = folder / 'annotations' / ade_name
    image_folder.mkdir(parents=True)
    mask_folder.mkdir(parents=True)
    images, annotations = [], []
    split = SPLITS.index(names)
    for index in track_iter_progress(list(range(number))):
        # A source of its own for each image: it depends on nothing before it.
        rng = np.random.default_rng([seed, split, index])
        image, shapes = draw_sample(rng, size)
        segmentation = np.full((size, size), BACKGROUND, np.uint8)
        images.append(
            dict(
                id=index,
                file_name=f'{index:06d}.jpg',
                height=size,
                width=size))
        for category, mask in shapes:
            segmentation[mask] = category
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index,
                    **annotate(category, mask)))
        write_image(image_folder / f'{index:06d}.jpg', image)
        write_image(mask_folder / f'{index:06d}.png', segmentation)
    categories = [
        dict(id=number, name=name) for number, name in enumerate(CLASSES, 1)
    ]
    path = folder / 'annotations' / f'instances_{coco_name}.json'
    path.write_text(
        json.dumps(
            dict(
                info=dict(description='Shapes of mmkdna'),
                images=images,
                annotations=annotations,
                categories=categories)))


def write_image(path, image):
    """Write an image, or say so if that fails."""
    if not cv2.imwrite(str(path), image):
        raise OSError(f'{path} cannot be written: is the disk full?')


def is_free(out):
    """Whether a folder is new, empty, or one of shapes.

    Args:
        out (Path): The folder.

    Returns:
        bool: Whether it may be written or replaced.
    """
    if not out.is_dir():
        return not out.exists()
    return (out / RECORD).is_file() or not any(out.iterdir())


def make_shapes(out, num_train=800, num_val=100, size=128, seed=0):
    """Make the dataset; the same arguments give the same bytes.

    Args:
        out (str | Path): Folder to write: a new one, an empty one, or one of
            shapes, which is replaced.
        num_train (int): Number of images to train with. Defaults to 800.
        num_val (int): Number of images to validate with. Defaults to 100.
        size (int): Height and width of the images in pixels. Defaults to 128.
        seed (int): Seed. Defaults to 0.

    Raises:
        ValueError: If a number is too small.
        FileExistsError: If ``out`` is anything else.
    """
    record = dict(num_train=num_train, num_val=num_val, size=size, seed=seed)
    lowest = dict(num_train=1, num_val=1, size=MIN_SIZE, seed=0)
    for name, value in record.items():
        if value < lowest[name]:
            raise ValueError(f'{name}={value} is given, {lowest[name]} or '
                             'more is expected')
    if not is_free(Path(out)):
        raise FileExistsError(
            f'{out} is given, but it exists and holds no shapes: name a new '
            'folder, an empty one, or one of shapes, which is replaced')
    out = Path(out).resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    # Made beside its place and moved there once complete.
    with tempfile.TemporaryDirectory(
            prefix=f'.{out.name}-', dir=out.parent) as temporary:
        new = Path(temporary, 'new')
        for names, number in zip(SPLITS, (num_train, num_val)):
            write_split(new, names, number, size, seed)
        (new / RECORD).write_text(json.dumps(record))
        if out.exists():
            out.rename(Path(temporary, 'old'))
        new.rename(out)


def get_parser() -> argparse.ArgumentParser:
    """The arguments of make_shapes.py."""
    parser = argparse.ArgumentParser(
        description='Make a dataset of textured shapes in COCO and ADE20K '
        'layout')
    parser.add_argument(
        'out',
        nargs='?',
        default='data/shapes',
        help='folder to write (default: %(default)s)')
    parser.add_argument(
        '--num-train',
        type=int,
        default=800,
        help='images to train with (default: %(default)s)')
    parser.add_argument(
        '--num-val',
        type=int,
        default=100,
        help='images to validate with (default: %(default)s)')
    parser.add_argument(
        '--size',
        type=int,
        default=128,
        help='height and width of the images (default: %(default)s)')
    parser.add_argument(
        '--seed', type=int, default=0, help='seed (default: %(default)s)')
    return parser


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Make the dataset."""
    if coco_mask is None:
        raise CommandError(
            'pycocotools, which encodes the masks, is not installed: pip '
            'install pycocotools installs it, and so does pip install '
            '"mmkdna[det]"')
    try:
        make_shapes(args.out, args.num_train, args.num_val, args.size,
                    args.seed)
    except (ValueError, OSError) as error:
        raise CommandError(f'make_shapes.py: error: {error}') from error
    print(f'Shapes are in {args.out}')


if __name__ == '__main__':
    main()
