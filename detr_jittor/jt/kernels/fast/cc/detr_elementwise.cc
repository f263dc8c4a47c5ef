// Dropout, layer and group norm, sums, parts, and AdamW with clipping.
#include <omp.h>

#include <algorithm>
#include <cmath>

#include "detr_multiply.h"
#include "detr_packed.h"

namespace detr {

// in: x, or the gradient of the output; out: y, or the gradient of x. numbers: p, key.
DETR_KERNEL(dropout) {
    Dropout dropout(call.numbers[0], call.numbers[1]);
    const float* x = call.in[0].f32();
    float* y = call.out[0].f32();
    int64_t n = call.in[0].size(), blocks = n / lanes;
#pragma omp parallel for
    for (int64_t block = 0; block < blocks; block++) {
        int64_t i = block * lanes;
        Block<lanes>::at(y + i) = Block<lanes>::at(x + i) * dropout.factors<lanes>(static_cast<uint32_t>(i));
    }
    for (int64_t i = blocks * lanes; i < n; i++) y[i] = x[i] * dropout.factor(static_cast<uint32_t>(i));
}

// in: two of the same shape; out: their sum
DETR_KERNEL(add) {
    const float *a = call.in[0].f32(), *b = call.in[1].f32();
    float* sum = call.out[0].f32();
    int64_t n = call.in[0].size();
#pragma omp parallel for simd
    for (int64_t i = 0; i < n; i++) sum[i] = a[i] + b[i];
}

// Rows whose parts lie side by side; numbers: the width of each part.
static void move_parts(Call& call, bool cut) {
    const std::vector<Tensor>& parts = cut ? call.out : call.in;
    float* whole = (cut ? call.in : call.out)[0].f32();
    int64_t width = 0, size = (cut ? call.in : call.out)[0].size();
    for (double own : call.numbers) width += static_cast<int64_t>(own);
    const int64_t rows = width ? size / width : 0;
#pragma omp parallel for if (size > 1 << 15)
    for (int64_t row = 0; row < rows; row++) {
        float* at = whole + row * width;
        for (size_t i = 0; i < parts.size(); i++) {
            const int64_t own = call.integer(i);
            float* part = parts[i].f32() + row * own;
            for (int64_t j = 0; j < own; j++) (cut ? part : at)[j] = (cut ? at : part)[j];
            at += own;
        }
    }
}

// in: x; out: its parts
DETR_KERNEL(cut) { move_parts(call, true); }

// in: parts; out: all of them
DETR_KERNEL(join) { move_parts(call, false); }

struct Statistics { float mean, inverse; };  // inverse of the deviation

// Two passes: E[x²] − E[x]² would lose all digits when the mean is large.
static Statistics statistics_of(const float* x, int64_t n) {
    double sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += x[j];
    float mean = static_cast<float>(sum / n);
#pragma omp simd reduction(+ : squares)
    for (int64_t j = 0; j < n; j++) squares += static_cast<double>((x[j] - mean) * (x[j] - mean));
    return {mean, static_cast<float>(1 / std::sqrt(squares / n + 1e-5))};
}

// in: x [..., D], weight [D], bias [D]; out: y, [mean and 1 / deviation [rows, 2], for the backward pass].
DETR_KERNEL(layer_norm) {
    int64_t rows = call.in[0].rows(), d = call.in[0].last();
    const float *weight = call.in[1].f32(), *bias = call.in[2].f32();
    float* statistics = call.out.size() > 1 ? call.out[1].f32() : nullptr;
#pragma omp parallel for
    for (int64_t i = 0; i < rows; i++) {
        const float* x = call.in[0].f32() + i * d;
        float* y = call.out[0].f32() + i * d;
        const Statistics row = statistics_of(x, d);
#pragma omp simd
        for (int64_t j = 0; j < d; j++) y[j] = (x[j] - row.mean) * row.inverse * weight[j] + bias[j];
        if (statistics) statistics[2 * i] = row.mean, statistics[2 * i + 1] = row.inverse;
    }
}

// in: x, weight, statistics, dy; out: dx, dweight, dbias
DETR_KERNEL(layer_norm_backward) {
    int64_t rows = call.in[0].rows(), d = call.in[0].last(), threads = omp_get_max_threads();
    const float *weight = call.in[1].f32(), *statistics = call.in[2].f32();
    std::vector<double> partial(threads * 2 * d);  // dweight and dbias of each thread: sums of many rows
#pragma omp parallel
    {
        double *dw = partial.data() + omp_get_thread_num() * 2 * d, *db = dw + d;
#pragma omp for
        for (int64_t i = 0; i < rows; i++) {
            const float *x = call.in[0].f32() + i * d, *dy = call.in[3].f32() + i * d;
            float *dx = call.out[0].f32() + i * d, mean = statistics[2 * i], inverse = statistics[2 * i + 1];
            double sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
            for (int64_t j = 0; j < d; j++) {
                float normal = (x[j] - mean) * inverse, weighted = dy[j] * weight[j];
                sum += weighted;
                dot += weighted * normal;
                dw[j] += dy[j] * normal;
                db[j] += dy[j];
            }
            float along = static_cast<float>(sum / d), across = static_cast<float>(dot / d);
#pragma omp simd
            for (int64_t j = 0; j < d; j++)
                dx[j] = inverse * (dy[j] * weight[j] - along - (x[j] - mean) * inverse * across);
        }
    }
    for (int64_t k = 0; k < 2; k++)
        for (int64_t j = 0; j < d; j++) {
            double total = 0;
            for (int64_t t = 0; t < threads; t++) total += partial[(2 * t + k) * d + j];
            call.out[1 + k].f32()[j] = static_cast<float>(total);
        }
}

// Rows [C / G, H·W] of x [N, C, H, W], one for each picture and group.
struct Groups {
    int64_t rows, channels, pixels, of_picture;  // channels of a group, groups of a picture

    Groups(const Tensor& x, int64_t groups)
        : rows(x.shape[0] * groups), channels(x.shape[1] / groups), pixels(x.shape[2] * x.shape[3]),
          of_picture(groups) {}
    int64_t first(int64_t row) const { return row % of_picture * channels; }  // channel
};

// in: x [N, C, H, W], weight [C], bias [C]; out: y, mean and 1 / deviation [N·G, 2]; numbers: G
DETR_KERNEL(group_norm) {
    Groups groups(call.in[0], call.integer(0));
    const int64_t d = groups.channels * groups.pixels;
#pragma omp parallel for
    for (int64_t i = 0; i < groups.rows; i++) {
        const Statistics row = statistics_of(call.in[0].f32() + i * d, d);
        for (int64_t c = 0; c < groups.channels; c++) {
            const float* x = call.in[0].f32() + i * d + c * groups.pixels;
            float* y = call.out[0].f32() + i * d + c * groups.pixels;
            float weight = call.in[1].f32()[groups.first(i) + c], bias = call.in[2].f32()[groups.first(i) + c];
#pragma omp simd
            for (int64_t j = 0; j < groups.pixels; j++) y[j] = (x[j] - row.mean) * row.inverse * weight + bias;
        }
        call.out[1].f32()[2 * i] = row.mean, call.out[1].f32()[2 * i + 1] = row.inverse;
    }
}

// in: x, weight, statistics, dy; out: dx, dweight, dbias
DETR_KERNEL(group_norm_backward) {
    const int64_t pictures = call.in[0].shape[0], all = call.in[0].shape[1];
    Groups groups(call.in[0], call.in[2].shape[0] / pictures);
    std::vector<double> partial(2 * pictures * all);  // dweight and dbias of each picture
#pragma omp parallel for
    for (int64_t i = 0; i < groups.rows; i++) {
        const int64_t start = i * groups.channels * groups.pixels;
        const float *weight = call.in[1].f32() + groups.first(i), mean = call.in[2].f32()[2 * i],
                    inverse = call.in[2].f32()[2 * i + 1];
        double *own = partial.data() + 2 * i * groups.channels, sum = 0, dot = 0;
        for (int64_t c = 0; c < groups.channels; c++) {
            const float *x = call.in[0].f32() + start + c * groups.pixels;
            const float *dy = call.in[3].f32() + start + c * groups.pixels;
            double along = 0, across = 0;
#pragma omp simd reduction(+ : along, across)
            for (int64_t j = 0; j < groups.pixels; j++) {
                along += dy[j];
                across += dy[j] * ((x[j] - mean) * inverse);
            }
            own[2 * c] = across, own[2 * c + 1] = along;
            sum += weight[c] * along, dot += weight[c] * across;
        }
        const int64_t d = groups.channels * groups.pixels;
        const float along = static_cast<float>(sum / d), across = static_cast<float>(dot / d);
        for (int64_t c = 0; c < groups.channels; c++) {
            const float *x = call.in[0].f32() + start + c * groups.pixels;
            const float *dy = call.in[3].f32() + start + c * groups.pixels;
            float *dx = call.out[0].f32() + start + c * groups.pixels, scale = weight[c];
#pragma omp simd
            for (int64_t j = 0; j < groups.pixels; j++)
                dx[j] = inverse * (dy[j] * scale - along - (x[j] - mean) * inverse * across);
        }
    }
    for (int64_t c = 0; c < all; c++)
        for (int64_t k = 0; k < 2; k++) {
            double total = 0;
            for (int64_t i = 0; i < pictures; i++) total += partial[2 * (i * all + c) + k];
            call.out[1 + k].f32()[c] = static_cast<float>(total);
        }
}

static const int64_t chunk = 1 << 15;

struct Piece { int64_t tensor, start, length; };

// All tensors cut into pieces of like size, so that threads share the work evenly.
static std::vector<Piece> pieces(const Call& call, int64_t count) {
    std::vector<Piece> all;
    for (int64_t t = 0; t < count; t++)
        for (int64_t start = 0, n = call.in[t].size(); start < n; start += chunk)
            all.push_back({t, start, std::min(chunk, n - start)});
    return all;
}

static double gradient_norm(const Call& call, const std::vector<Piece>& all, int64_t count) {
    double total = 0;
#pragma omp parallel for reduction(+ : total)
    for (size_t i = 0; i < all.size(); i++) {
        const float* g = call.in[count + all[i].tensor].f32() + all[i].start;
        double squares = 0;
#pragma omp simd reduction(+ : squares)
        for (int64_t j = 0; j < all[i].length; j++) squares += static_cast<double>(g[j]) * g[j];
        total += squares;
    }
    return std::sqrt(total);
}

// in: parameters, gradients, exp_avg, exp_avg_sq, `count` of each; all but the gradients are written in place.
// out: the norm of all gradients before clipping; if it is not finite, nothing is written.
// numbers: count, weight_decay, step, clip_max_norm, the learning rate of each parameter.
DETR_KERNEL(adamw) {
    int64_t count = call.integer(0);
    double decay = call.numbers[1], step = call.numbers[2], clip = call.numbers[3];
    auto all = pieces(call, count);
    double norm = gradient_norm(call, all, count);
    call.out[0].f32()[0] = static_cast<float>(norm);
    if (!std::isfinite(norm)) return;
    const float scale = clip > 0 ? static_cast<float>(std::min(1.0, clip / (norm + 1e-6))) : 1.f;
    const float root = static_cast<float>(std::sqrt(1 - std::pow(0.999, step)));
    const double bias = 1 - std::pow(0.9, step);
    for (int64_t t = 0; t < count; t++) forget_packed(call.in[t].id);
#pragma omp parallel for schedule(dynamic, 4)
    for (size_t i = 0; i < all.size(); i++) {
        const Piece& piece = all[i];
        auto at = [&](int64_t group) { return call.in[group * count + piece.tensor].f32() + piece.start; };
        float *p = at(0), *m = at(2), *v = at(3);
        const float* g = at(1);
        const double lr = call.numbers[4 + piece.tensor];
        const float keep = static_cast<float>(1 - lr * decay), size = static_cast<float>(lr / bias);
#pragma omp simd
        for (int64_t j = 0; j < piece.length; j++) {
            float gradient = g[j] * scale;
            m[j] += (gradient - m[j]) * 0.1f;
            v[j] = v[j] * 0.999f + gradient * gradient * 0.001f;
            p[j] = p[j] * keep - size * m[j] / (std::sqrt(v[j]) / root + 1e-8f);
        }
    }
}

}  // namespace detr
