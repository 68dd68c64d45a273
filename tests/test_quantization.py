"""Quantization: refused where it would leave convolutions in float."""
import copy
import inspect

import pytest
import torch
from torch import nn
from torch.ao import quantization as tq
from torch.ao.quantization import quantize_fx

from mmkdna import KernelDNAConv2d, link_kernels, switch_to_deploy
from mmkdna.rivals import CONV_TYPES
from tests.utils import children_of, make_kin, randomize, relative_error

pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning')
X = torch.randn(2, 8, 6, 6)


def qat(model):
    model.train().qconfig = tq.get_default_qat_qconfig('fbgemm')
    return tq.prepare_qat(model)


def static(model):
    model.eval().qconfig = tq.get_default_qconfig('fbgemm')
    return tq.prepare(model)


def static_by_fx(model):
    return quantize_fx.prepare_fx(model.eval(),
                                  tq.get_default_qconfig_mapping('fbgemm'),
                                  (X, ))


def qat_by_fx(model):
    return quantize_fx.prepare_qat_fx(
        model.train(), tq.get_default_qat_qconfig_mapping('fbgemm'), (X, ))


ways = pytest.mark.parametrize('prepare',
                               [qat, static, qat_by_fx, static_by_fx])


def make(kind, deploy=False):
    """Two convolutions of one type, linked."""
    conv = dict(CONV_TYPES, KernelDNA=KernelDNAConv2d, Conv2d=nn.Conv2d)[kind]
    module = nn.Sequential(
        nn.Sequential(conv(8, 8, 3, padding=1), conv(8, 8, 3, padding=1)))
    link_kernels(module)
    randomize(module)
    return switch_to_deploy(module) if deploy else module


@ways
@pytest.mark.parametrize('kind, deploy', [('KernelDNA', False),
                                          ('KernelDNA', True),
                                          ('DyConv', False)])
def test_what_would_stay_in_float_is_refused(prepare, kind, deploy):
    # What is swapped without a word is nn.Conv2d alone.
    stock = prepare(make('Conv2d'))
    fakes = {'FakeQuantize', 'FusedMovingAvgObsFakeQuantize'}
    observers = [
        m for m in stock.modules()
        if type(m).__name__.endswith('Observer') or type(m).__name__ in fakes
    ]
    assert observers
    module = make(kind, deploy)
    before = module.eval()(X)
    with pytest.raises(RuntimeError, match='export_onnx.*switch_to_deploy'):
        prepare(module)
    assert torch.equal(module.eval()(X), before)


@pytest.mark.parametrize('kind', ['KernelDNA', 'DyConv'])
def test_some_can_be_left_in_float(kind):
    module = nn.Sequential(make(kind), make('Conv2d'))
    for conv in module[0].modules():
        conv.qconfig = None
    prepared = qat(module)
    assert hasattr(prepared[1][0][0], 'weight_fake_quant')
    assert type(prepared[0][0][0]) is type(module[0][0][0])
    # What says it is not there is not there in a copy either.
    conv = copy.deepcopy(module[0][0][0])
    assert conv.qconfig is None
    del conv.qconfig
    assert not hasattr(conv, 'qconfig')


def test_dynamic_quantization_takes_the_linear_layers_of_gates():
    module = randomize(make_kin()).eval()
    before = module(X)
    quantized = tq.quantize_dynamic(module)
    child, = children_of(quantized).values()
    assert not isinstance(child.adapter.gate.fc1, nn.Linear)
    assert relative_error(quantized(X), before) <= 1e-2
    with pytest.raises(RuntimeError, match='switch_to_deploy.*before quant'):
        switch_to_deploy(quantized)
    assert child.role == 'child'
    # In this order it can be done.
    deployed = tq.quantize_dynamic(switch_to_deploy(module))
    assert relative_error(deployed(X), before) <= 1e-2


def test_the_exported_model_can_be_quantized(tmp_path):
    ort_quantization = pytest.importorskip('onnxruntime.quantization')
    import onnx
    import onnxruntime
    module = switch_to_deploy(randomize(make_kin()).eval())
    before = module(X)
    files = [str(tmp_path / f'{name}.onnx') for name in ('float', 'int8')]
    # The exporter that both stacks have.
    legacy = {}
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        legacy['dynamo'] = False
    torch.onnx.export(module, (X, ), files[0], input_names=['x'], **legacy)

    class Reader(ort_quantization.CalibrationDataReader):
        rows = [dict(x=X.numpy())]

        def get_next(self):
            return self.rows.pop() if self.rows else None

    ort_quantization.quantize_static(*files, Reader())
    quantized = onnxruntime.InferenceSession(files[1])
    after, = quantized.run(None, dict(x=X.numpy()))
    assert relative_error(torch.from_numpy(after), before) <= 5e-2
    operations = {node.op_type for node in onnx.load(files[1]).graph.node}
    assert 'QuantizeLinear' in operations
