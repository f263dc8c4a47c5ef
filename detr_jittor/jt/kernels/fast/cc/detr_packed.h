// Weights rearranged for a kernel: kept for layers whose weights do not change, made anew in each step for others.
#pragma once
#include <functional>

#include "detr_kernel.h"
#include "detr_lru.h"

namespace detr {

// `floats` numbers that `pack` writes. Those of weights that are `kept` are found again by the weight's id, which no
// other Var ever gets, as long as the form (what `pack` makes of it) and the scale [scales] are the same; others are
// written to the scratch memory of this purpose.
const float* packed(const Tensor& weight, const Key& form, const float* scale, int64_t scales,
                    int64_t floats, bool kept, Scratch purpose, const std::function<void(float*)>& pack);

// The weight was written to in place.
void forget_packed(int64_t id);

}  // namespace detr
