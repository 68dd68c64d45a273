"""A warning where the start of a training would stay for all of it."""
import copy
import warnings

import pytest

from tests.test_rivals.test_temperature_hook import (EMAS, HOOK, Net,
                                                     make_runner)

KINDS = ['DyConv', 'ODConv', 'KernelWarehouse']
SAID = 'is in train mode without a TemperatureHook'
every = pytest.mark.parametrize('kind', KINDS)


def said(act):
    """How often an act brings the warning."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        act()
    return [str(w.message) for w in found if SAID in str(w.message)]


@every
def test_training_without_the_hook_warns_once(kind, tmp_path):
    runner = make_runner(tmp_path, types=[kind])
    message, = said(runner.train)
    assert kind in message and 'TemperatureHook' in message
    part = 'not dynamic' if kind == 'KernelWarehouse' else 'temperature 30'
    assert part in message


@every
@pytest.mark.parametrize('ema', EMAS[:2])
def test_training_with_it_does_not(kind, ema, tmp_path):
    assert not said(make_runner(tmp_path, HOOK, ema, types=[kind]).train)


@every
def test_nor_does_inference(kind):
    model = Net(kind)
    assert not said(model.eval)
    assert not said(lambda: copy.deepcopy(model).to('meta').train())


@pytest.mark.parametrize('kind', KINDS[:2])
def test_nor_where_a_temperature_of_1_is_set(kind):
    assert not said(Net(kind, temperature=1).train)


@every
def test_nor_where_weights_have_been_sharpened(kind):
    trained, model = Net(kind), Net(kind)
    for conv in trained.convs:
        if hasattr(conv, 'set_progress'):
            conv.set_progress(0.5)
    model.load_state_dict(trained.state_dict())
    assert not said(model.train)
    # It was looked at once, and a loop of one's own says so by itself.
    assert not said(trained.train)
    assert len(said(Net(kind).train)) == 1
