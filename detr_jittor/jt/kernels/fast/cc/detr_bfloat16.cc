#include "detr_bfloat16.h"

#include <dnnl.h>

namespace detr {

static bool wanted = false;

bool multiplies_bfloat16() { return wanted; }

const void* as_operand(const float* x, int64_t n, Scratch purpose, const float* y) {
    if (!wanted) return x;
    auto* out = reinterpret_cast<uint16_t*>(scratch(purpose, (n + 1) / 2));
    auto* bits = reinterpret_cast<const uint32_t*>(x);
    auto rounded = [=](int64_t i) {
        uint32_t word = (bits[i] + 0x7FFF + (bits[i] >> 16 & 1)) >> 16;
        return static_cast<uint16_t>(x[i] != x[i] ? 0x7FC0 : word);
    };
    if (y) {
#pragma omp parallel for simd
        for (int64_t i = 0; i < n; i++) out[i] = y[i] > 0 ? rounded(i) : 0;
    } else {
#pragma omp parallel for simd
        for (int64_t i = 0; i < n; i++) out[i] = rounded(i);
    }
    return out;
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
