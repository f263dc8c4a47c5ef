#include "detr_kernel_op.h"

namespace jittor {

#ifndef JIT

DetrKernelOp::DetrKernelOp(string&& kernel, vector<Var*>&& inputs, vector<NanoVector>&& shapes,
                           vector<double>&& numbers, NanoString dtype)
    : numbers(numbers) {
    auto found = detr::kernel_table().find(kernel);
    CHECK(found != detr::kernel_table().end()) << "no such kernel:" << kernel;
    this->kernel = found->second;
    flags.set(NodeFlags::_cpu);
    flags.set(NodeFlags::_manual_set_vnbb);
    for (size_t i = 0; i < shapes.size(); i++) create_output(shapes[i], dtype);
}

static detr::Tensor tensor(Var* var) {
    detr::Tensor t{var->mem_ptr, var->id, {}, var->dtype() == ns_bfloat16};
    for (int i = 0; i < var->shape.size(); i++) t.shape.push_back(var->shape[i]);
    return t;
}

void DetrKernelOp::run() {
    detr::Call call;
    // An index below zero marks an edge that only orders the execution.
    for (auto& edge : _inputs)
        if (edge.back->index >= 0) call.in.push_back(tensor(edge.node->var()));
    for (auto& edge : _outputs)
        if (edge.index >= 0) call.out.push_back(tensor(edge.node->var()));
    call.numbers = numbers;
    kernel(call);
}

#endif

}  // namespace jittor
