// Linear layers, alone and as the feed-forward pair with ReLU and dropout between them.
#include <algorithm>

#include "detr_gemm.h"

namespace detr {

// y[rows, n] = x[rows, k] w[n, k]ᵀ
static void product(int64_t rows, int64_t n, int64_t k, const float* x, const float* w, float* y) {
    gemm('N', 'T', rows, n, k, x, k, w, k, 0.f, y, n);
}

// The gradients of y = x wᵀ + b, each where there is room for it.
static void product_backward(int64_t rows, int64_t n, int64_t k, const float* x, const float* w, const float* dy,
                             float* dx, float* dw, float* db) {
    if (dx) gemm('N', 'N', rows, k, n, dy, n, w, k, 0.f, dx, k);
    // Sums over rows are added up in shorter parts than gemm's own where the result stays in the cache: it is read anew.
    if (dw) gemm('T', 'N', n, k, rows, dy, n, x, k, 0.f, dw, k, 1.f, n * k <= 1 << 17 ? 64 : 128);
    if (!db) return;
    // Columns in chunks of a cache line, so that threads do not share any. In float64: a bias is the sum of many rows.
    int64_t chunks = (n + 15) / 16;
#pragma omp parallel for
    for (int64_t c = 0; c < chunks; c++) {
        double sums[16] = {};
        int64_t first = c * 16, width = std::min<int64_t>(16, n - first);
        for (int64_t i = 0; i < rows; i++)
#pragma omp simd
            for (int64_t j = 0; j < width; j++) sums[j] += dy[i * n + first + j];
        for (int64_t j = 0; j < width; j++) db[first + j] = static_cast<float>(sums[j]);
    }
}

static void add_bias(float* y, const float* bias, int64_t rows, int64_t n, bool relu) {
#pragma omp parallel for
    for (int64_t i = 0; i < rows; i++) {
        float* row = y + i * n;
        if (relu) {
#pragma omp simd
            for (int64_t j = 0; j < n; j++) {
                float v = row[j] + bias[j];
                row[j] = v < 0 ? 0.f : v;  // a NaN stays
            }
        } else {
#pragma omp simd
            for (int64_t j = 0; j < n; j++) row[j] += bias[j];
        }
    }
}

// in: x [..., K], weight [N, K], bias [N]; out: y [..., N]. numbers: relu.
DETR_KERNEL(linear) {
    const Tensor &x = call.in[0], &w = call.in[1];
    int64_t rows = x.rows(), k = x.last(), n = w.shape[0];
    product(rows, n, k, x.f32(), w.f32(), call.out[0].f32());
    add_bias(call.out[0].f32(), call.in[2].f32(), rows, n, call.integer(0));
}

// in: x, weight, dy, [y]: y where there is a ReLU; out: those wanted of dx, dweight, dbias. numbers: wants.
DETR_KERNEL(linear_backward) {
    const Tensor &x = call.in[0], &w = call.in[1];
    int64_t rows = x.rows(), k = x.last(), n = w.shape[0];
    float* out[3] = {nullptr, nullptr, nullptr};
    for (size_t i = 0, next = 0; i < 3; i++)
        if (call.integer(i)) out[i] = call.out[next++].f32();
    const float* dy = call.in[2].f32();
    if (call.in.size() > 3) {
        float* masked = scratch(Scratch::gradient, rows * n);
        const float* y = call.in[3].f32();
#pragma omp parallel for simd
        for (int64_t i = 0; i < rows * n; i++) masked[i] = y[i] > 0 ? dy[i] : 0.f;
        dy = masked;
    }
    product_backward(rows, n, k, x.f32(), w.f32(), dy, out[0], out[1], out[2]);
}

// in: x [..., D], w1 [F, D], b1 [F], w2 [D', F], b2 [D']; out: y [..., D'], [hidden [..., F], for the backward pass].
// numbers: p, key.
DETR_KERNEL(feed_forward) {
    const Tensor &x = call.in[0], &w1 = call.in[1], &w2 = call.in[3];
    int64_t rows = x.rows(), d = x.last(), f = w1.shape[0], n = w2.shape[0];
    float* hidden = call.out.size() > 1 ? call.out[1].f32() : scratch(Scratch::hidden, rows * f);
    product(rows, f, d, x.f32(), w1.f32(), hidden);
    if (call.numbers[0] > 0) {
        Dropout dropout(call.numbers[0], call.numbers[1]);
        const float* bias = call.in[2].f32();
#pragma omp parallel for
        for (int64_t i = 0; i < rows; i++) {
            float* row = hidden + i * f;
            uint32_t start = static_cast<uint32_t>(i * f);
#pragma omp simd
            for (int64_t j = 0; j < f; j++) {
                float v = row[j] + bias[j];
                row[j] = (v < 0 ? 0.f : v) * dropout.factor(start + static_cast<uint32_t>(j));
            }
        }
    } else {
        add_bias(hidden, call.in[2].f32(), rows, f, true);
    }
    product(rows, n, f, hidden, w2.f32(), call.out[0].f32());
    add_bias(call.out[0].f32(), call.in[4].f32(), rows, n, false);
}

// in: x, w1, w2, hidden, dy; out: those wanted of dx, dw1, db1, dw2, db2. numbers: p, wants.
// A hidden unit that is positive was neither cut by the ReLU nor dropped.
DETR_KERNEL(feed_forward_backward) {
    const Tensor &x = call.in[0], &w1 = call.in[1], &w2 = call.in[2];
    int64_t rows = x.rows(), d = x.last(), f = w1.shape[0], n = w2.shape[0];
    const float *hidden = call.in[3].f32(), *dy = call.in[4].f32();
    float* out[5] = {nullptr, nullptr, nullptr, nullptr, nullptr};
    for (size_t i = 0, next = 0; i < 5; i++)
        if (call.integer(i + 1)) out[i] = call.out[next++].f32();
    float* dhidden = scratch(Scratch::hidden, rows * f);
    product_backward(rows, n, f, hidden, w2.f32(), dy, dhidden, out[3], out[4]);
    float factor = static_cast<float>(1 / (1 - call.numbers[0]));
#pragma omp parallel for simd
    for (int64_t i = 0; i < rows * f; i++) dhidden[i] = hidden[i] > 0 ? dhidden[i] * factor : 0.f;
    product_backward(rows, f, d, x.f32(), w1.f32(), dhidden, out[0], out[1], out[2]);
}

}  // namespace detr
