// What matrix work multiplies: float32, or bfloat16 with sums, weights and activations in float32 all the same.
#pragma once
#include "detr_kernel.h"

namespace detr {

bool multiplies_bfloat16();

// x [n] as the operand of a product: itself, or its numbers rounded to the nearest bfloat16. With y [n], 0 where y is
// not positive: the gradient before a ReLU whose output is y, for which there is no float32 then.
const void* as_operand(const float* x, int64_t n, Scratch purpose, const float* y = nullptr);

}  // namespace detr
