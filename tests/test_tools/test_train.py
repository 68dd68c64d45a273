"""What the arguments of tools/train.py do, and what it refuses."""
import os
import re
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmkdna.launch.config import read_config
from mmkdna.launch.data_check import check_data
from mmkdna.launch.errors import CommandError
from mmkdna.launch.model_check import check_model, check_recomputing
from tests.runs import CONFIGS, ROOT, TOOLS, load_tool, logged, run, run_tool

pytest.importorskip('mmpretrain')


def test_trains_and_resumes(classifier):
    run_tool(
        'train',
        'tiny.py',
        '--auto-scale-lr',
        '--cfg-options',
        'optim_wrapper.optimizer.lr=0.08',
        'train_dataloader.dataset.pipeline.0.color_type=color',
        cwd=classifier)
    work_dir = classifier / 'work_dirs' / 'tiny'
    assert (work_dir / 'epoch_1.pth').is_file()
    cfg = Config.fromfile(work_dir / 'tiny.py')
    assert cfg.train_dataloader.dataset.pipeline[0].color_type == 'color'
    # 2 images a step, where the learning rate is that for 8.
    assert logged(work_dir,
                  'lr') == pytest.approx(dict.fromkeys([1, 2, 3, 4], 0.02))

    out = run_tool(
        'train',
        'tiny.py',
        '--work-dir',
        'work_dirs/tiny',
        '--resume',
        '--cfg-options',
        'train_cfg.max_epochs=2',
        cwd=classifier)
    assert 'resumed epoch: 1, iter: 4' in out
    assert 'Epoch(train) [1]' not in out
    assert (work_dir / 'epoch_2.pth').is_file()
    assert 'accuracy/top1' in out

    # Where there is nothing to go on from, it begins from load_from.
    again = [
        'train', 'tiny.py', '--work-dir', 'tuned', '--resume', '--cfg-options',
        'load_from=work_dirs/tiny/epoch_1.pth'
    ]
    out = run_tool(*again, cwd=classifier)
    assert 'Load checkpoint from work_dirs/tiny/epoch_1.pth' in out
    assert 'Epoch(train) [1]' in out and 'resumed' not in out
    out = run_tool(*again, 'train_cfg.max_epochs=2', cwd=classifier)
    assert 'resumed epoch: 1, iter: 4' in out


def test_work_dir_and_processes_on_a_cpu(classifier):
    out = run(
        TOOLS / 'dist_train.sh',
        'tiny.py',
        2,
        '--work-dir',
        'elsewhere',
        cwd=classifier)
    assert not (classifier / 'work_dirs').exists()
    # 8 images, 2 a step and process.
    assert list(logged(classifier / 'elsewhere')) == [1, 2]
    assert 'Distributed launcher: pytorch' in out
    assert 'GPU number: 2' in out

    out = run(
        TOOLS / 'dist_test.sh',
        'tiny.py',
        'elsewhere/epoch_1.pth',
        2,
        cwd=classifier)
    assert 'accuracy/top1' in out


def test_takes_a_format_for_no_dict(classifier):
    cfg = read_config('tiny.py', dict(a='{:06}.jpg'))
    assert cfg.a == '{:06}.jpg'


NO_FILE = 'there is no such file'


@pytest.mark.parametrize(
    'args, said', [
        (['none.py'], ['none.py', NO_FILE, 'configs']),
        (['text.py'], ['text.py', 'cannot be read', 'SyntaxError', 'line 1']),
        (['picture.png'], ['picture.png', 'cannot be read', '.py']),
        (['nothing.py'], ['nothing.py', 'has no model, train_dataloader']),
        (['tiny.py', '--cfg-options', 'val_cfg=None'
          ], ['tiny.py', 'has no val_cfg', 'or none', 'val_evaluator']),
        (['orphan.py'], ['orphan.py', 'cannot be read', 'none.py']),
        (['astray.py'], ['astray.py', 'mmpretrain::a/b.py', 'has no a/b.py']),
        (['tiny.py', '--resume', 'none.pth'
          ], ['none.pth', '--resume', NO_FILE]),
        (['tiny.py', '--cfg-options', 'load_from=none.pth'
          ], ['none.pth', 'load_from', NO_FILE]),
        (['tiny.py', '--cfg-options', 'load_from=3'
          ], ['3', 'load_from', 'path']),
        (['tiny.py', '--cfg-options', 'default_scope=3'
          ], ['default_scope = 3', 'tiny.py', 'mmdet']),
        (['tiny.py', '--cfg-options', 'model=a'
          ], ["model = 'a'", 'tiny.py', 'a dict is']),
        (['tiny.py', '--cfg-options', 'test_dataloader=[1]'
          ], ['test_dataloader = [1]', 'tiny.py', 'a dict is']),
        (['tiny.py', '--cfg-options', 'val_evaluator=a'
          ], ["val_evaluator = 'a'", 'a dict is expected or a list']),
        (['tiny.py', '--cfg-options', 'train_dataloader.dataset=3'
          ], ['train_dataloader.dataset = 3', 'a dict with a type']),
        (['tiny.py', '--cfg-options', 'val_dataloader.dataset.type=1.5'
          ], ['type = 1.5', 'dataset', 'DATASETS']),
        (['tiny.py', '--cfg-options', 'train_dataloader.dataset.data_root=3'
          ], ['data_root = 3', 'a path is expected']),
        (['tiny.py', '--cfg-options', 'model'], ['--cfg-options', 'KEY=VALUE'
                                                 ]),
        (['tiny.py', '--cfg-options', 'pipeline.7.type=X'
          ], ['--cfg-options', 'pipeline.7.type', 'cannot be read']),
        (['tiny.py', '--cfg-options', "model.neck.conv_cfg=dict(type='A')"
          ], ["dict(type='A')", 'model.neck.conv_cfg.type=KernelDNA']),
        (['tiny.py', '--cfg-options', "model.neck={'type':'A','b':1}"
          ], ['model.neck the value', 'each key', 'model.neck.type=']),
        (['tiny.py', '--cfg-options', 'pipeline=[dict(type=A)]'
          ], ['pipeline', 'each key']),
        (['tiny.py', '--amp'], ['--amp', 'GPU', 'leave --amp away']),
        (['tiny.py', '--auto-scale-lr', '--cfg-options', 'auto_scale_lr=None'
          ], ['--auto-scale-lr', 'tiny.py', 'auto_scale_lr.base_batch_size']),
        (['tiny.py', '--launcher', 'slurm'], ['slurm', 'dist_train.sh']),
        (['tiny.py', '--launcher', 'rocket'], ['rocket', 'pytorch']),
    ],
    ids=lambda value: ' '.join(value[:3]))
def test_refuses(classifier, refuse, monkeypatch, args, said):
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cpu')
    (classifier / 'text.py').write_text('Train this!')
    (classifier / 'picture.png').write_bytes(b'\x89PNG')
    (classifier / 'nothing.py').write_text('lr = 0.1')
    (classifier / 'orphan.py').write_text('_base_ = "none.py"')
    (classifier / 'astray.py').write_text('_base_ = "mmpretrain::a/b.py"')
    message = refuse('train', *args)
    for part in said:
        assert part in message


WITH_CP = [
    'tiny.py', '--launcher', 'pytorch', '--cfg-options',
    'model.backbone.with_cp=True'
]


@pytest.mark.parametrize('options, said', [
    ([], ['model_wrapper_cfg.static_graph=True']),
    (['runner_type=FlexibleRunner'], ['strategy.model_wrapper.static_graph']),
    (['strategy.type=FSDPStrategy'], ['strategy.activation_checkpointing']),
])
def test_refuses_blocks_that_are_recomputed(classifier, refuse, options, said):
    for part in ['with_cp=True is given in tiny.py', 'distributed.md', *said]:
        assert part in refuse('train', *WITH_CP, *options)


@pytest.mark.parametrize('option', [
    dict(sharing_stages=()),
    dict(conv_cfg=dict(type='KernelDNA', share=False)),
    dict(with_cp=False),
])  # yapf: disable
def test_takes_blocks_that_are_recomputed_by_themselves(classifier, option):
    cfg = Config.fromfile('tiny.py')
    cfg.launcher = 'pytorch'
    cfg.model.backbone.update({'with_cp': True, **option})
    check_recomputing(cfg, check_model(cfg))


class Payload:
    """A pickle of it makes a folder when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ('made', )


PRETRAINED = ('model.backbone.init_cfg.type=Pretrained',
              'model.backbone.init_cfg.checkpoint=bad.pth')


@pytest.mark.parametrize('tool, args, what', [
    ('train', ['--resume', 'bad.pth'], '--resume'),
    ('train', ['--cfg-options', 'load_from=bad.pth'], 'load_from'),
    ('train', ['--cfg-options', *PRETRAINED], 'model.backbone.init_cfg'),
    ('train', ['--cfg-options', 'model.pretrained=bad.pth'], 'pretrained'),
    ('train', ['--cfg-options', 'model.backbone.pretrained=bad.pth'
               ], 'model.backbone.pretrained'),
    ('test', ['bad.pth'], 'checkpoint'),
])
def test_refuses_a_checkpoint(classifier, refuse, tool, args, what):
    """None that mmengine's loader would run, and no damaged one."""
    torch.save(dict(state_dict={}, meta=Payload()), classifier / 'bad.pth')
    message = refuse(tool, 'tiny.py', *args)
    for part in ('bad.pth', what, 'mkdir', 'none of it has been run'):
        assert part in message
    torch.save(dict(state_dict={}), classifier / 'bad.pth')
    half = (classifier / 'bad.pth').read_bytes()[:-100]
    (classifier / 'bad.pth').write_bytes(half)
    assert 'damaged' in refuse(tool, 'tiny.py', *args)
    # As a training leaves it that has diverged.
    torch.save(
        dict(state_dict=dict(a=torch.tensor([0, float('nan')]))), 'bad.pth')
    for part in ('bad.pth', what, 'state_dict.a has 1 of its 2'):
        assert part in refuse(tool, 'tiny.py', *args)


@pytest.mark.parametrize('saved', [
    dict(a=torch.zeros(1)),
    dict(state_dict={}, meta=dict(epoch=1), message_hub={}),
    dict(state_dict={}, meta=dict(epoch='1', iter=1), message_hub={}),
    dict(state_dict={}, meta=dict(epoch=1, iter=1)),
])
def test_refuses_to_resume_from_weights(classifier, refuse, saved):
    torch.save(saved, 'a.pth')
    message = refuse('train', 'tiny.py', '--resume', 'a.pth')
    for part in ('a.pth', '--resume', 'no state of a training', 'load_from='):
        assert part in message


@pytest.mark.parametrize(
    'options, said', [
        (['conv_cfg.rd_ration=0.5'], ['rd_ration', 'rd_ratio']),
        (['conv_cfg.rd_ratio=0.001'], ['rd_ratio=0.001', 'raise']),
        (['conv_cfg.name_pattern=layer7'], ['layer7', 'matches none']),
        (['depth=19'], ['depth=19', '(18, 34, 50, 101)']),
        (['type=KernelDNANet'], ['KernelDNANet', 'registry']),
        (['conv_cfg.type=kerneldn'], [
            'model.backbone.conv_cfg.type=kerneldn', 'nearest',
            'one is KernelDNA', 'custom_imports'
        ]),
        (['norm_cfg.type=BNN'], ['model.backbone.norm_cfg.type=BNN', 'is BN']),
    ],
    ids=lambda value: value[0])
def test_refuses_a_model(classifier, refuse, options, said):
    options = [f'model.backbone.{option}' for option in options]
    message = refuse('train', 'tiny.py', '--cfg-options',
                     'model.backbone.conv_cfg.type=KernelDNA', *options)
    for part in ['The model of tiny.py cannot be built', *said]:
        assert part in message


@pytest.mark.parametrize('option, said', [
    ('optim_wrapper.optimizer.type=SGDD', 'The optim_wrapper'),
    ('optim_wrapper.optimizer.speed=1', 'The optim_wrapper'),
    ('train_dataloader.dataset.type=CustomDatasett', 'The train_dataloader'),
    ('train_dataloader.dataset.pipeline.1.type=Packk', 'train_dataloader'),
    ('val_evaluator.type=Accuracyy', 'The val_dataloader, val_cfg or val_ev'),
    ('default_hooks.logger.type=Loggerr', 'The runner of'),
])
def test_refuses_what_the_runner_cannot_build(classifier, monkeypatch, option,
                                              said):
    monkeypatch.setattr('sys.argv',
                        ['train', 'tiny.py', '--cfg-options', option])
    with pytest.raises(SystemExit) as stopped:
        load_tool('train').main()
    message = stopped.value.code
    name = option.partition('=')[2].replace('1', 'speed')
    for part in (said, 'tiny.py cannot be built', name, '--cfg-options'):
        assert part in message
    assert '\n' not in message
    assert stopped.value.__cause__ is not None


CONCATENATED = '''
_base_ = 'tiny.py'
dataset = dict(
    type='CustomDataset', data_root='data', with_label=True,
    pipeline={{_base_.pipeline}})
other = dict(dataset, ann_file='none.txt')
train_dataloader = dict(dataset=dict(
    _delete_=True, type='RepeatDataset', times=2,
    dataset=dict(type='ConcatDataset', datasets=[dataset, other])))
val_evaluator = [dict(type='Accuracy')] * 2
'''


@pytest.mark.parametrize(
    'args, path', [
        (['train_dataloader.dataset.data_root=none'], 'none'),
        (['val_dataloader.dataset.data_root=none'], 'none'),
        (['train_dataloader.dataset.data_prefix=none'], 'data/none'),
        (['train_dataloader.dataset.data_prefix.img_path=none'], 'data/none'),
        (['train_dataloader.dataset.ann_file=none.txt'], 'data/none.txt'),
        (['val_evaluator.ann_file=none.json'], 'none.json'),
    ],
    ids=lambda value: value[0])
def test_refuses_missing_data(classifier, refuse, args, path):
    message = refuse('train', 'tiny.py', '--cfg-options', *args)
    assert message.startswith(f'{path} is expected to hold data')
    key = args[0].partition('=')[0]
    for part in (f'({key} in tiny.py)', f'--cfg-options {key}=PATH',
                 str(classifier), 'MMKDNA_DATA', 'make_shapes.py'):
        assert part in message
    assert ('from data on' in message) == path.startswith('data/')


@pytest.mark.parametrize('args, key', [
    ([], 'train_dataloader.dataset.dataset.datasets.1.ann_file'),
    (['train_dataloader.dataset.dataset.datasets.0.data_root=none'
      ], 'train_dataloader.dataset.dataset.datasets.0.data_root'),
    ([
        'train_dataloader.dataset.dataset.datasets.1.ann_file=',
        'val_evaluator.1.ann_file=none.json'
    ], 'val_evaluator.1.ann_file'),
])
def test_names_the_key_of_missing_data(classifier, refuse, args, key):
    """Which the advice changes, in wrappers and lists too."""
    (classifier / 'concatenated.py').write_text(CONCATENATED)
    args = ['concatenated.py', '--cfg-options', 'randomness.seed=1', *args]
    assert f'--cfg-options {key}=PATH' in refuse('train', *args)
    assert 'is/there' in refuse('train', *args, f'{key}=is/there')


def test_data_that_comes_by_itself_may_be_missing(classifier):
    cfg = Config.fromfile('tiny.py')
    cfg.train_dataloader.dataset = dict(
        type='CIFAR10', data_root='none', pipeline=[])
    check_data(cfg, ['train'])
    cfg.train_dataloader.dataset.download = False
    with pytest.raises(CommandError, match='none is expected'):
        check_data(cfg, ['train'])


def test_real_configs_name_their_data(refuse, tmp_path, monkeypatch):
    pytest.importorskip('mmdet')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MMKDNA_DATA', raising=False)
    message = refuse(
        'train',
        str(CONFIGS / 'mask_rcnn' /
            'mask-rcnn_r18-kdna_fpn_1x_coco-tiny80.py'))
    assert message.startswith('data/coco_tiny80')


def test_a_host_that_is_not_installed(tmp_path):
    """Everything there is, except for mmdet, and no site-packages."""
    pytest.importorskip('mmdet')
    there = tmp_path / 'there'
    there.mkdir()
    for entry in Path(torch.__file__).parents[1].iterdir():
        if not re.match('mmdet|(onedl_)?mmdetection', entry.name):
            (there / entry.name).symlink_to(entry)
    inherits = tmp_path / 'inherits.py'
    inherits.write_text(
        f'_base_ = ["{CONFIGS}/_base_/mmkdna.py", "mmdet::rpn/rpn.py"]')
    dumped = tmp_path / 'dumped.py'
    dumped.write_text('default_scope = "mmdet"')
    for path, part in ((inherits, 'has _base_ = \'mmdet::rpn/rpn.py\''),
                       (dumped, 'is a config of mmdet')):
        out = run(
            'env',
            f'PYTHONPATH={there}:{ROOT}',
            sys.executable,
            '-S',
            TOOLS / 'train.py',
            path,
            cwd=tmp_path,
            fails=True)
        message = out.strip().splitlines()[-1]
        assert message.startswith(str(path)) and part in message
        assert 'pip install "mmkdna[det]"' in message
        assert 'Traceback' not in out


def test_a_refusal_is_short(classifier):
    out = run_tool('train', 'none.py', cwd=classifier, fails=True)
    assert 'Traceback' not in out
    assert out.strip().splitlines()[-1].startswith('none.py is given')


def test_amp(monkeypatch):
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cuda')
    use_amp = load_tool('train').use_amp
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD'))))
    use_amp(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == 'dynamic'
    cfg = Config(dict(optim_wrapper=dict(type='DeepSpeedOptimWrapper')))
    with pytest.raises(CommandError, match='DeepSpeedOptimWrapper'):
        use_amp(cfg)


@pytest.mark.parametrize('name, third', [
    ('train', ['--work-dir', 'c']),
    ('test', ['c']),
])
def test_slurm(name, third, tmp_path, monkeypatch):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"')
    srun.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    monkeypatch.setenv('GPUS', '16')
    monkeypatch.setenv('SRUN_ARGS', '--qos high')
    given = ['p', 'j', 'my config.py', 'c', '--cfg-options', 'a="b c"']
    script = TOOLS / f'slurm_{name}.sh'
    said = run(script, *given, cwd=tmp_path).splitlines()
    for option in ('--partition=p', '--job-name=j', '--ntasks=16',
                   '--ntasks-per-node=8', '--gres=gpu:8', '--qos', 'high'):
        assert option in said[:said.index('python')]
    assert said[said.index('python') + 3:] == [
        'my config.py', *third, '--launcher', 'slurm', '--cfg-options',
        'a="b c"'
    ]


@pytest.mark.parametrize('script', sorted(TOOLS.glob('*_t*.sh')), ids=str)
def test_scripts_say_what_they_take(script, tmp_path):
    out = run(script, 'config.py', cwd=tmp_path, fails=True)
    assert 'expected: ' in out and 'CONFIG' in out
