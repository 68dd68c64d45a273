"""A classifier and a detector, their data, and the ways to train them.

An average over processes equals a batch in one process only where no image
sees another one and all have the same number of targets. So nothing here takes
statistics over images: the detector is trained as its config says, with
norm_eval, and the classifier with GN throughout, its gates included; and the
detector's images have different pixels, but the same boxes. The learning rate
is high enough for the second and third loss to tell a wrong step.
"""
import json
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import FUNCTIONS
from mmengine.registry import MODELS as REGISTRY
from mmengine.registry import OPTIM_WRAPPERS, DefaultScope
from mmengine.runner.amp import autocast

from tests.runs import CONFIGS

STEPS = 3
BATCH = 4
SIZE = 64

COMMON = f'''
custom_imports = dict(imports=['mmkdna', '{__name__}'])
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters={STEPS})
param_scheduler = []
val_dataloader = val_cfg = val_evaluator = None
test_dataloader = test_cfg = test_evaluator = None
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(by_epoch=False, interval=1000, save_last=False))
log_processor = dict(window_size=1)
randomness = dict(seed=0)
loader = dict(
    batch_size={BATCH}, num_workers=0, persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False))
'''
# A residual branch that starts at zero would hide what is in it.
NARROW = 'base_channels=16, stem_channels=16, zero_init_residual=False'
CLASSIFIER = f'''
_base_ = '{CONFIGS}/resnet/kdna-resnet18_8xb32_in1k.py'
gn = dict(type='GN', num_groups=8)
model = dict(
    backbone=dict(
        norm_cfg=gn, conv_cfg=dict(type='KernelDNA', norm_cfg=gn),
        # Not as built: runners build at different states of the generator.
        init_cfg=[
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='TruncNormal', layer='Linear', std=0.1)],
        {NARROW}),
    head=dict(in_channels=128))
{COMMON}
weights = 'classifier.pth'
train_dataloader = dict(_delete_=True, **loader, dataset=dict(
    type='CustomDataset', data_prefix='data', with_label=True,
    pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
optim_wrapper = dict(optimizer=dict(lr=0.01))
'''
DETECTOR = f'''
_base_ = '{CONFIGS}/retinanet/retinanet_r18-kdna_fpn_1x_coco.py'
model = dict(
    backbone=dict(
        init_cfg=None, conv_cfg=dict(type='KernelDNA'), {NARROW}),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=64, num_outs=3),
    bbox_head=dict(
        in_channels=64, feat_channels=64,
        anchor_generator=dict(strides=[8, 16, 32])))
{COMMON}
weights = 'detector.pth'
train_dataloader = dict(**loader, dataset=dict(
    data_root='data', ann_file='boxes.json', data_prefix=dict(img=''),
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs')]))
optim_wrapper = dict(optimizer=dict(lr=0.1))
'''
MODELS = dict(classifier=CLASSIFIER, detector=DETECTOR)

WITH_CP = '''
model = dict(backbone=dict(with_cp=True))
'''
BF16 = '''
optim_wrapper = dict(type='CPUAmpOptimWrapper')
'''
# From a plain network's kernels to shared ones.
SHARING = '''
model = dict(backbone=dict(
    conv_cfg=dict(keep_own_kernel=True),
    init_cfg=[dict(type='Pretrained', checkpoint={{_base_.weights}})]))
custom_hooks = [dict(%s)]
'''
GRADUALLY = SHARING % f'type="KernelSharingHook", end={STEPS - 1}'
# Of two processes.
HALF = f'''
train_dataloader = dict(batch_size={BATCH // 2})
'''
SAVED = '''
default_hooks = dict(checkpoint=dict(save_last=True))
'''
STRATEGY = HALF + '''
runner_type = 'FlexibleRunner'
strategy = dict(type='%s')
'''
# Whole, as DDP saves it; with 'full', torch 2.11 crashes on a CPU.
FSDP = STRATEGY % 'FSDPStrategy' + '''
strategy.update(
    model_wrapper=dict(auto_wrap_policy='%s'),
    state_dict_cfg=dict(
        state_dict_type='FULL_STATE_DICT',
        state_dict_config=dict(type='FullStateDictConfig'),
        optim_state_dict_config=dict(type='FullOptimStateDictConfig')))
'''
POLICY = 'kernel_dna_wrap_policy'
ONE_PROCESS = dict(plain='', with_cp=WITH_CP, bf16=BF16, gradually=GRADUALLY)
TWO_PROCESSES = dict(
    ddp=HALF + SAVED,
    # BATCH images, half of them at a time.
    accumulation=f'''
train_dataloader = dict(batch_size={BATCH // 4})
train_cfg = dict(max_iters={2 * STEPS})
optim_wrapper = dict(accumulative_counts=2)
''',
    ddp_with_cp=HALF + WITH_CP + '''
model_wrapper_cfg = dict(static_graph=True)
''',
    ddp_bf16=HALF + BF16,
    ddp_gradually=HALF + GRADUALLY,
    flexible_ddp=STRATEGY % 'DDPStrategy')
FSDP_CASES = dict(
    fsdp=FSDP % POLICY + SAVED,
    fsdp_checkpointing=FSDP % POLICY + f'''
strategy.update(activation_checkpointing=dict(check_fn='{POLICY}'))
''',
    fsdp_gradually=FSDP % POLICY + GRADUALLY)
# Of two GPUs.
SYNC_BN = '''
model = dict(backbone=dict(
    norm_cfg=dict(_delete_=True, type='SyncBN'), norm_eval=False,
    conv_cfg=dict(
        _delete_=True, type='KernelDNA', norm_cfg=dict(type='SyncBN'))))
optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16')
'''
SYNC_BN_AMP = dict(sync_one=SYNC_BN, sync_two=SYNC_BN + HALF)
# What FSDP cannot do.
SPLIT = FSDP % 'wrap_blocks'
FITTED = FSDP % POLICY + SHARING % 'type="ReconstructionHook"'


def write(folder, cases):
    """Write the configs of both models.

    Args:
        folder (Path): Where to.
        cases (dict[str, str]): What a config adds to that of a single
            process, by the name of the case.

    Returns:
        list[str]: The files, as ``{model}_{case}.py``.
    """
    files = []
    for model, config in MODELS.items():
        (folder / f'{model}.py').write_text(config)
        for case, text in cases.items():
            files.append(f'{model}_{case}.py')
            (folder / files[-1]).write_text(f"_base_ = '{model}.py'\n{text}")
    return files


def make_weights(folder):
    """The weights of each model's plain backbone."""
    for model in MODELS:
        cfg = Config.fromfile(folder / f'{model}.py')
        cfg.model.backbone.sharing_stages = ()
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            backbone = REGISTRY.build(cfg.model.backbone)
        backbone.init_weights()
        torch.save(backbone.state_dict(), folder / cfg.weights)


def make_data(folder):
    """Pictures in two classes, with boxes that are everywhere the same."""
    random = np.random.RandomState(0)
    images, annotations = [], []
    for i in range(STEPS * BATCH):
        name = f'class{i % 2}/{i:02}.png'
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        # Coarse, since fine noise looks alike to a detector.
        picture = random.randint(0, 256, (4, 4, 3), np.uint8)
        cv2.imwrite(str(file), cv2.resize(picture, (SIZE, SIZE)))
        images.append(dict(id=i, file_name=name, width=SIZE, height=SIZE))
        for label, (x, y, w, h) in enumerate([(4, 4, 36, 36),
                                              (20, 10, 40, 50)]):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i,
                    category_id=label + 1,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0))
    categories = [dict(id=1, name='person'), dict(id=2, name='bicycle')]
    (folder / 'boxes.json').write_text(
        json.dumps(
            dict(
                images=images, annotations=annotations,
                categories=categories)))


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """What AmpOptimWrapper does in bfloat16; that one refuses a CPU."""

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield


@FUNCTIONS.register_module()
def wrap_blocks(module, recurse, nonwrapped_numel):
    """A policy that tears children from their parents."""
    return recurse or type(module).__name__ == 'BasicBlock'
