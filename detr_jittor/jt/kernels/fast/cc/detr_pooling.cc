// Max pooling 3×3, stride 2, padding 1, in blocked layout [B, C / block, H, W, block].
#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#include "detr_bfloat16.h"

namespace detr {

static const int few = 8;  // channels: as many as every processor's block has, or half of them
using B = Block<few>;

struct Planes {
    int64_t planes, h, w, ho, wo, n;
    explicit Planes(const Tensor& x)
        : planes(x.shape[0] * x.shape[1] / block()), h(x.shape[2]), w(x.shape[3]), ho((h - 1) / 2 + 1),
          wo((w - 1) / 2 + 1), n(block()) {}
};

// Calls visit(offset in the input plane) for every pixel of the window of output (y, x), row by row.
template <class Visit>
static void window(const Planes& s, int64_t y, int64_t x, Visit visit) {
    for (int64_t i = std::max<int64_t>(2 * y - 1, 0); i < std::min(2 * y + 2, s.h); i++)
        for (int64_t j = std::max<int64_t>(2 * x - 1, 0); j < std::min(2 * x + 2, s.w); j++) visit((i * s.w + j) * s.n);
}

static B::Lanes load(const float* p) { return B::at(p); }
static void store(B::Lanes v, float* p) { B::at(p) = v; }

// The same for bfloat16, whose numbers are the upper halves of a float's.
typedef uint16_t Halves __attribute__((vector_size(2 * few), aligned(2)));
static B::Lanes load(const uint16_t* p) {
    return reinterpret_cast<B::Lanes>(__builtin_convertvector(*reinterpret_cast<const Halves*>(p), B::Words) << 16);
}
static void store(B::Lanes v, uint16_t* p) {
    *reinterpret_cast<Halves*>(p) = __builtin_convertvector(reinterpret_cast<B::Words>(v) >> 16, Halves);
}

// in: x; out: y, of the same type
DETR_KERNEL(max_pool) {
    Planes s(call.in[0]);
    by_type(call.in[0], [&](auto* numbers) {
        auto* pooled = static_cast<std::decay_t<decltype(*numbers)>*>(call.out[0].data);
#pragma omp parallel for collapse(2)
        for (int64_t p = 0; p < s.planes; p++)
            for (int64_t y = 0; y < s.ho; y++)
                for (int64_t x = 0; x < s.wo; x++) {
                    auto* in = numbers + p * s.h * s.w * s.n;
                    auto* out = pooled + ((p * s.ho + y) * s.wo + x) * s.n;
                    for (int64_t c = 0; c < s.n; c += few) {
                        B::Lanes best = B::Lanes{} - std::numeric_limits<float>::infinity();
                        window(s, y, x, [&](int64_t at) {
                            B::Lanes v = load(in + at + c);
                            best = v > best || v != v ? v : best;  // a NaN stays
                        });
                        store(best, out + c);
                    }
                }
    });
}

// in: x, y, dy; out: dx. The first of equal pixels gets the gradient, as in PyTorch.
DETR_KERNEL(max_pool_backward) {
    Planes s(call.in[0]);
#pragma omp parallel for
    for (int64_t p = 0; p < s.planes; p++) {
        const float* in = call.in[0].f32() + p * s.h * s.w * s.n;
        float* dx = call.out[0].f32() + p * s.h * s.w * s.n;
        std::memset(dx, 0, s.h * s.w * s.n * sizeof(float));
        for (int64_t y = 0; y < s.ho; y++)
            for (int64_t x = 0; x < s.wo; x++) {
                int64_t from = ((p * s.ho + y) * s.wo + x) * s.n;
                const float *best = call.in[1].f32() + from, *dy = call.in[2].f32() + from;
                float open[16];  // 1 until the maximum was met
                std::fill(open, open + 16, 1.f);
                window(s, y, x, [&](int64_t at) {
#pragma omp simd
                    for (int64_t c = 0; c < s.n; c++) {
                        float hit = in[at + c] == best[c] ? open[c] : 0.f;
                        dx[at + c] += hit * dy[c];
                        open[c] -= hit;
                    }
                });
            }
    }
}

}  // namespace detr
