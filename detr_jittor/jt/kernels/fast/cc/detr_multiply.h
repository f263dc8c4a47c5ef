// The matrix product that other kernels are made of.
//
// The left matrix lies in a panel [channels / lanes, room, lanes] and the right one in columns [outputs / (2 · lanes),
// channels, 2 · lanes], so that both are read from beginning to end.
#pragma once
#include <algorithm>
#include <cstdint>

#include "detr_kernel.h"

namespace detr {

#ifdef __AVX512F__
static const int lanes = 16, product_rows = 14;  // with two columns of lanes they fill the 32 registers
#else
static const int lanes = 8, product_rows = 6;  // the same for 16 registers
#endif
static const int product_columns = 2 * lanes;
static const int64_t task_rows = 3 * product_rows;  // of a panel that stays in the cache, at most

// Have `floats` numbers fetched into the cache: a hint, that may reach beyond the end of memory.
inline void prefetch(const float* p, int floats) {
    for (int i = 0; i < floats; i += 16) __builtin_prefetch(p + i, 0, 2);
}

// products[row, columns] = Σ over channels of panel[channel, row] · columns[channel, column], for all rows of a panel.
// The sum is made of parts of so many products, as rounding errors grow with the root of it. `channels` and `part` are
// multiples of lanes, `room` is even. With `pairs` a channel is a pair of bfloat16.
template <bool pairs = false>
void multiply(const float* panel, int64_t room, const float* columns, int64_t channels, int64_t part, float* products);

// sums[channel, columns] (+)= Σ over rows of panel[channel, row] · right[column, row], two panels of the same room: the
// product of a transposed left matrix. `right` has one pair of columns of lanes; `channels` is a multiple of lanes.
void accumulate(const float* panel, int64_t room, int64_t channels, const float* right, int64_t rows, bool first,
                float* sums);

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

#ifdef __AVX512BF16__
static const bool has_pairs = true;
#else
static const bool has_pairs = false;
#endif

// Channels 2i and 2i + 1 as one pair of bfloat16: a panel, in place, and `channels` of a block of columns. An even
// number of lanes; only where `has_pairs`.
void pair_panel(float* panel, int64_t room, int64_t channels);
void pair_columns(const float* columns, int64_t channels, float* out);

// How many rows a task takes: as many for each thread, no more than what the cache holds, an even number.
inline int64_t rows_of_task(int64_t rows, int64_t threads) {
    int64_t most = task_rows * threads, tasks = std::max<int64_t>((rows + most - 1) / most, 1) * threads;
    return std::max<int64_t>((rows + tasks - 1) / tasks + 1, 2) / 2 * 2;
}

}  // namespace detr
