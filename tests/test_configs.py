"""Every config of the repository, its metafile and its README."""
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmkdna import sharing_table

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    path for path in ROOT.glob('configs/*/*.py') if path.parts[-2] != '_base_')
FOLDERS = sorted({path.parent for path in CONFIGS})


def entries(folder):
    return yaml.safe_load((folder / 'metafile.yml').read_text())


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_config_builds_and_shares(path):
    config = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)
    assert sharing_table(model).children > 0
    assert config.custom_imports['imports'] == ['mmkdna']


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_lists_its_configs(folder):
    models = entries(folder)['Models']
    names = {path.stem for path in CONFIGS if path.parent == folder}
    assert {model['Name'] for model in models} == names
    readme = (folder / 'README.md').read_text()
    for model in models:
        assert (ROOT / model['Config']).stem == model['Name']
        assert (ROOT / model['Config']).is_file()
        assert model['Name'] in readme


def test_the_index_imports_every_metafile():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    assert index == [
        f'configs/{folder.name}/metafile.yml' for folder in FOLDERS
    ]
