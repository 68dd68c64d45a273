"""What publish_model.py writes is what a user gets by mmkdna://NAME."""
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmkdna.checkpoints.names import hash_of
from tests.utils import children_of, make_kin

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'model_converters' / 'publish_model.py'
NAME = 'kdna-resnet18_8xb32_in1k'

spec = importlib.util.spec_from_file_location('publish_model', TOOL)
publish_model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(publish_model)


class TinyModel(BaseModel):

    def __init__(self):
        super().__init__()
        self.backbone = make_kin()

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.backbone(torch.stack(inputs)).square().mean())


class TinyDataset(torch.utils.data.Dataset):
    metainfo = dict(classes=('cat', 'dog'), palette=[(1, 2, 3), (4, 5, 6)])

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.full((8, 8, 8), float(index)))


def train(work_dir, **settings):
    """A checkpoint of mmengine's Runner with all that it can have."""
    runner = Runner(
        TinyModel(),
        str(work_dir),
        train_dataloader=dict(
            dataset=TinyDataset(),
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=True)),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        param_scheduler=dict(type='CosineAnnealingLR', T_max=2),
        custom_hooks=[dict(type='EMAHook', momentum=0.5)],
        experiment_name=f'{work_dir.name}_{NAME}',
        **settings)
    runner.train()
    return work_dir / 'epoch_2.pth'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp('run'))


def publish(monkeypatch, capsys, *args):
    """Call the tool in this process.

    Returns:
        tuple[dict, str]: The entry and what is said beside it.
    """
    monkeypatch.setattr('sys.argv', ['publish_model.py', *map(str, args)])
    capsys.readouterr()
    publish_model.main()
    out, err = capsys.readouterr()
    entry, = yaml.safe_load(out)['Models']
    return entry, err


def refused(monkeypatch, *args):
    """Why the tool publishes nothing."""
    monkeypatch.setattr('sys.argv', ['publish_model.py', *map(str, args)])
    with pytest.raises(SystemExit) as error:
        publish_model.main()
    assert str(error.value).endswith('Nothing is published')
    return str(error.value)


def test_published_file(tmp_path, trained, monkeypatch, capsys):
    out = tmp_path / 'new' / 'out'
    url = 'https://example.invalid/v1/'
    entry, said = publish(monkeypatch, capsys, trained, out, '--config', NAME,
                          '--url', url)
    file, = out.iterdir()
    assert re.fullmatch(NAME + r'_20\d{6}-[0-9a-f]{8}\.pth', file.name)
    assert file.stem[-8:] == hash_of(file)[:8]

    # The entry that the metafile has, and the weights in addition.
    metafile = ROOT / 'configs' / 'resnet' / 'metafile.yml'
    known = {
        model['Name']: model
        for model in yaml.safe_load(metafile.read_text())['Models']
    }[NAME]
    assert entry == dict(known, Weights=url + file.name)
    assert str(file) in said and str(metafile) in said
    for key in ('optimizer', 'param_schedulers', 'message_hub',
                'ema_state_dict'):
        assert key in said

    published = torch.load(file, weights_only=True)
    before = torch.load(trained, weights_only=False)
    assert published.keys() == {'meta', 'state_dict'}
    meta = published['meta']
    assert meta['dataset_meta'] == TinyDataset.metainfo
    assert meta['epoch'] == 2 and meta['seed'] == before['meta']['seed']
    assert 'experiment_name' not in meta and 'time' not in meta

    # The averaged weights, which validation has seen, are those of EMAHook.
    weights = published['state_dict']
    assert weights._metadata == before['state_dict']._metadata
    assert weights.keys() == before['state_dict'].keys()
    for key, value in weights.items():
        assert torch.equal(value, before['state_dict'][key])
    key = 'backbone.0.1.weight'
    assert not torch.equal(weights[key],
                           before['ema_state_dict'][f'module.{key}'])
    model = TinyModel()
    assert children_of(model)
    model.load_state_dict(weights)


def test_same_content_same_name(tmp_path, trained, monkeypatch, capsys):
    for number in range(2):
        publish(monkeypatch, capsys, trained, tmp_path / str(number),
                '--config', NAME)
    (first, ), (second, ) = map(Path.iterdir, (tmp_path / '0', tmp_path / '1'))
    assert first.read_bytes() == second.read_bytes()
    assert first.name == second.name


def save(path, *, state_dict=None, **meta):
    """A small checkpoint that says what it was trained with."""
    meta = dict(dict(experiment_name=f'{NAME}_20260101_000000'), **meta)
    state_dict = state_dict or nn.Linear(2, 2).state_dict()
    torch.save(dict(meta=meta, state_dict=state_dict), path)
    return path


def test_config_of_the_checkpoint(tmp_path, monkeypatch, capsys):
    path = save(tmp_path / 'a.pth')
    entry, said = publish(monkeypatch, capsys, path, tmp_path / 'out')
    assert entry['Name'] == NAME
    assert 'dataset_meta is missing' in said
    # One that no metafile knows.
    config = tmp_path / 'own_config.py'
    config.write_text('')
    entry, said = publish(monkeypatch, capsys, path, tmp_path / 'out',
                          '--config', config)
    assert entry['Name'] == 'own_config'
    assert Path(entry['Config']).resolve() == config
    assert entry['Weights'].startswith('own_config_20')

    assert 'such as ' + NAME in refused(monkeypatch, path, tmp_path / 'no',
                                        '--config', NAME + 's')
    save(path, experiment_name='20260101_000000')
    assert 'give --config' in refused(monkeypatch, path, tmp_path / 'no')
    assert not (tmp_path / 'no').exists()


def test_what_is_kept(tmp_path, monkeypatch, capsys):
    base = torch.arange(1e5)
    cfg = ('model = dict(type=\'A\')\nload_from = \'/home/me/secret.pth\'\n'
           'work_dir = \'/home/me/work\'\n')
    path = save(
        tmp_path / 'a.pth',
        state_dict=dict(
            part=base[:3],
            parameter=nn.Parameter(torch.ones(2)),
            half=torch.ones(2).bfloat16(),
            flag=torch.tensor([True])),
        cfg=cfg,
        env_info='host',
        dataset_meta=dict(classes={'dog', 'cat'}),
        shape=torch.Size([1, 2]))
    entry, _ = publish(monkeypatch, capsys, path, tmp_path / 'out')
    file, = (tmp_path / 'out').iterdir()
    published = torch.load(file, weights_only=True)
    assert file.stat().st_size < 10000
    weights = published['state_dict']
    assert weights['part'].tolist() == [0, 1, 2]
    assert weights['half'].dtype == torch.bfloat16
    assert weights['flag'].tolist() == [True]
    assert not weights['parameter'].requires_grad
    meta = published['meta']
    assert meta.pop('mmkdna_version')
    assert meta == dict(
        cfg='model = dict(type=\'A\')\n',
        dataset_meta=dict(classes=['cat', 'dog']),
        shape=(1, 2))


def test_bare_state_dict(tmp_path, monkeypatch, capsys):
    path = tmp_path / 'a.pth'
    torch.save(nn.Linear(2, 2).state_dict(), path)
    publish(monkeypatch, capsys, path, tmp_path / 'out', '--config', NAME)
    file, = (tmp_path / 'out').iterdir()
    published = torch.load(file, weights_only=True)
    assert list(published['state_dict']) == ['weight', 'bias']


def test_half(tmp_path, monkeypatch, capsys):
    weights = dict(
        kernel=torch.randn(4, 3, 3, 3),
        matrix=torch.randn(4, 4).double(),
        bias=torch.randn(4),
        running_var=torch.full((4, ), 1e-9),
        counter=torch.tensor(3),
        grid=torch.arange(4).reshape(2, 2))
    path = save(tmp_path / 'a.pth', state_dict=weights)
    entry, _ = publish(monkeypatch, capsys, path, tmp_path / 'out', '--half')
    assert entry['Metadata']['Precision'] == 'float16'
    assert entry['Metadata']['Parameters']
    file, = (tmp_path / 'out').iterdir()
    written = torch.load(file, weights_only=True)['state_dict']
    for key, value in weights.items():
        half = key in ('kernel', 'matrix')
        assert torch.equal(written[key], value.half() if half else value)
        assert (written[key].dtype == torch.float16) == half
    entry, _ = publish(monkeypatch, capsys, path, tmp_path / 'out')
    assert 'Precision' not in entry['Metadata']
    weights['matrix'][1, 2] = -1e5
    save(path, state_dict=weights)
    why = refused(monkeypatch, path, tmp_path / 'no', '--half')
    assert 'matrix has a value of 1e+05' in why and 'without --half' in why
    assert not (tmp_path / 'no').exists()


def test_where_a_file_is(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for path in (ROOT / 'weights' / 'a.pth', 'weights/a.pth',
                 'mmkdna/.mim/weights/a.pth'):
        assert publish_model.address(str(path), '') == 'weights/a.pth'
        assert publish_model.address(str(path), 'https://b/') == \
            'https://b/a.pth'
    assert publish_model.address(str(tmp_path / 'a.pth'), '') == 'a.pth'


class Payload:

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path, )


def test_nothing_is_published(tmp_path, trained, monkeypatch):
    path, out = tmp_path / 'a.pth', tmp_path / 'out'
    out.mkdir()

    def reason():
        why = refused(monkeypatch, path, out, '--config', NAME)
        assert str(path) in why
        assert not list(out.iterdir())
        return why

    assert 'no such file' in reason()
    path.write_bytes(trained.read_bytes()[:-100])
    assert 'truncated' in reason()
    ran = tmp_path / 'ran'
    save(path, hidden=Payload(ran))
    assert 'mkdir' in reason() and not ran.exists()
    save(path, state_dict=dict(weight='text'))
    assert 'weight is a str' in reason()
    save(path, when=torch.float32)
    assert 'meta.when' in reason()
    torch.save(dict(state_dict={}, optimizer={}), path)
    assert 'no weights' in reason()
    torch.save(dict(state_dict=[torch.zeros(2)]), path)
    assert 'a dict is expected' in reason()

    # A full disk, or a disk that fails in the end.
    save(path)

    def fail(source, target):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.replace', fail)
    assert 'No space left' in reason()


CONFIG = '''
custom_imports = dict(imports=['mmkdna'], allow_failed_imports=False)
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='KernelDNAResNet', depth=18, base_channels=8,
                  stem_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=64,
              loss=dict(type='CrossEntropyLoss')))
data_preprocessor = dict(num_classes=2, mean=[128] * 3, std=[64] * 3)
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=4, num_workers=0,
    dataset=dict(type='CustomDataset', data_root='data', pipeline=pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=4, num_workers=0,
    dataset=dict(type='CustomDataset', data_root='data', pipeline=pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
custom_hooks = [dict(type='EMAHook', momentum=0.5)]
'''
USE = '''
import sys
import torch
from mmpretrain import get_model
models = [get_model('kdna-tiny.py', pretrained=path) for path in sys.argv[1:]]
x = torch.rand(2, 3, 32, 32)
first, second = [model.eval()(x) for model in models]
assert torch.equal(first, second) and first.abs().sum() > 0
assert models[0]._dataset_meta == models[1]._dataset_meta
print('classes', models[0]._dataset_meta['classes'])
'''


def test_from_training_to_use(tmp_path):
    """Train, publish, put in the metafile, test and use by name."""
    pytest.importorskip('mmpretrain')
    ignored = shutil.ignore_patterns('__pycache__', '.mim')
    for folder in ('mmkdna', 'tools'):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    mim = tmp_path / 'mmkdna' / '.mim'
    mim.mkdir()
    (mim / 'model-index.yml').write_text('Import: [metafile.yml]')
    metafile = mim / 'metafile.yml'
    metafile.write_text('Models: [{Name: kdna-tiny, Config: kdna-tiny.py, In '
                        'Collection: Tiny}]')
    (tmp_path / 'kdna-tiny.py').write_text(CONFIG)
    for number in range(8):
        folder = tmp_path / 'data' / ('cat', 'dog')[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image = np.random.randint(0, 128, (32, 32, 3)) + number % 2 * 100
        cv2.imwrite(str(folder / f'{number}.png'), image.astype(np.uint8))
    env = dict(os.environ, PYTHONPATH=str(tmp_path), OMP_NUM_THREADS='1')

    def run(*args, **others):
        done = subprocess.run([sys.executable, '-W', 'ignore', *args],
                              cwd=tmp_path,
                              env=dict(env, **others),
                              text=True,
                              capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def accuracy(log):
        return re.findall(r'accuracy/top1: ([\d.]+)', log)

    log = run('tools/train.py', 'kdna-tiny.py', '--work-dir', 'run')
    trained = accuracy(log)
    assert len(trained) == 1
    released = tmp_path / 'released'
    entry = run('tools/model_converters/publish_model.py', 'run/epoch_1.pth',
                str(released))
    metafile.write_text(entry)
    model, = yaml.safe_load(entry)['Models']
    assert model['In Collection'] == 'Tiny'
    assert [path.name for path in released.iterdir()] == [model['Weights']]

    by_name = 'mmkdna://kdna-tiny'
    log = run(
        'tools/test.py', 'kdna-tiny.py', by_name, MMKDNA_WEIGHTS=str(released))
    assert accuracy(log) == trained
    assert str(released / model['Weights']) in log
    log = run(
        '-c', USE, by_name, 'run/epoch_1.pth', MMKDNA_WEIGHTS=str(released))
    assert re.search(r'classes .\'cat\', \'dog\'', log)
