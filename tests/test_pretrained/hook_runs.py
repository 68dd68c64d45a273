"""A tiny training with mmengine's Runner, from plain weights."""
from uuid import uuid4

import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import Dataset

KEEP = dict(type='KernelDNA', keep_own_kernel=True)


class Pictures(Dataset):
    """Eight pictures that never change."""

    metainfo = {}

    def __len__(self):
        return 8

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return dict(
            inputs=torch.randn(3, 32, 32, generator=generator),
            label=torch.tensor(index % 2))


class Net(BaseModel):
    """A bottleneck ResNet under a linear layer."""

    def __init__(self, conv_cfg=KEEP, init_cfg=None, **backbone):
        super().__init__()
        backbone.setdefault('conv_cfg', conv_cfg)
        self.backbone = MODELS.build(
            dict(
                type='mmpretrain.KernelDNAResNet',
                depth=50,
                base_channels=4,
                stem_channels=8,
                init_cfg=init_cfg,
                **backbone))
        self.fc = nn.Linear(128, 2)
        self.shares = []

    def extract_feat(self, inputs):
        return self.backbone(inputs)[-1]

    def forward(self, inputs, label=None, mode='tensor'):
        scores = self.fc(self.extract_feat(inputs).mean((2, 3)))
        if mode != 'loss':
            return scores
        self.shares.append([
            float(conv.own_share) for conv in self.modules()
            if 'own_share' in getattr(conv, '_buffers', {})
        ])
        return dict(loss=nn.functional.cross_entropy(scores, label))


def plain_weights(file):
    """Write a plain backbone's weights to a file, and return the network."""
    torch.manual_seed(11)
    net = Net(sharing_stages=())
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.normal_(module.bias, 0, 0.3)
            module.running_var.uniform_(0.5, 2)
    torch.save(net.backbone.state_dict(), file)
    return net


def runner(work_dir, weights, *hooks, iters=6, seed=0, **arguments):
    """A runner over the pictures, saving after each iteration."""
    torch.manual_seed(seed)
    model = arguments.pop('model', None) or Net(
        init_cfg=dict(type='Pretrained', checkpoint=str(weights)))
    arguments.setdefault('default_hooks', {})
    arguments['default_hooks'].setdefault(
        'checkpoint', dict(type='CheckpointHook', by_epoch=False, interval=1))
    return Runner(
        model,
        str(work_dir),
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            dataset=Pictures(),
            sampler=dict(type='InfiniteSampler', shuffle=True),
            collate_fn=dict(type='default_collate')),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iters),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
        default_scope='mmengine',
        custom_hooks=list(hooks),
        randomness=dict(seed=seed),
        # Runs of one name would share their history.
        experiment_name=uuid4().hex,
        **arguments)


def saved(work_dir, number):
    return torch.load(
        f'{work_dir}/iter_{number}.pth',
        map_location='cpu',
        weights_only=False)


def averaged(run):
    """The model that the run's EMAHook averages."""
    hook, = [h for h in run.hooks if isinstance(h, EMAHook)]
    return hook.ema_model.module


def equal(one, two):
    """Whether two state dicts are the same to the bit."""
    return list(one) == list(two) and all(
        torch.equal(one[key], two[key]) for key in one)
