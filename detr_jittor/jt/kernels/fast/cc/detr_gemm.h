// oneDNN's matrix product, without the C++ interface that takes long to compile.
#pragma once
#include <algorithm>
#include <stdexcept>

#include <dnnl.h>

#include "detr_kernel.h"

namespace detr {

// C[m, n] = op(A) B, all matrices row by row; lda, ldb, ldc are the lengths of rows in memory.
//
// Sums are made of parts of so many products: oneDNN adds up to 384 in a row, and the error grows with the root of it.
inline void gemm(char ta, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
                 float* c, int64_t ldc, int64_t part = 128) {
    for (int64_t done = 0; m && n && (done < k || !done); done += part) {
        const float* left = a + done * (ta == 'N' ? 1 : lda);
        if (dnnl_sgemm(ta, 'N', m, n, std::min(part, k - done), 1.f, left, lda, b + done * ldb, ldb, done ? 1.f : 0.f,
                       c, ldc) != dnnl_success)
            throw std::runtime_error("oneDNN refuses a matrix product");
    }
}

}  // namespace detr
