// oneDNN's matrix product, without the C++ interface that takes long to compile.
#pragma once
#include <algorithm>
#include <stdexcept>

#include <dnnl.h>

#include "detr_kernel.h"

namespace detr {

// C[m, n] = alpha op(A) op(B) + beta C, all matrices row by row; lda, ldb, ldc are the lengths of rows in memory.
//
// Sums are made of parts of so many products: oneDNN adds up to 384 in a row, and the error grows with the root of it.
inline void gemm(char ta, char tb, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
                 int64_t ldb, float beta, float* c, int64_t ldc, float alpha = 1.f, int64_t part = 128) {
    for (int64_t done = 0; m && n && (done < k || !done); done += part) {
        const float* left = a + done * (ta == 'N' ? 1 : lda);
        const float* right = b + done * (tb == 'N' ? ldb : 1);
        if (dnnl_sgemm(ta, tb, m, n, std::min(part, k - done), alpha, left, lda, right, ldb, done ? 1.f : beta, c,
                       ldc) != dnnl_success)
            throw std::runtime_error("oneDNN refuses a matrix product");
    }
}

}  // namespace detr
