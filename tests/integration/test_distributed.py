"""Two processes with half a batch each train as one process with all of it."""
import copy
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from mmengine.model import convert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

from mmkdna import sharing_table
from mmkdna.checkpoints.files import load_file
from tests.integration import cases, gradients, trainings
from tests.runs import TOOLS, free_port, logged, run
from tests.utils import children_of

pytestmark = pytest.mark.hosts('mmdet', 'mmpretrain')

# Also where there are GPUs: the processes would want one each.
ON_CPU = ('env', 'CUDA_VISIBLE_DEVICES=')
TWO = (*ON_CPU, 'torchrun', '--standalone', '--nproc_per_node=2')


def fsdp_runs_on_a_cpu():
    try:
        torch.cpu.Stream(priority=-1)
    except TypeError:
        return False
    return True


@pytest.fixture(scope='module')
def of_two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('gradients')
    run(*TWO, gradients.__file__, 'gradients.pth', cwd=folder)
    return torch.load(folder / 'gradients.pth')


@pytest.mark.parametrize('task', gradients.TASKS)
def test_gradients_equal_those_of_one_process(of_two_processes, task):
    expected = gradients.gradients(task)
    found = of_two_processes[task]
    assert found.keys() == expected.keys()
    assert any('.adapter.gate.' in name for name in found)
    for name in expected:
        assert expected[name] is not None, f'{name} is never used'
        assert expected[name].any(), f'{name} has no influence'
        difference = (found[name] - expected[name]).norm()
        assert difference <= 1e-6 * expected[name].norm(), name


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trainings')
    cases.make_data(folder / 'data')
    cases.write(folder, {})
    cases.make_weights(folder)
    return folder


def train(folder, command, configs):
    """The losses of trainings, shape (processes, steps) each."""
    run(*command, trainings.__file__, 'losses.json', *configs, cwd=folder)
    losses = json.loads((folder / 'losses.json').read_text())
    return {name[:-len('.py')]: np.array(of) for name, of in losses.items()}


@pytest.fixture(scope='module')
def of_one(folder):
    """Losses of one process."""
    configs = cases.write(folder, cases.ONE_PROCESS)
    return train(folder, (*ON_CPU, 'python'), configs)


@pytest.fixture(scope='module')
def of_two(folder):
    """Losses of two processes."""
    chosen = dict(cases.TWO_PROCESSES)
    if fsdp_runs_on_a_cpu():
        chosen.update(cases.FSDP_CASES)
    return train(folder, TWO, cases.write(folder, chosen))


def steps(losses):
    """What one process would log: averages over processes and parts."""
    return losses.mean(0).reshape(cases.STEPS, -1).mean(1)


on_a_cpu = pytest.mark.skipif(
    not fsdp_runs_on_a_cpu(), reason='FSDP of this torch needs two GPUs')


@pytest.mark.parametrize('model', cases.MODELS)
@pytest.mark.parametrize(
    'case', ['ddp', 'accumulation', 'ddp_with_cp', 'flexible_ddp'] + [
        pytest.param(case, marks=on_a_cpu)
        for case in ('fsdp', 'fsdp_checkpointing')
    ])
def test_losses_equal_those_of_one_process(of_one, of_two, model, case):
    expected = steps(of_one[f'{model}_plain'])
    found = of_two[f'{model}_{case}']
    # Each process has images of its own, and each step tells of the last.
    assert len(found) == 2 and (found[0] != found[1]).all()
    assert abs(np.diff(expected)).min() > 1e-2
    assert steps(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize('model', cases.MODELS)
@pytest.mark.parametrize(
    'case', ['ddp_gradually',
             pytest.param('fsdp_gradually', marks=on_a_cpu)])
def test_children_move_as_in_one_process(of_one, of_two, model, case):
    expected = steps(of_one[f'{model}_gradually'])
    assert steps(of_two[f'{model}_{case}']) == pytest.approx(
        expected, rel=1e-4)
    assert (expected != steps(of_one[f'{model}_plain'])).all()


@pytest.mark.parametrize('model', cases.MODELS)
def test_with_cp_changes_nothing(of_one, model):
    assert of_one[f'{model}_with_cp'] == pytest.approx(
        of_one[f'{model}_plain'], rel=1e-6)


@pytest.mark.parametrize('model', cases.MODELS)
def test_bfloat16_is_near_float32(of_one, of_two, model):
    exact = steps(of_one[f'{model}_plain'])
    for losses in (of_one[f'{model}_bf16'], of_two[f'{model}_ddp_bf16']):
        assert steps(losses) == pytest.approx(exact, rel=1e-2)
        assert (steps(losses) != exact).all()


@on_a_cpu
def test_a_checkpoint_of_fsdp_is_that_of_ddp(of_two, folder):
    ddp, fsdp = (
        load_file(folder / 'work_dirs' / f'classifier_{case}' /
                  f'iter_{cases.STEPS}.pth')['state_dict']
        for case in ('ddp', 'fsdp'))
    assert ddp.keys() == fsdp.keys()
    assert any('.adapter.' in name for name in ddp)
    for name, weight in ddp.items():
        torch.testing.assert_close(fsdp[name], weight)


@on_a_cpu
@pytest.mark.slow
@pytest.mark.parametrize('case, said', [
    (cases.SPLIT, ['RuntimeError: the kernel of \'layer3.', cases.POLICY]),
    (cases.FITTED,
     ['RuntimeError: ReconstructionHook', 'FSDP', 'plain_to_mmkdna.py']),
])
def test_fsdp_says_what_it_cannot(folder, case, said):
    cases.write(folder, dict(refused=case))
    output = run(
        *TWO,
        TOOLS / 'train.py',
        'classifier_refused.py',
        '--launcher',
        'pytorch',
        cwd=folder,
        fails=True)
    for part in said:
        assert part in output


def test_two_machines(folder, of_two):
    # At the rate for half the images, so that scaling it makes it cases'.
    (folder / 'machines.py').write_text(f'''
_base_ = 'classifier_ddp.py'
optim_wrapper = dict(optimizer=dict(lr=0.005))
auto_scale_lr = dict(base_batch_size={cases.BATCH // 2})
''')
    port = free_port()

    def machine(rank):
        return run(
            *ON_CPU,
            'NNODES=2',
            f'NODE_RANK={rank}',
            'MASTER_ADDR=127.0.0.1',
            f'PORT={port}',
            TOOLS / 'dist_train.sh',
            'machines.py',
            1,
            '--auto-scale-lr',
            cwd=folder)

    with ThreadPoolExecutor() as pool:
        said, _ = pool.map(machine, range(2))
    assert 'GPU number: 2' in said
    work_dir = folder / 'work_dirs' / 'machines'
    assert set(logged(work_dir, 'lr').values()) == {0.01}
    # The log is that of the first process.
    assert list(logged(work_dir).values()) == pytest.approx(
        of_two['classifier_ddp'][0], rel=1e-4)


def test_sync_bn_computes_what_bn_does():
    # In one process; torch refuses to gather statistics from CPUs.
    cfg = gradients.load_classifier().model
    cfg.backbone.norm_cfg = dict(type='BN')
    cfg.backbone.conv_cfg = dict(type='KernelDNA')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg).backbone
    model.init_weights()
    converted = convert_sync_batchnorm(copy.deepcopy(model))
    assert str(sharing_table(converted)) == str(sharing_table(model))
    for conv in children_of(converted).values():
        assert isinstance(conv.adapter.gate.norm, torch.nn.SyncBatchNorm)
    images = torch.randn(2, 3, cases.SIZE, cases.SIZE)
    torch.testing.assert_close(converted(images), model(images))


@pytest.mark.skipif(
    torch.cuda.device_count() < 2, reason='SyncBN and AMP need two GPUs')
@pytest.mark.parametrize('model', cases.MODELS)
def test_sync_bn_and_amp(folder, model):
    cases.write(folder, cases.SYNC_BN_AMP)
    one = train(folder, ('python', ), [f'{model}_sync_one.py'])
    two = train(folder, ('torchrun', '--standalone', '--nproc_per_node=2'),
                [f'{model}_sync_two.py'])
    # In one process SyncBN is BN; bfloat16 rounds to three digits.
    assert steps(two[f'{model}_sync_two']) == pytest.approx(
        steps(one[f'{model}_sync_one']), rel=1e-2)
