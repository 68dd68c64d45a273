"""The demo runs end to end, and a failed stage stops it."""
import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


def call(cwd, tool, *args):
    return subprocess.run(
        [sys.executable, str(TOOLS / tool), *args],
        cwd=cwd,
        capture_output=True,
        text=True)


@pytest.mark.slow
def test_quick_demo(tmp_path):
    pytest.importorskip('mmdet')
    pytest.importorskip('mmseg')
    made = call(tmp_path, 'dataset_converters/make_shapes.py', '--num-train',
                '32', '--num-val', '4')
    assert made.returncode == 0, made.stderr
    done = call(tmp_path, 'demo.py', '--quick')
    assert done.returncode == 0, done.stdout + done.stderr

    out = tmp_path / 'work_dirs' / 'demo'
    summary = json.loads((out / 'summary.json').read_text())
    # -1 is the AP of a detector that finds nothing.
    assert -1 <= summary['box_AP'] <= 1
    assert 0 <= summary['mIoU'] <= 1
    for key in ('children', 'saved_parameters', 'parameters', 'seconds'):
        assert summary[key].keys() == {'detection', 'segmentation'}
        assert min(summary[key].values()) > 0
        for value in summary[key].values():
            # The printed table says the same.
            assert (f'{value:.0f}'
                    if key == 'seconds' else f'{value:,}') in done.stdout
    for task in ('detection', 'segmentation'):
        assert len(list((out / task / 'pictures').rglob('*.*g'))) == 4
    for picture in ('losses.png', 'pictures.jpg'):
        assert cv2.imread(str(out / picture)).std() > 10


def test_failed_stage_ends_the_demo(tmp_path):
    pytest.importorskip('pycocotools')
    # Shapes cannot be made where something else lies.
    (tmp_path / 'data' / 'shapes').mkdir(parents=True)
    (tmp_path / 'data' / 'shapes' / 'photo.jpg').write_text('dear to me')
    out = tmp_path / 'work_dirs' / 'demo'
    out.mkdir(parents=True)
    (out / 'summary.json').write_text('{"box_AP": 0.9}')
    done = call(tmp_path, 'demo.py', '--quick')
    assert done.returncode == 1
    assert 'holds no shapes' in done.stderr
    assert 'make_shapes.py data/shapes ended with exit code 1' in done.stderr
    assert 'Traceback' not in done.stderr
    # Nothing passes for the result of this run.
    assert not any(out.iterdir())
