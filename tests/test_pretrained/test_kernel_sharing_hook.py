"""From a child's own kernel to its parent's over the first iterations."""
import pytest
import torch

from mmkdna import KernelDNAConv2d
from mmkdna.pretrained import KernelSharingHook
from tests.test_pretrained.hook_runs import (KEEP, Net, averaged, equal,
                                             plain_weights, runner, saved)

HOOK = dict(type='KernelSharingHook', begin=1, end=4)
EMAS = [
    None,
    dict(type='EMAHook'),
    dict(type='EMAHook', update_buffers=True),
    dict(type='EMAHook', update_buffers=True, begin_iter=3),
]


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / 'plain.pth'
    plain_weights(file)
    return file


def own_keys(state_dict):
    return [key for key in state_dict if 'own_' in key]


def hooks_of(ema, **further):
    return [dict(HOOK, **further)] + ([dict(ema)] if ema else [])


def test_schedules():
    linear = KernelSharingHook(end=10, begin=2)
    assert [linear.own_share(i) for i in (0, 2, 4, 6, 10, 11)] == \
        [1, 1, 0.75, 0.5, 0, 0]
    cosine = KernelSharingHook(end=8, schedule='cosine')
    values = [cosine.own_share(i) for i in range(9)]
    assert values[0] == 1 and values[8] == 0
    assert values[4] == pytest.approx(0.5)
    assert values[2] == pytest.approx((1 + 0.5**0.5) / 2)
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize('schedule', ['linear', 'cosine'])
def test_the_way_of_a_run(schedule, weights, tmp_path):
    hook = dict(HOOK, schedule=schedule)
    run = runner(tmp_path / 'run', weights, hook)
    model = run.train()
    expected = KernelSharingHook(4, 1, schedule).own_share
    for number, shares in enumerate(model.shares):
        if number >= 4:
            assert shares == []
        else:
            assert shares == pytest.approx([expected(number)] * 4)


def test_at_the_start_it_is_the_plain_network(weights, tmp_path):
    run = runner(tmp_path / 'run', weights, HOOK)
    run._init_model_weights()
    theirs = Net(sharing_stages=())
    theirs.backbone.load_state_dict(torch.load(weights))
    x = torch.randn(8, 3, 64, 64)
    for mode in (True, False):
        for net in (run.model.backbone, theirs.backbone):
            net.train(mode)
        with torch.no_grad():
            torch.testing.assert_close(
                run.model.extract_feat(x),
                theirs.extract_feat(x),
                rtol=1e-4,
                atol=1e-5)


@pytest.mark.parametrize('ema', EMAS)
def test_own_kernels_are_gone_everywhere(ema, weights, tmp_path):
    run = runner(tmp_path / 'run', weights, *hooks_of(ema))
    names = {id(p): n for n, p in run.model.named_parameters()}
    assert len(own_keys(run.model.state_dict())) == 8
    model = run.train()
    held = [
        names[id(p)] for group in run.optim_wrapper.param_groups
        for p in group['params']
    ]
    assert sorted(held) == sorted(names.values()) and own_keys(held) == []
    assert own_keys(model.state_dict()) == []
    for number in range(1, 7):
        checkpoint = saved(tmp_path / 'run', number)
        # Iteration 4, the first without, is saved as the fifth.
        left = 8 if number <= 4 else 0
        assert len(own_keys(checkpoint['state_dict'])) == left
        if ema:
            assert len(own_keys(checkpoint['ema_state_dict'])) == left
        assert len(checkpoint['optimizer']['state']) == len(names)
    if ema:
        assert own_keys(averaged(run).state_dict()) == []
        for conv in averaged(run).modules():
            if isinstance(conv, KernelDNAConv2d) and conv.role == 'child':
                assert conv.parent in list(averaged(run).modules())


@pytest.mark.parametrize('ema', EMAS)
@pytest.mark.parametrize('stop', [1, 3, 5])
def test_resuming_is_exact(ema, stop, weights, tmp_path):
    whole = runner(tmp_path / 'whole', weights, *hooks_of(ema))
    whole.train()
    again = runner(
        tmp_path / 'again',
        weights,
        *hooks_of(ema),
        seed=0,
        load_from=str(tmp_path / 'whole' / f'iter_{stop}.pth'),
        resume=True)
    again.train()
    assert len(again.model.shares) == 6 - stop
    assert again.model.shares == whole.model.shares[stop:]
    first, second = (saved(tmp_path / name, 6) for name in ('whole', 'again'))
    assert equal(first['state_dict'], second['state_dict'])
    assert first['optimizer']['param_groups'] == \
        second['optimizer']['param_groups']
    if ema:
        assert equal(first['ema_state_dict'], second['ema_state_dict'])
    losses = [
        run.message_hub.get_scalar('train/loss')._log_history[stop:]
        for run in (whole, again)
    ]
    assert len(losses[0]) == 6 - stop and (losses[0] == losses[1]).all()


@pytest.mark.parametrize('number', [2, 6])
def test_inference_with_a_checkpoint_of_the_way(number, weights, tmp_path):
    run = runner(tmp_path / 'run', weights, HOOK, iters=number)
    if number == 2:
        run = runner(tmp_path / 'run', weights, HOOK)
    run.train()
    state_dict = saved(tmp_path / 'run', number)['state_dict']
    x = torch.randn(2, 3, 32, 32)
    keeping, other = Net(), Net(conv_cfg=dict(type='KernelDNA'))
    keeping.load_state_dict(state_dict)
    keeping.eval()
    with torch.no_grad():
        answer = keeping(x)
    if number == 6:
        other.load_state_dict(state_dict)
        other.eval()
        run.model.eval()
        with torch.no_grad():
            assert torch.equal(answer, other(x))
            assert torch.equal(answer, run.model(x))
        return
    share = KernelSharingHook(4, 1).own_share(1)
    child = keeping.backbone.layer3[1].conv2
    kernel = share * child.own_weight + (1 - share) * child.adapter.derive(
        child.parent.weight)
    torch.testing.assert_close(child.kernel(), kernel)
    # Without keep_own_kernel nothing can be made of it, and that is said.
    with pytest.raises(RuntimeError, match='own_weight'):
        other.load_state_dict(state_dict)


@pytest.mark.parametrize('arguments', [
    dict(end=0),
    dict(end=3, begin=3),
    dict(end=3, begin=-1),
    dict(end=3, schedule='step'),
])
def test_senseless_arguments(arguments):
    with pytest.raises(ValueError, match='KernelSharingHook: .* is expected'):
        KernelSharingHook(**arguments)


def test_training_that_stops_on_the_way(weights, tmp_path):
    run = runner(tmp_path / 'run', weights, HOOK, iters=4)
    with pytest.raises(ValueError, match='stops after 4 iterations'):
        run.train()


@pytest.mark.parametrize('conv_cfg', [
    dict(type='KernelDNA'),
    dict(type='KernelDNA', share=False),
])
def test_nobody_keeps_a_kernel(conv_cfg, weights, tmp_path):
    run = runner(tmp_path / 'run', weights, HOOK, model=Net(conv_cfg=conv_cfg))
    with pytest.raises(ValueError, match='keep_own_kernel=True'):
        run.train()


def test_options_that_exclude_each_other():
    for further in (dict(share=False), dict(deploy=True)):
        with pytest.raises(ValueError, match='keep_own_kernel'):
            Net(conv_cfg=dict(KEEP, **further))
