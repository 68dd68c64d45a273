"""Whether the model of a config can be built, and trained as it asks."""
import copy

from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from run_utils import check_checkpoint, describe

from mmkdna import sharing_table


def check_model(cfg):
    """End the run if the model cannot be built.

    The runner writes its work_dir before it builds the model, so that one is
    built here to be thrown away.

    Args:
        cfg (Config): The config.

    Returns:
        nn.Module: The model.
    """
    model = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    # Nothing is said twice: what the build logs is said in the runner's log.
    MMLogger.get_instance('check_model', log_level='ERROR')
    try:
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            model = MODELS.build(model)
    except Exception as error:
        raise SystemExit(
            f'The model of {cfg.filename} cannot be built: {describe(error)}'
        ) from error
    return model


def check_pretrained(cfg):
    """End the run if a pretrained file does not exist, or is not safe to load.

    Args:
        cfg (Config): The config.
    """
    if isinstance(cfg.model.get('pretrained'), str):
        check_checkpoint(cfg.model.pretrained, 'model.pretrained')
    for path, init_cfg in _inits(cfg.model, 'model'):
        if isinstance(init_cfg.get('checkpoint'), str):
            check_checkpoint(init_cfg['checkpoint'], f'{path}.checkpoint')


def _inits(node, path):
    """Every init_cfg in a config, and where it stands."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if not isinstance(value, (dict, list, tuple)):
            continue
        inner = f'{path}.{key}'
        if isinstance(value, dict) and '.init_cfg' in inner:
            yield inner, value
        yield from _inits(value, inner)


def check_recomputing(cfg, model):
    """End the run if DDP or FSDP would end it at its first step.

    Blocks that share a kernel are recomputed one by one, so its gradient comes
    in parts, of which DDP takes the first for all, unless told.

    Args:
        cfg (Config): The config, with its launcher.
        model (nn.Module): The model it builds.
    """
    recomputed = any(getattr(m, 'with_cp', False) for m in model.modules())
    shared = any(
        row.parent not in (None, row.name) for row in sharing_table(model))
    if cfg.launcher == 'none' or not recomputed or not shared:
        return
    given = f'with_cp=True is given in {cfg.filename}'
    strategy = cfg.get('strategy') or {}
    if strategy.get('type') == 'FSDPStrategy':
        raise SystemExit(
            f'{given}, which FSDP cannot run: leave it away, and set '
            'strategy.activation_checkpointing as in docs/distributed.md')
    flexible = cfg.get('runner_type') == 'FlexibleRunner'
    key = 'strategy.model_wrapper' if flexible else 'model_wrapper_cfg'
    wrapper = (strategy.get('model_wrapper')
               if flexible else cfg.get('model_wrapper_cfg')) or {}
    if not wrapper.get('static_graph'):
        raise SystemExit(
            f'{given}, where blocks share kernels, with --launcher '
            f'{cfg.launcher}: DDP needs {key}.static_graph=True then; '
            'docs/distributed.md has the lines for the config')
