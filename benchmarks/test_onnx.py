"""How fast exported files are, with and without the kernels of children."""
import numpy as np
import pytest

from mmkdna import switch_to_deploy
from mmkdna.deploy import fold_gates
from mmkdna.launch.model import init_model
from tests.runs import CONFIGS, load_tool

pytest.importorskip('mmpretrain')
onnxruntime = pytest.importorskip('onnxruntime')
CONFIG = str(CONFIGS / 'resnet' / 'kdna-resnet18_8xb32_in1k.py')


@pytest.mark.benchmark(group='onnx')
@pytest.mark.parametrize('keep_sharing', [False, True])
def test_run(benchmark, tmp_path, keep_sharing):
    tool = load_tool('deployment/export_onnx')
    model = init_model(CONFIG)
    model = fold_gates(model) if keep_sharing else switch_to_deploy(model)
    path = str(tmp_path / 'model.onnx')
    tool.export(
        tool.Exported(model).eval(),
        path,
        size=(224, 224),
        opset=17,
        keep_sharing=keep_sharing)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path, options, providers=['CPUExecutionProvider'])
    image = np.random.default_rng(0).random((1, 3, 224, 224), np.float32)
    benchmark(session.run, None, dict(input=image))
