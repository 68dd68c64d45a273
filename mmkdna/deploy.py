"""A linked model made ready to fuse and to export."""
from .linking import named_convs


def switch_to_deploy(model):
    """Give every child its own, folded kernel, in place.

    A child becomes an independent convolution behind a gate into which its
    batch norm is folded; a parent becomes a plain convolution. What the model
    computes in eval mode stays the same up to rounding, and folding norms into
    convolutions (mmcv's ``fuse_conv_bn``) is exact from then on.

    Args:
        model (nn.Module): A linked model.

    Returns:
        nn.Module: The same model.

    Raises:
        ValueError: If a child in ``model`` has its parent outside of it.
    """
    convs = named_convs(model).values()
    for conv in convs:
        conv.switch_to_deploy()
    for conv in convs:
        conv.num_children = 0
    return model
