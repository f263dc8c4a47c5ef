// What matrix work multiplies: float32, or bfloat16 with sums and weights in float32 all the same. Activations of the
// backbone are then bfloat16 too: they are what its convolutions multiply.
#pragma once
#include <cstring>

#include "detr_kernel.h"

namespace detr {

bool multiplies_bfloat16();

inline float widened(float x) { return x; }
inline float widened(uint16_t bits) {
    uint32_t word = static_cast<uint32_t>(bits) << 16;
    float x;
    std::memcpy(&x, &word, sizeof x);
    return x;
}

// Calls visit(pointer to the numbers): of float, or of uint16_t for bfloat16.
template <class Visit>
void by_type(const Tensor& t, Visit visit) {
    if (t.bfloat16) visit(static_cast<const uint16_t*>(t.data));
    else visit(static_cast<const float*>(t.data));
}

// x [n] as the operand of a product: itself, or its numbers rounded to the nearest bfloat16.
const void* as_operand(const float* x, int64_t n, Scratch purpose);

// The gradient before a ReLU whose output is y: dy, but zero where y is not positive. Written to `masked`, if there is
// one, and returned as the operand of a product.
const void* masked_operand(const float* dy, const Tensor& y, float* masked, Scratch purpose);

}  // namespace detr
