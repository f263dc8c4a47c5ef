#include "detr_gemm.h"

#include <algorithm>

#include "detr_bfloat16.h"
#include "detr_onednn.h"

namespace detr {

static void multiply_float32(char ta, int64_t m, int64_t n, int64_t k, const float* a, const float* b, float* c,
                             int64_t part) {
    int64_t lda = ta == 'N' ? k : m;
    for (int64_t done = 0; done < k || !done; done += part) {
        const float* left = a + done * (ta == 'N' ? 1 : lda);
        if (dnnl_sgemm(ta, 'N', m, n, std::min(part, k - done), 1.f, left, lda, b + done * n, n, done ? 1.f : 0.f, c,
                       n) != dnnl_success)
            throw std::runtime_error("oneDNN refuses a matrix product");
    }
}

static void multiply_rounded(char ta, int64_t m, int64_t n, int64_t k, const float* a, const float* b, float* c) {
    const Primitive& p = primitive({-2, ta, m, n, k}, [&] {
        using Desc = dnnl::memory::desc;
        using Tag = dnnl::memory::format_tag;
        const auto bf16 = dnnl::memory::data_type::bf16, f32 = dnnl::memory::data_type::f32;
        Desc left({m, k}, bf16, ta == 'N' ? Tag::ab : Tag::ba), right({k, n}, bf16, Tag::ab), out({m, n}, f32, Tag::ab);
        dnnl::matmul::primitive_desc d({left, right, out}, user_scratchpad(), engine());
        return Primitive{dnnl::matmul(tell_if_reference(d, "a matrix product")), left, right, out, d.scratchpad_desc()};
    });
    execute(p, {{DNNL_ARG_SRC, p.src, as_operand(a, m * k, Scratch::operand)},
                {DNNL_ARG_WEIGHTS, p.weights, as_operand(b, k * n, Scratch::operand_gradient)},
                {DNNL_ARG_DST, p.dst, c}});
}

void gemm(char ta, int64_t m, int64_t n, int64_t k, const float* a, const float* b, float* c, int64_t part) {
    if (!m || !n) return;
    if (multiplies_bfloat16() && k) multiply_rounded(ta, m, n, k, a, b, c);
    else multiply_float32(ta, m, n, k, a, b, c, part);
}

}  // namespace detr
