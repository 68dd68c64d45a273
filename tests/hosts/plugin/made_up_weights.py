"""A pytest plugin: weights of the web, made up.

The tests of the host libraries ask for ``torchvision://resnet18``. Its shapes
and names are what they are about, so its values may be random, and the tests
run without a network.
"""
from mmengine.runner import CheckpointLoader
from torchvision.models import get_model

SCHEME = 'torchvision://'


@CheckpointLoader.register_scheme(SCHEME, force=True)
def make_up(filename, map_location=None):
    """Give a model of torchvision's, as it is before any training."""
    return get_model(filename[len(SCHEME):]).state_dict()
