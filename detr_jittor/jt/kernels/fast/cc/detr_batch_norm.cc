// Batch norm in training + residual + ReLU, in blocked layout [B, C / block, H, W, block].
#include <algorithm>
#include <cmath>

#include "detr_kernel.h"

namespace detr {

struct Channels {
    int64_t b, blocks, pixels, n;
    explicit Channels(const Tensor& x)
        : b(x.shape[0]), blocks(x.shape[1] / block()), pixels(x.shape[2] * x.shape[3]), n(block()) {}
    int64_t count() const { return b * pixels; }

    // Calls visit(offset of the first channel) for all pixels of one block of channels.
    template <class Visit>
    void each(int64_t block, Visit visit) const {
        for (int64_t i = 0; i < b; i++)
            for (int64_t p = 0; p < pixels; p++) visit(((i * blocks + block) * pixels + p) * n);
    }
};

// Sums of many float32 numbers: short runs in float32, the runs in float64.
struct Sums {
    double total[16] = {0};
    float run[16] = {0};
    int length = 0;

    void flush() {
        for (int c = 0; c < 16; c++) total[c] += run[c], run[c] = 0;
        length = 0;
    }
    void next() {
        if (++length == 64) flush();
    }
};

// in: x, gamma, beta, running_mean, running_var, [residual];
// out: y, batch mean and 1 / deviation [2, C], running_mean and running_var as they become.
// numbers: momentum, relu.
DETR_KERNEL(batch_norm) {
    const Tensor& x = call.in[0];
    Channels s(x);
    float momentum = static_cast<float>(call.numbers[0]);
    bool relu = call.integer(1);
    const float *gamma = call.in[1].f32(), *beta = call.in[2].f32(), *in = x.f32();
    const float* residual = call.in.size() > 5 ? call.in[5].f32() : nullptr;
    float *y = call.out[0].f32(), *means = call.out[1].f32(), *inverses = means + x.shape[1];
#pragma omp parallel for
    for (int64_t k = 0; k < s.blocks; k++) {
        float *mean = means + k * s.n, *inverse = inverses + k * s.n, scale[16], shift[16];
        Sums sums, squares;
        s.each(k, [&](int64_t at) {
#pragma omp simd
            for (int64_t c = 0; c < s.n; c++) sums.run[c] += in[at + c];
            sums.next();
        });
        sums.flush();
        for (int64_t c = 0; c < s.n; c++) mean[c] = static_cast<float>(sums.total[c] / s.count());
        s.each(k, [&](int64_t at) {
#pragma omp simd
            for (int64_t c = 0; c < s.n; c++) squares.run[c] += (in[at + c] - mean[c]) * (in[at + c] - mean[c]);
            squares.next();
        });
        squares.flush();
        for (int64_t c = 0; c < s.n; c++) {
            int64_t channel = k * s.n + c;
            double variance = squares.total[c] / s.count();
            double unbiased = squares.total[c] / std::max<int64_t>(s.count() - 1, 1);
            inverse[c] = static_cast<float>(1 / std::sqrt(variance + 1e-5));
            float old_mean = call.in[3].f32()[channel], old_var = call.in[4].f32()[channel];
            call.out[2].f32()[channel] = old_mean + momentum * (mean[c] - old_mean);
            call.out[3].f32()[channel] = old_var + momentum * (static_cast<float>(unbiased) - old_var);
            scale[c] = gamma[channel] * inverse[c];
            shift[c] = beta[channel];
        }
        s.each(k, [&](int64_t at) {
#pragma omp simd
            for (int64_t c = 0; c < s.n; c++) {
                float v = (in[at + c] - mean[c]) * scale[c] + shift[c] + (residual ? residual[at + c] : 0.f);
                y[at + c] = relu && v < 0 ? 0.f : v;
            }
        });
    }
}

// in: x, gamma, batch statistics, dy, [y]: y where there is a ReLU; out: dx, dgamma, dbeta, [dresidual].
DETR_KERNEL(batch_norm_backward) {
    const Tensor& x = call.in[0];
    Channels s(x);
    const float *in = x.f32(), *gamma = call.in[1].f32(), *means = call.in[2].f32(), *inverses = means + x.shape[1];
    const float *dy = call.in[3].f32(), *y = call.in.size() > 4 ? call.in[4].f32() : nullptr;
    float *dx = call.out[0].f32(), *dresidual = call.out.size() > 3 ? call.out[3].f32() : nullptr;
#pragma omp parallel for
    for (int64_t k = 0; k < s.blocks; k++) {
        const float *mean = means + k * s.n, *inverse = inverses + k * s.n;
        auto gradient = [&](int64_t i) { return !y || y[i] > 0 ? dy[i] : 0.f; };
        Sums sums, dots;
        s.each(k, [&](int64_t at) {
#pragma omp simd
            for (int64_t c = 0; c < s.n; c++) {
                float g = gradient(at + c);
                sums.run[c] += g;
                dots.run[c] += g * (in[at + c] - mean[c]) * inverse[c];
            }
            sums.next(), dots.next();
        });
        sums.flush(), dots.flush();
        float factor[16], offset[16], slope[16];
        for (int64_t c = 0; c < s.n; c++) {
            call.out[1].f32()[k * s.n + c] = static_cast<float>(dots.total[c]);
            call.out[2].f32()[k * s.n + c] = static_cast<float>(sums.total[c]);
            factor[c] = gamma[k * s.n + c] * inverse[c];
            offset[c] = static_cast<float>(sums.total[c] / s.count());
            slope[c] = static_cast<float>(dots.total[c] / s.count()) * inverse[c];
        }
        s.each(k, [&](int64_t at) {
#pragma omp simd
            for (int64_t c = 0; c < s.n; c++) {
                float g = gradient(at + c);
                if (dresidual) dresidual[at + c] = g;
                dx[at + c] = factor[c] * (g - offset[c] - (in[at + c] - mean[c]) * slope[c]);
            }
        });
    }
}

}  // namespace detr
