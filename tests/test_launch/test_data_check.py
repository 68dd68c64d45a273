"""An annotation file that is damaged is named."""
import shutil

import pytest

from tests.runs import CONFIGS, load_tool

CONFIG = 'shapes/retinanet_r18-half-kdna-conv_fpn_12e_shapes.py'


@pytest.mark.parametrize('data, reason', [
    (b'<html>404 Not Found</html>', 'Expecting value'),
    (b'{"images": [', 'Expecting value'),
    (b'\xff\xfe', 'codec can\'t decode'),
])
@pytest.mark.parametrize('split', ['train', 'val'])
def test_names_what_is_no_json(shapes, tmp_path, monkeypatch, data, reason,
                               split):
    pytest.importorskip('mmdet')
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shapes / 'data', tmp_path / 'data')
    path = f'data/shapes/annotations/instances_{split}.json'
    (tmp_path / path).write_bytes(data)
    monkeypatch.setattr('sys.argv', ['train', str(CONFIGS / CONFIG)])
    with pytest.raises(SystemExit) as stopped:
        load_tool('train').main()
    key = f'{split}_dataloader.dataset.ann_file'
    for part in (f'{path} ({key}) is expected to be JSON', reason,
                 f'It has {len(data)} bytes', f'--cfg-options {key}=PATH'):
        assert part in stopped.value.code
