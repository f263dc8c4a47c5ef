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

// products[row, columns] = Σ over channels of panel[channel, row] · columns[channel, column], for `product_rows` rows. The
// sum is made of parts of so many products, as rounding errors grow with the root of it; `channels` and `part` are
// multiples of lanes.
inline void multiply(const float* panel, int64_t room, const float* columns, int64_t channels, int64_t part,
                     float* products) {
    using B = Block<lanes>;
    using Lanes = B::Lanes;
    for (int64_t start = 0; start < channels; start += part) {
        Lanes sum[product_rows][2] = {};
        for (int64_t c = start; c < std::min(start + part, channels); c++) {
            const float *v = panel + c / lanes * room * lanes + c % lanes, *u = columns + c * product_columns;
            Lanes left = B::at(u), right = B::at(u + lanes);
#pragma GCC unroll 14
            for (int r = 0; r < product_rows; r++) sum[r][0] += v[r * lanes] * left, sum[r][1] += v[r * lanes] * right;
        }
#pragma GCC unroll 14
        for (int r = 0; r < product_rows; r++)
            for (int half = 0; half < 2; half++) {
                float* out = products + r * product_columns + half * lanes;
                B::at(out) = start ? B::at(out) + sum[r][half] : sum[r][half];
            }
    }
}

// How many rows a task takes, a multiple of `product_rows`: so many that the last task of each thread ends as early as
// can be, and no more than what the cache holds.
inline int64_t rows_of_task(int64_t rows, int64_t threads) {
    int64_t best = 0, least = 0;
    for (int64_t room = product_rows; room <= 3 * product_rows; room += product_rows) {
        int64_t each = ((rows + room - 1) / room + threads - 1) / threads;
        int64_t cost = each * (room + 1);  // 1: what a task costs by itself
        if (!best || cost <= least) best = room, least = cost;
    }
    return best;
}

}  // namespace detr
