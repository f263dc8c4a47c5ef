// The one Jittor operator behind all kernels: it looks up the kernel by name and hands it the memory.
// It has no gradient of its own; the Python faces are jt.Functions. Nothing of it is compiled per shape or per kernel.
#pragma once
#include "detr_kernel.h"
#include "op.h"
#include "var.h"

namespace jittor {

struct DetrKernelOp : Op {
    detr::Kernel kernel;
    vector<double> numbers;
    // Jittor reads the next two lines to make the Python function; they must stay two lines.
    // @attrs(multiple_outputs)
    DetrKernelOp(string&& kernel, vector<Var*>&& inputs, vector<NanoVector>&& shapes, vector<double>&& numbers, NanoString dtype);
    const char* name() const override { return "detr_kernel"; }
    void run() override;
};

}  // namespace jittor
