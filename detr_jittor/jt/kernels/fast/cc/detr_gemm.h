// oneDNN's matrix product.
#pragma once
#include <cstdint>

namespace detr {

// C[m, n] = op(A) B, all matrices row by row without gaps; op transposes where ta is 'T'.
//
// In float32, sums are made of parts of so many products: oneDNN adds up to 384 in a row, and the error grows with the
// root of it. In bfloat16 the operands' rounding is all of the error.
void gemm(char ta, int64_t m, int64_t n, int64_t k, const float* a, const float* b, float* c, int64_t part = 128);

}  // namespace detr
