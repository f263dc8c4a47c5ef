#include "detr_bfloat16.h"

#include <dnnl.h>

namespace detr {

static bool wanted = false;

bool multiplies_bfloat16() { return wanted; }

static uint16_t rounded(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof x);
    uint32_t word = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    return static_cast<uint16_t>(x != x ? 0x7FC0 : word);
}

static uint16_t* room(int64_t n, Scratch purpose) {
    return reinterpret_cast<uint16_t*>(scratch(purpose, (n + 1) / 2));
}

const void* as_operand(const float* x, int64_t n, Scratch purpose) {
    if (!wanted) return x;
    uint16_t* out = room(n, purpose);
#pragma omp parallel for simd
    for (int64_t i = 0; i < n; i++) out[i] = rounded(x[i]);
    return out;
}

template <bool whole, bool half, class Number>
static void mask(const float* dy, const Number* y, int64_t n, float* masked, uint16_t* out) {
#pragma omp parallel for simd
    for (int64_t i = 0; i < n; i++) {
        float g = widened(y[i]) > 0 ? dy[i] : 0.f;
        if (whole) masked[i] = g;
        if (half) out[i] = rounded(g);
    }
}

const void* masked_operand(const float* dy, const Tensor& y, float* masked, Scratch purpose) {
    int64_t n = y.size();
    uint16_t* out = wanted ? room(n, purpose) : nullptr;
    if (!out && !masked) masked = scratch(purpose, n);
    by_type(y, [&](auto* y) {
        if (!out) mask<true, false>(dy, y, n, masked, out);
        else if (masked) mask<true, true>(dy, y, n, masked, out);
        else mask<false, true>(dy, y, n, masked, out);
    });
    return out ? static_cast<const void*>(out) : masked;
}

// From here on convolutions and linear layers multiply bfloat16 (numbers: 1) or float32 (0).
// out: 1 if so, 0 if this processor has no bfloat16 and nothing was changed.
DETR_KERNEL(multiply_bfloat16) {
    bool able = (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
    bool accepted = able || !call.integer(0);
    if (accepted) wanted = call.integer(0) != 0;
    call.out[0].f32()[0] = accepted;
}

}  // namespace detr
