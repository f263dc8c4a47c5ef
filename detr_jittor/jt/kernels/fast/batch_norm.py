"""Convolution + trainable batch norm + residual + ReLU, in the blocked layout of convolution.py."""

from detr_jittor.jt.kernels.fast.convolution import conv_norm
from detr_jittor.jt.kernels.fast.library import apply, run
from detr_jittor.jt.setup.runtime import jt


class BatchNorm(jt.Function):
    def execute(self, x, gamma, beta, residual, running_mean, running_var, momentum, relu):
        c = x.shape[1]
        inputs = [x, gamma, beta, running_mean, running_var] + ([] if residual is None else [residual])
        y, statistics, mean, var = run("batch_norm", inputs, [x.shape, (2, c), (c,), (c,)], momentum, relu)
        self.saved = x, gamma, statistics, [y] if relu else []
        return y, mean, var

    def grad(self, dy, *_):
        x, gamma, statistics, y = self.saved
        wants_residual = self.input_mask[3] >= 0
        shapes = [x.shape, gamma.shape, gamma.shape] + [x.shape] * wants_residual
        grads = run("batch_norm_backward", [x, gamma, statistics, dy, *y], shapes)
        wanted = [g if self.input_mask[i] >= 0 else None for i, g in enumerate(grads[:3])]
        return *wanted, grads[3] if wants_residual else None, None, None, None, None


def conv_batch_norm(x, weight, gamma, beta, running_mean, running_var, stride, padding, dilation, training,
                    residual=None, relu=True, momentum=0.1):
    """ReLU(batch_norm(conv(x)) + residual) with trainable batch norm → [B, C', H', W']

    In training the running statistics move towards the batch's mean and unbiased variance, as in PyTorch.
    In evaluation gamma and beta have no gradient.
    """
    if not training:
        return conv_norm(x, weight, (gamma, beta, running_mean, running_var), stride, padding, dilation, residual, relu)
    # float32 also where activations are bfloat16: the statistics are to be exact
    y = conv_norm(x, weight, (), stride, padding, dilation, relu=False, dtype="float32")
    running = running_mean.detach(), running_var.detach()
    y, mean, var = apply(BatchNorm, y, gamma, beta, residual, *running, momentum, relu)
    running_mean.update(mean.detach())
    running_var.update(var.detach())
    return y
