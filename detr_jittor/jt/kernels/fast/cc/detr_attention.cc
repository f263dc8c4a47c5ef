// Scaled dot-product attention over heads, with a key padding mask and dropout on the weights.
//
// Each head is worked through in tiles of queries, so that its scores stay in the cache and are never stored: the
// backward pass makes them again from the queries, the keys, and each row's largest score and sum of exponentials (not
// their one logarithm: its rounding alone would be an error of 2e-7 in all weights of the row).
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "detr_gemm.h"

namespace detr {

// eˣ for x ≤ 0 to 1.1 units in the last place; 0 below -87.3. Reduction by ln 2 and a polynomial (Cephes, expf).
#pragma omp declare simd
static inline float exp_negative(float x) {
    float clamped = x < -87.3f ? -87.3f : x;
    float n = std::nearbyint(clamped * 1.44269504f);
    float r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    float e = p * r * r + r + 1.f;
    union { int32_t bits; float value; } power;
    power.bits = (static_cast<int32_t>(n) + 127) << 23;
    return x < -87.3f ? 0.f : e * power.value;
}

static const int64_t part = 48;  // of a sum over queries or keys, see gemm

struct Attention {
    int64_t b, lq, lk, d, heads, dh, tile, tiles;
    const float *q, *k, *v;
    const bool* ignored;
    float scale;
    bool drops;
    Dropout dropout;

    // in: q [B, Lq, D], k and v [B, Lk, D], …, [mask [B, Lk] last]. numbers: heads, p, key, has mask.
    explicit Attention(const Call& call)
        : b(call.in[0].shape[0]), lq(call.in[0].shape[1]), lk(call.in[1].shape[1]), d(call.in[0].shape[2]),
          heads(call.integer(0)), dh(d / heads), tile(std::min<int64_t>(lq, 96)), tiles((lq + tile - 1) / tile),
          q(call.in[0].f32()), k(call.in[1].f32()), v(call.in[2].f32()),
          ignored(call.integer(3) ? call.in.back().mask() : nullptr), scale(1 / std::sqrt(static_cast<float>(dh))),
          drops(call.numbers[1] > 0), dropout(call.numbers[1], call.numbers[2]) {}

    int64_t row(int64_t batch, int64_t head, int64_t query) const { return (batch * heads + head) * lq + query; }
    // The dropout index of the first weight of a row: its place in [B, heads, Lq, Lk].
    uint32_t index(int64_t row) const { return static_cast<uint32_t>(row * lk); }
    const float* queries(const float* x, int64_t batch, int64_t head, int64_t first) const {
        return x + (batch * lq + first) * d + head * dh;
    }
    const float* keys(const float* x, int64_t batch, int64_t head) const { return x + batch * lk * d + head * dh; }

    // scores [rows, Lk] of the queries from `first` on, scaled
    void scores(int64_t batch, int64_t head, int64_t first, int64_t rows, float* s) const {
        gemm('N', 'T', rows, lk, dh, queries(q, batch, head, first), d, keys(k, batch, head), d, 0.f, s, lk, scale);
    }
    void cut_ignored(int64_t batch, float* s) const {
        if (!ignored) return;
        const bool* mask = ignored + batch * lk;
#pragma omp simd
        for (int64_t j = 0; j < lk; j++) s[j] = mask[j] ? -std::numeric_limits<float>::infinity() : s[j];
    }
};

static float row_max(const float* s, int64_t n) {
    float m = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : m)
    for (int64_t j = 0; j < n; j++) m = s[j] > m ? s[j] : m;
    return m;
}

// s becomes exp(s - shift), and its sum is returned; a NaN stays one.
static float exponentials(float* s, int64_t n, float shift) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) {
        s[j] = exp_negative(s[j] - shift);
        sum += s[j];
    }
    return sum;
}

// in: q, k, v, [mask]; out: y [B, Lq, D], [largest score and 1 / sum of exponentials [B, heads, Lq, 2], for the
// backward pass]. numbers: heads, p, key, has mask. Where every key is ignored, y and both of these are zero.
DETR_KERNEL(attention) {
    Attention a(call);
    float* y = call.out[0].f32();
    float* sums = call.out.size() > 1 ? call.out[1].f32() : nullptr;
    float* arena = scratch(Scratch::threads, omp_get_max_threads() * a.tile * a.lk);
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t bh = 0; bh < a.b * a.heads; bh++)
        for (int64_t t = 0; t < a.tiles; t++) {
            int64_t batch = bh / a.heads, head = bh % a.heads, first = t * a.tile;
            int64_t rows = std::min(a.tile, a.lq - first);
            float* s = arena + omp_get_thread_num() * a.tile * a.lk;
            a.scores(batch, head, first, rows, s);
            for (int64_t i = 0; i < rows; i++) {
                float* w = s + i * a.lk;
                int64_t row = a.row(batch, head, first + i);
                a.cut_ignored(batch, w);
                float highest = row_max(w, a.lk);
                bool empty = highest == -std::numeric_limits<float>::infinity() && a.ignored;
                float sum = empty ? 0.f : exponentials(w, a.lk, highest), inverse = 1 / sum;
                if (empty) std::fill(w, w + a.lk, highest = inverse = 0.f);
                if (sums) sums[2 * row] = highest, sums[2 * row + 1] = inverse;
                uint32_t index = a.index(row);
                if (a.drops) {
#pragma omp simd
                    for (int64_t j = 0; j < a.lk; j++)
                        w[j] *= inverse * a.dropout.factor(index + static_cast<uint32_t>(j));
                } else {
#pragma omp simd
                    for (int64_t j = 0; j < a.lk; j++) w[j] *= inverse;
                }
            }
            gemm('N', 'N', rows, a.dh, a.lk, s, a.lk, a.keys(a.v, batch, head), a.d, 0.f,
                 y + (batch * a.lq + first) * a.d + head * a.dh, a.d, 1.f, part);
        }
}

// One tile of the backward pass: adds to dk and dv, writes dq. s and ds have room for [tile, Lk].
static void backward_tile(const Attention& a, const Call& call, int64_t batch, int64_t head, int64_t first, float* s,
                          float* ds) {
    int64_t rows = std::min(a.tile, a.lq - first), lk = a.lk;
    const float *sums = call.in[3].f32(), *dy = a.queries(call.in[4].f32(), batch, head, first);
    a.scores(batch, head, first, rows, s);
    gemm('N', 'T', rows, lk, a.dh, dy, a.d, a.keys(a.v, batch, head), a.d, 0.f, ds, lk);
    for (int64_t i = 0; i < rows; i++) {
        float *w = s + i * lk, *dw = ds + i * lk;
        int64_t row = a.row(batch, head, first + i);
        uint32_t index = a.index(row);
        a.cut_ignored(batch, w);
        exponentials(w, lk, sums[2 * row]);
        float inverse = sums[2 * row + 1];
#pragma omp simd
        for (int64_t j = 0; j < lk; j++) w[j] *= inverse;
        if (a.drops) {
#pragma omp simd
            for (int64_t j = 0; j < lk; j++) dw[j] *= a.dropout.factor(index + static_cast<uint32_t>(j));
        }
        // dw less its mean with the weights w, in two steps like a variance: where all dw are alike, the first mean's
        // rounding, and that the weights do not add up to 1 to the last digit, would be all that remains.
        for (int step = 0; step < 2; step++) {
            float mean = 0;
#pragma omp simd reduction(+ : mean)
            for (int64_t j = 0; j < lk; j++) mean += w[j] * dw[j];
#pragma omp simd
            for (int64_t j = 0; j < lk; j++) dw[j] -= mean;
        }
#pragma omp simd
        for (int64_t j = 0; j < lk; j++) dw[j] *= w[j] * a.scale;
        if (a.drops) {
#pragma omp simd
            for (int64_t j = 0; j < lk; j++) w[j] *= a.dropout.factor(index + static_cast<uint32_t>(j));
        }
    }
    float *dq = call.out[0].f32(), *dk = call.out[1].f32(), *dv = call.out[2].f32();
    float beta = first ? 1.f : 0.f;
    gemm('N', 'N', rows, a.dh, lk, ds, lk, a.keys(a.k, batch, head), a.d, 0.f,
         const_cast<float*>(a.queries(dq, batch, head, first)), a.d, 1.f, part);
    gemm('T', 'N', lk, a.dh, rows, ds, lk, a.queries(a.q, batch, head, first), a.d, beta,
         const_cast<float*>(a.keys(dk, batch, head)), a.d, 1.f, part);
    gemm('T', 'N', lk, a.dh, rows, s, lk, dy, a.d, beta, const_cast<float*>(a.keys(dv, batch, head)), a.d, 1.f,
         part);
}

// in: q, k, v, largest scores and sums, dy, [mask]; out: dq, dk, dv. numbers as above.
DETR_KERNEL(attention_backward) {
    Attention a(call);
    float* arena = scratch(Scratch::threads, omp_get_max_threads() * 2 * a.tile * a.lk);
#pragma omp parallel for schedule(dynamic)
    for (int64_t bh = 0; bh < a.b * a.heads; bh++) {
        float *s = arena + omp_get_thread_num() * 2 * a.tile * a.lk, *ds = s + a.tile * a.lk;
        for (int64_t t = 0; t < a.tiles; t++) backward_tile(a, call, bh / a.heads, bh % a.heads, t * a.tile, s, ds);
    }
}

}  // namespace detr
