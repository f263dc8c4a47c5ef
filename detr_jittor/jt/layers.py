"""The layers that Jittor's own would serve less well: exact layer norm, linear layers and norms on our kernels."""

from detr_jittor.jt import kernels
from detr_jittor.jt.runtime import jt

nn = jt.nn


class Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        self.weight = jt.zeros((outputs, inputs))
        self.bias = jt.zeros((outputs,))

    def execute(self, x, relu: bool = False):
        return kernels.linear(x, self.weight, self.bias, relu)


class LayerNorm(nn.Module):
    def __init__(self, dim: int):
        self.weight = jt.ones((dim,))
        self.bias = jt.zeros((dim,))

    def execute(self, x):
        return kernels.layer_norm(x, self.weight, self.bias)


def set_training(model: nn.Module, training: bool) -> None:
    """Switch between training and evaluation.

    TRAP(jittor): eval-stops-gradients. Module.eval() stops the gradients of all parameters, and train() restores
    them by the Python id of a Var, which another Var may have by then. So neither is called.
    """
    for module in model.modules():
        module.is_train = training
