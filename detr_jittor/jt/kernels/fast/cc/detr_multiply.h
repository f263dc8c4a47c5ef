// The matrix product that other kernels are made of.
//
// The left matrix lies in a panel [channels / lanes, room, lanes] and the right one in columns [outputs / (2 · lanes),
// channels, 2 · lanes], so that both are read from beginning to end.
#pragma once
#include <algorithm>
#include <cstdint>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include "detr_kernel.h"

namespace detr {

#ifdef __AVX512F__
static const int lanes = 16, product_rows = 14;  // with two columns of lanes they fill the 32 registers
#else
static const int lanes = 8, product_rows = 6;  // the same for 16 registers
#endif
static const int product_columns = 2 * lanes;
static const int64_t task_rows = 3 * product_rows;  // of a panel that stays in the cache, at most

// sum + word · columns, of numbers, or of pairs of bfloat16 that lie in the place of one number
template <bool pairs>
inline Block<lanes>::Lanes add_product(Block<lanes>::Lanes sum, float word, Block<lanes>::Lanes columns) {
#ifdef __AVX512BF16__
    if (pairs)
        return (Block<lanes>::Lanes)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_ps(word), (__m512bh)columns);
#endif
    return sum + word * columns;
}

// Have `floats` numbers fetched into the cache: a hint, that may reach beyond the end of memory.
inline void prefetch(const float* p, int floats) {
    for (int i = 0; i < floats; i += 16) __builtin_prefetch(p + i, 0, 2);
}

template <bool pairs, int rows>
inline void multiply_rows(const float* panel, int64_t room, const float* columns, int64_t channels, int64_t part,
                          float* products) {
    using B = Block<lanes>;
    using Lanes = B::Lanes;
    for (int64_t start = 0; start < channels; start += part) {
        Lanes sum[rows][2] = {};
        for (int64_t c = start; c < std::min(start + part, channels); c++) {
            const float *v = panel + c / lanes * room * lanes + c % lanes, *u = columns + c * product_columns;
            Lanes left = B::at(u), right = B::at(u + lanes);
            prefetch(u + channels * product_columns, product_columns);  // of the columns that come next
#pragma GCC unroll 14
            for (int r = 0; r < rows; r++) {
                sum[r][0] = add_product<pairs>(sum[r][0], v[r * lanes], left);
                sum[r][1] = add_product<pairs>(sum[r][1], v[r * lanes], right);
            }
        }
#pragma GCC unroll 14
        for (int r = 0; r < rows; r++)
            for (int half = 0; half < 2; half++) {
                float* out = products + r * product_columns + half * lanes;
                B::at(out) = start ? B::at(out) + sum[r][half] : sum[r][half];
            }
    }
}

// The same for a number of rows that is known only now, up to an even number of them.
template <bool pairs, int most>
struct UpTo {
    static void multiply(int64_t rows, const float* panel, int64_t room, const float* columns, int64_t channels,
                         int64_t part, float* products) {
        if (rows > most - 2) return multiply_rows<pairs, most>(panel, room, columns, channels, part, products);
        UpTo<pairs, most - 2>::multiply(rows, panel, room, columns, channels, part, products);
    }
};
template <bool pairs>
struct UpTo<pairs, 0> {
    static void multiply(int64_t, const float*, int64_t, const float*, int64_t, int64_t, float*) {}
};

// products[row, columns] = Σ over channels of panel[channel, row] · columns[channel, column], for all rows of a panel.
// The sum is made of parts of so many products, as rounding errors grow with the root of it. `channels` and `part` are
// multiples of lanes, `room` is even. With `pairs` a channel is a pair of bfloat16.
template <bool pairs = false>
inline void multiply(const float* panel, int64_t room, const float* columns, int64_t channels, int64_t part,
                     float* products) {
    for (int64_t first = 0; first < room; first += product_rows)
        UpTo<pairs, product_rows>::multiply(room - first, panel + first * lanes, room, columns, channels, part,
                                            products + first * product_columns);
}

// sums[channel, columns] (+)= Σ over rows of panel[channel, row] · right[column, row], two panels of the same room: the
// product of a transposed left matrix. `right` has one pair of columns of lanes; `channels` is a multiple of lanes.
inline void accumulate(const float* panel, int64_t room, int64_t channels, const float* right, int64_t rows, bool first,
                       float* sums) {
    using B = Block<lanes>;
    using Lanes = B::Lanes;
    const int some = lanes / 2;  // channels at a time
    for (int64_t c = 0; c < channels; c += some) {
        const float *v = panel + c / lanes * room * lanes + c % lanes, *u = right;
        Lanes sum[some][2] = {};
        prefetch(sums + (c + some) * product_columns, some * product_columns);
        for (int64_t r = 0; r < rows; r++, v += lanes, u += lanes) {
            Lanes a = B::at(u), b = B::at(u + room * lanes);
#pragma GCC unroll 8
            for (int i = 0; i < some; i++) sum[i][0] += v[i] * a, sum[i][1] += v[i] * b;
        }
#pragma GCC unroll 8
        for (int i = 0; i < some; i++)
            for (int half = 0; half < 2; half++) {
                float* out = sums + (c + i) * product_columns + half * lanes;
                B::at(out) = first ? sum[i][half] : B::at(out) + sum[i][half];
            }
    }
}

inline int64_t whole(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// `count` rows of x [k], `distance` apart, as a panel filled up with zeros
inline void to_panel(const float* x, int64_t distance, int64_t k, int64_t count, int64_t room, float* panel) {
    using B = Block<lanes>;
    for (int64_t c = 0; c < k; c += lanes)
        for (int64_t r = 0; r < room; r++) {
            const float* in = x + r * distance + c;
            float* out = panel + (c / lanes * room + r) * lanes;
            if (r < count && c + lanes <= k) {
                B::at(out) = B::at(in);
            } else {
                B::at(out) = B::Lanes{};
                if (r < count) std::copy(in, in + k - c, out);
            }
        }
}

// The upper left piece of w [n, k], whose rows are `distance` apart, as `lanes` channels of a block of columns
inline void transpose_block(const float* w, int64_t distance, int64_t n, int64_t k, float* columns) {
    const int64_t wide = product_columns, width = std::min(wide, n), length = std::min<int64_t>(lanes, k);
    if (width < wide || length < lanes) std::fill(columns, columns + lanes * wide, 0.f);
    for (int64_t j = 0; j < width; j++)
        for (int64_t c = 0; c < length; c++) columns[c * wide + j] = w[j * distance + c];
}

// Channels 2i and 2i + 1 as one pair of bfloat16: a panel, in place, and `channels` of a block of columns. An even
// number of lanes; only where `has_pairs`.
#ifdef __AVX512BF16__
static const bool has_pairs = true;

inline void pair_panel(float* panel, int64_t room, int64_t channels) {
    for (int64_t c = 0; c < channels; c += 2 * lanes)
        for (int64_t r = 0; r < room; r++) {
            const float* in = panel + (c * room + r * lanes);
            __m512bh pairs = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(in + room * lanes), _mm512_loadu_ps(in));
            _mm512_storeu_si512(panel + c / 2 * room + r * lanes, (__m512i)pairs);
        }
}

inline void pair_columns(const float* columns, int64_t channels, float* out) {
    auto words = [](const float* p) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(p))); };
    for (int64_t c = 0; c < channels; c += 2)
        for (int64_t j = 0; j < product_columns; j += lanes) {
            const float* in = columns + c * product_columns + j;
            __m512i high = _mm512_slli_epi32(words(in + product_columns), 16);
            _mm512_storeu_si512(out + c / 2 * product_columns + j, _mm512_or_si512(words(in), high));
        }
}
#else
static const bool has_pairs = false;
inline void pair_panel(float*, int64_t, int64_t) {}
inline void pair_columns(const float*, int64_t, float*) {}
#endif

// How many rows a task takes: as many for each thread, no more than what the cache holds, an even number.
inline int64_t rows_of_task(int64_t rows, int64_t threads) {
    int64_t most = task_rows * threads, tasks = std::max<int64_t>((rows + most - 1) / most, 1) * threads;
    return std::max<int64_t>((rows + tasks - 1) / tasks + 1, 2) / 2 * 2;
}

}  // namespace detr
