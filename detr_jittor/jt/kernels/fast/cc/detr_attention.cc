// Scaled dot-product attention of several heads, with a key padding mask and dropout on the weights.
//
// Each head is worked through in tiles of queries, so that its scores stay in the cache and are never stored: the
// backward pass makes them again from the queries, the keys, and each row's largest score and sum of exponentials (not
// their one logarithm: its rounding alone would be an error of 2e-7 in all weights of the row). A tile's scores lie in
// a panel [Lk / lanes, tile, lanes], as the left matrix of the next product wants them.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "detr_bfloat16.h"
#include "detr_exp.h"

namespace detr {

using B = Block<lanes>;
using Lanes = B::Lanes;

static const int64_t part = 48;  // of a sum over queries or keys (with pairs of bfloat16, 96), see `multiply`
static const int64_t wide = product_columns;
static const float infinity = std::numeric_limits<float>::infinity();

static float total(Lanes v) {
    float sum = 0;
    for (int i = 0; i < lanes; i++) sum += v[i];
    return sum;
}

static float largest(Lanes v) {
    float m = v[0];
    for (int i = 1; i < lanes; i++) m = v[i] > m ? v[i] : m;
    return m;
}

struct Attention {
    int64_t b, lq, lk, d, heads, dh, room, tiles, keys, width;
    const float *q, *k, *v;
    const bool* ignored;
    float scale;
    bool drops;
    Dropout dropout;

    // in: q [B, Lq, D], k and v [B, Lk, D], …, [mask [B, Lk] last]. numbers: heads, p, key, has mask.
    explicit Attention(const Call& call)
        : b(call.in[0].shape[0]), lq(call.in[0].shape[1]), lk(call.in[1].shape[1]), d(call.in[0].shape[2]),
          heads(call.integer(0)), dh(d / heads), room(std::min(whole(lq, 2), task_rows)),
          tiles((lq + room - 1) / room), keys(whole(lk, wide)), width(whole(dh, wide)), q(call.in[0].f32()),
          k(call.in[1].f32()), v(call.in[2].f32()), ignored(call.integer(3) ? call.in.back().mask() : nullptr),
          scale(1 / std::sqrt(static_cast<float>(dh))), drops(call.numbers[1] > 0),
          dropout(call.numbers[1], call.numbers[2]) {}

    int64_t row(int64_t batch, int64_t head, int64_t query) const { return (batch * heads + head) * lq + query; }
    // The dropout index of the first weight of a row: its place in [B, heads, Lq, Lk].
    uint32_t index(int64_t row) const { return static_cast<uint32_t>(row * lk); }
    // Of a matrix [B, Lq, D] or [B, Lk, D], what belongs to a head
    int64_t query(int64_t batch, int64_t head, int64_t first) const { return (batch * lq + first) * d + head * dh; }
    int64_t key(int64_t batch, int64_t head) const { return batch * lk * d + head * dh; }
    // floats of a head's keys or values as the right matrix of a product
    int64_t columns() const { return keys * width; }

    // A head's x [Lk, dh], transposed: [keys / columns, width, columns]
    void transposed(const float* x, float* out) const {
        for (int64_t j = 0; j < keys; j += wide)
            for (int64_t c = 0; c < width; c += lanes)
                if (c < dh) transpose_block(x + j * d + c, d, lk - j, dh - c, out + j * width + c * wide);
                else std::fill(out + j * width + c * wide, out + j * width + (c + lanes) * wide, 0.f);
    }
    // The same as it is: [width / columns, keys, columns]
    void upright(const float* x, float* out) const {
        for (int64_t c = 0; c < width; c += wide)
            for (int64_t j = 0; j < keys; j++) {
                float* row = out + (c / wide * keys + j) * wide;
                int64_t there = j < lk ? std::min(wide, dh - c) : 0;
                std::copy(x + j * d + c, x + j * d + c + there, row);
                std::fill(row + there, row + wide, 0.f);
            }
    }
    // `rows` rows of a head's x [Lq, dh] as a panel [width / lanes, room, lanes]
    void panel(const float* x, int64_t rows, float* out) const {
        std::fill(out, out + room * width, 0.f);
        to_panel(x, d, dh, rows, room, out);
    }
    // A right matrix of so many channels as pairs of bfloat16, in place: half of each block of columns is used then.
    void pair(float* matrix, int64_t channels) const {
        for (int64_t i = 0; i < columns(); i += channels * wide) pair_columns(matrix + i, channels, matrix + i);
    }
    // The product of a panel [width] with a head's transposed keys or values, as a panel [keys / lanes, room, lanes].
    // Each part of it passes through finish(row, key, products). With `pairs` both factors are pairs of bfloat16.
    template <bool pairs = false, class Finish>
    void over_keys(const float* left, const float* right, float* out, Finish finish) const {
        const int64_t channels = pairs ? width / 2 : width;
        alignas(64) float products[task_rows * product_columns];
        for (int64_t j = 0; j < keys; j += wide) {
            multiply<pairs>(left, room, right + j * width, channels, channels, products);
            for (int64_t c = 0; c < wide; c += lanes)
                for (int64_t r = 0; r < room; r++)
                    B::at(out + ((j + c) / lanes * room + r) * lanes) =
                        finish(r, j + c, B::at(products + r * wide + c));
        }
    }
    // The product of a panel [keys] with a head's upright keys or values to `rows` rows of y, each times its factor
    template <bool pairs = false, class Factor>
    void over_width(const float* left, const float* right, int64_t rows, Factor factor, float* y) const {
        alignas(64) float products[task_rows * product_columns];
        for (int64_t c = 0; c < width; c += wide) {
            multiply<pairs>(left, room, right + c * keys, pairs ? keys / 2 : keys, part, products);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t i = 0; i < std::min(wide, dh - c); i++)
                    y[r * d + c + i] = products[r * wide + i] * factor(r);
        }
    }
    // [B, keys] -∞ where the key is ignored or there is none, else 0
    void cuts(float* out) const {
        for (int64_t i = 0; i < b * keys; i++) {
            int64_t j = i % keys;
            out[i] = j >= lk || (ignored && ignored[i / keys * lk + j]) ? -infinity : 0.f;
        }
    }
    // Scores from key j on, scaled and cut: whatever a cut key's score is, it becomes -∞.
    Lanes cut(const float* cuts, int64_t batch, int64_t j, Lanes scores) const {
        Lanes limit = B::at(cuts + batch * keys + j);
        return limit < 0 ? limit : scores * scale;
    }
    // Times the dropout's factors
    void drop(int64_t row, float* w) const {
        if (!drops) return;
        for (int64_t j = 0; j < keys; j += lanes)
            B::at(w + j * room) *= dropout.factors<lanes>(index(row) + static_cast<uint32_t>(j));
    }
};

template <bool pairs>
static void attend(Call& call) {
    Attention a(call);
    float* y = call.out[0].f32();
    float* sums = call.out.size() > 1 ? call.out[1].f32() : nullptr;
    int64_t threads = omp_get_max_threads(), all = a.b * a.heads, size = a.room * (a.width + a.keys);
    float* shared = scratch(Scratch::gathered, all * 2 * a.columns() + a.b * a.keys);
    float* cuts = shared + all * 2 * a.columns();
    a.cuts(cuts);
    float* arena = scratch(Scratch::threads, threads * size);
#pragma omp parallel for
    for (int64_t bh = 0; bh < all; bh++) {
        float* columns = shared + bh * 2 * a.columns();
        a.transposed(a.k + a.key(bh / a.heads, bh % a.heads), columns);
        a.upright(a.v + a.key(bh / a.heads, bh % a.heads), columns + a.columns());
        if (pairs) a.pair(columns, a.width), a.pair(columns + a.columns(), a.keys);
    }
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t bh = 0; bh < all; bh++)
        for (int64_t t = 0; t < a.tiles; t++) {
            int64_t batch = bh / a.heads, head = bh % a.heads, first = t * a.room;
            int64_t rows = std::min(a.room, a.lq - first);
            float *q = arena + omp_get_thread_num() * size, *s = q + a.room * a.width;
            const float* columns = shared + bh * 2 * a.columns();
            a.panel(a.q + a.query(batch, head, first), rows, q);
            if (pairs) pair_panel(q, a.room, a.width);
            alignas(64) Lanes most[task_rows];
            std::fill(most, most + a.room, Lanes{} - infinity);
            a.template over_keys<pairs>(q, columns, s, [&](int64_t r, int64_t j, Lanes scores) {
                scores = a.cut(cuts, batch, j, scores);
                most[r] = scores > most[r] ? scores : most[r];
                return scores;
            });
            float inverse[task_rows];
            for (int64_t i = 0; i < rows; i++) {
                float* w = s + i * lanes;
                int64_t row = a.row(batch, head, first + i);
                float highest = largest(most[i]);
                Lanes sum{};
                bool empty = highest == -infinity && a.ignored;
                if (empty) highest = 0;
                for (int64_t j = 0; j < a.keys; j += lanes) {
                    Lanes& v = B::at(w + j * a.room);
                    v = exp_negative(v - highest);  // a NaN stays one
                    sum += v;
                }
                inverse[i] = empty ? 0.f : 1 / total(sum);
                if (sums) sums[2 * row] = highest, sums[2 * row + 1] = inverse[i];
                a.drop(row, w);
            }
            if (pairs) pair_panel(s, a.room, a.keys);
            a.template over_width<pairs>(s, columns + a.columns(), rows, [&](int64_t r) { return inverse[r]; },
                                         y + a.query(batch, head, first));
        }
}

// in: q, k, v, [mask]; out: y [B, Lq, D], [largest score and 1 / sum of exponentials [B, heads, Lq, 2], for the
// backward pass]. numbers: heads, p, key, has mask. Where every key is ignored, y and both of these are zero.
// Without a backward pass bfloat16 may be multiplied; the one with it makes the same scores again, in float32.
DETR_KERNEL(attention) {
    if (has_pairs && multiplies_bfloat16() && call.out.size() == 1) attend<has_pairs>(call);
    else attend<false>(call);
}

// A head's keys and values as right matrices, the gradients of both, and the panels of a tile.
struct Backward {
    float *k, *v, *upright_k, *dk, *dv, *q, *dy, *w, *dw;

    static int64_t floats(const Attention& a) { return 5 * a.columns() + 2 * a.room * (a.width + a.keys); }
    Backward(const Attention& a, float* arena)
        : k(arena), v(k + a.columns()), upright_k(v + a.columns()), dk(upright_k + a.columns()), dv(dk + a.columns()),
          q(dv + a.columns()), dy(q + a.room * a.width), w(dy + a.room * a.width), dw(w + a.room * a.keys) {}
};

// The gradient of a row of scores, dw, from that of its weights; w, the scores, becomes the weights after dropout.
static void backward_row(const Attention& a, int64_t row, const float* sums, float* w, float* dw) {
    for (int64_t j = 0; j < a.keys; j += lanes) {
        Lanes& v = B::at(w + j * a.room);
        v = exp_negative(v - sums[2 * row]) * sums[2 * row + 1];
    }
    a.drop(row, dw);
    // dw less its mean with the weights w, in two steps like a variance: where all dw are alike, the first mean's
    // rounding, and that the weights do not add up to 1 to the last digit, would be all that remains.
    for (int step = 0; step < 2; step++) {
        Lanes mean{};
        for (int64_t j = 0; j < a.keys; j += lanes) mean += B::at(w + j * a.room) * B::at(dw + j * a.room);
        float shift = total(mean);
        for (int64_t j = 0; j < a.keys; j += lanes) B::at(dw + j * a.room) -= shift;
    }
    for (int64_t j = 0; j < a.keys; j += lanes) B::at(dw + j * a.room) *= B::at(w + j * a.room) * a.scale;
    a.drop(row, w);
}

// in: q, k, v, largest scores and sums, dy, [mask]; out: dq, dk, dv. numbers as above.
DETR_KERNEL(attention_backward) {
    Attention a(call);
    const float *sums = call.in[3].f32(), *gradient = call.in[4].f32();
    float* arena = scratch(Scratch::threads, omp_get_max_threads() * Backward::floats(a));
    float* cuts = scratch(Scratch::gathered, a.b * a.keys);
    a.cuts(cuts);
#pragma omp parallel for schedule(dynamic)
    for (int64_t bh = 0; bh < a.b * a.heads; bh++) {
        Backward m(a, arena + omp_get_thread_num() * Backward::floats(a));
        int64_t batch = bh / a.heads, head = bh % a.heads, key = a.key(batch, head);
        a.transposed(a.k + key, m.k), a.transposed(a.v + key, m.v), a.upright(a.k + key, m.upright_k);
        for (int64_t first = 0; first < a.lq; first += a.room) {
            int64_t rows = std::min(a.room, a.lq - first), query = a.query(batch, head, first);
            a.panel(a.q + query, rows, m.q), a.panel(gradient + query, rows, m.dy);
            a.over_keys(m.q, m.k, m.w, [&](int64_t, int64_t j, Lanes scores) { return a.cut(cuts, batch, j, scores); });
            a.over_keys(m.dy, m.v, m.dw, [](int64_t, int64_t, Lanes products) { return products; });
            for (int64_t i = 0; i < rows; i++)
                backward_row(a, a.row(batch, head, first + i), sums, m.w + i * lanes, m.dw + i * lanes);
            a.over_width(m.dw, m.upright_k, rows, [](int64_t) { return 1.f; }, call.out[0].f32() + query);
            for (int64_t c = 0; c < a.width; c += wide) {
                accumulate(m.dw, a.room, a.keys, m.q + c * a.room, rows, !first, m.dk + c * a.keys);
                accumulate(m.w, a.room, a.keys, m.dy + c * a.room, rows, !first, m.dv + c * a.keys);
            }
        }
        float* out[2] = {call.out[1].f32() + key, call.out[2].f32() + key};
        for (int64_t c = 0; c < a.dh; c++)
            for (int64_t j = 0; j < a.lk; j++) {
                int64_t place = (c / wide * a.keys + j) * wide + c % wide;
                out[0][j * a.d + c] = m.dk[place], out[1][j * a.d + c] = m.dv[place];
            }
    }
}

}  // namespace detr
