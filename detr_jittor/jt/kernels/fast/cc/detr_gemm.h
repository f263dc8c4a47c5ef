// oneDNN's matrix product, without the C++ interface that takes long to compile.
#pragma once
#include <stdexcept>

#include <dnnl.h>

#include "detr_kernel.h"

namespace detr {

// C[m, n] = op(A) op(B), all matrices row by row; lda, ldb, ldc are the lengths of rows in memory.
inline void gemm(char ta, char tb, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
                 int64_t ldb, float beta, float* c, int64_t ldc, float alpha = 1.f) {
    if (m && n && dnnl_sgemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) != dnnl_success)
        throw std::runtime_error("oneDNN refuses a matrix product");
}

}  // namespace detr
