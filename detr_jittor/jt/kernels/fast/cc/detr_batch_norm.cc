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

    // Calls visit(offset of the first channel, pixels from there on) for all runs of pixels of one block of channels.
    template <class Visit>
    void each(int64_t block, Visit visit) const {
        const int64_t run = 64;  // short enough to be added up in float32
        for (int64_t i = 0; i < b; i++)
            for (int64_t p = 0; p < pixels; p += run)
                visit(((i * blocks + block) * pixels + p) * n, std::min(run, pixels - p));
    }
};

template <int N>
static void batch_norm_of(Call& call) {
    using B = Block<N>;
    using Lanes = typename B::Lanes;
    const Tensor& x = call.in[0];
    Channels s(x);
    float momentum = static_cast<float>(call.numbers[0]);
    bool relu = call.integer(1);
    const float *gamma = call.in[1].f32(), *beta = call.in[2].f32(), *in = x.f32();
    const float* residual = call.in.size() > 5 ? call.in[5].f32() : nullptr;
    float *y = call.out[0].f32(), *means = call.out[1].f32(), *inverses = means + x.shape[1];
#pragma omp parallel for
    for (int64_t k = 0; k < s.blocks; k++) {
        double sums[N] = {}, squares[N] = {};
        Lanes mean, inverse, scale, shift;
        s.each(k, [&](int64_t first, int64_t pixels) {
            Lanes sum = {};
            for (int64_t p = 0; p < pixels; p++) sum += B::at(in + first + p * N);
            for (int c = 0; c < N; c++) sums[c] += sum[c];
        });
        for (int c = 0; c < N; c++) mean[c] = static_cast<float>(sums[c] / s.count());
        s.each(k, [&](int64_t first, int64_t pixels) {
            Lanes sum = {};
            for (int64_t p = 0; p < pixels; p++) {
                Lanes centred = B::at(in + first + p * N) - mean;
                sum += centred * centred;
            }
            for (int c = 0; c < N; c++) squares[c] += sum[c];
        });
        for (int c = 0; c < N; c++) {
            int64_t channel = k * N + c;
            double variance = squares[c] / s.count();
            double unbiased = squares[c] / std::max<int64_t>(s.count() - 1, 1);
            inverse[c] = static_cast<float>(1 / std::sqrt(variance + 1e-5));
            float old_mean = call.in[3].f32()[channel], old_var = call.in[4].f32()[channel];
            call.out[2].f32()[channel] = old_mean + momentum * (mean[c] - old_mean);
            call.out[3].f32()[channel] = old_var + momentum * (static_cast<float>(unbiased) - old_var);
            scale[c] = gamma[channel] * inverse[c];
            shift[c] = beta[channel];
        }
        B::at(means + k * N) = mean, B::at(inverses + k * N) = inverse;
        s.each(k, [&](int64_t first, int64_t pixels) {
            for (int64_t i = first; i < first + pixels * N; i += N) {
                Lanes v = (B::at(in + i) - mean) * scale + shift;
                if (residual) v += B::at(residual + i);
                B::at(y + i) = relu ? (v < 0 ? Lanes{} : v) : v;  // a NaN stays
            }
        });
    }
}

// in: x, gamma, beta, running_mean, running_var, [residual];
// out: y, batch mean and 1 / deviation [2, C], running_mean and running_var as they become.
// numbers: momentum, relu.
DETR_KERNEL(batch_norm) { block() == 16 ? batch_norm_of<16>(call) : batch_norm_of<8>(call); }

template <int N>
static void batch_norm_backward_of(Call& call) {
    using B = Block<N>;
    using Lanes = typename B::Lanes;
    const Tensor& x = call.in[0];
    Channels s(x);
    const float *in = x.f32(), *gamma = call.in[1].f32(), *means = call.in[2].f32(), *inverses = means + x.shape[1];
    const float *dy = call.in[3].f32(), *y = call.in.size() > 4 ? call.in[4].f32() : nullptr;
    float *dx = call.out[0].f32(), *dresidual = call.out.size() > 3 ? call.out[3].f32() : nullptr;
#pragma omp parallel for
    for (int64_t k = 0; k < s.blocks; k++) {
        const Lanes mean = B::at(means + k * N), inverse = B::at(inverses + k * N);
        auto gradient = [&](int64_t i) -> Lanes {
            Lanes g = B::at(dy + i);
            return y ? (B::at(y + i) > 0 ? g : Lanes{}) : g;
        };
        double sums[N] = {}, dots[N] = {};
        s.each(k, [&](int64_t first, int64_t pixels) {
            Lanes sum = {}, dot = {};
            for (int64_t i = first; i < first + pixels * N; i += N) {
                Lanes g = gradient(i);
                sum += g;
                dot += g * (B::at(in + i) - mean) * inverse;
            }
            for (int c = 0; c < N; c++) sums[c] += sum[c], dots[c] += dot[c];
        });
        Lanes factor, offset, slope;
        for (int c = 0; c < N; c++) {
            call.out[1].f32()[k * N + c] = static_cast<float>(dots[c]);
            call.out[2].f32()[k * N + c] = static_cast<float>(sums[c]);
            factor[c] = gamma[k * N + c] * inverse[c];
            offset[c] = static_cast<float>(sums[c] / s.count());
            slope[c] = static_cast<float>(dots[c] / s.count()) * inverse[c];
        }
        s.each(k, [&](int64_t first, int64_t pixels) {
            for (int64_t i = first; i < first + pixels * N; i += N) {
                Lanes g = gradient(i);
                if (dresidual) B::at(dresidual + i) = g;
                B::at(dx + i) = factor * (g - offset - (B::at(in + i) - mean) * slope);
            }
        });
    }
}

// in: x, gamma, batch statistics, dy, [y]: y where there is a ReLU; out: dx, dgamma, dbeta, [dresidual].
DETR_KERNEL(batch_norm_backward) { block() == 16 ? batch_norm_backward_of<16>(call) : batch_norm_backward_of<8>(call); }

}  // namespace detr
