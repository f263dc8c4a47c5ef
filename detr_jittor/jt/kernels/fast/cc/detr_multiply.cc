// What is long of detr_multiply.h, compiled once for all kernels.
#include "detr_multiply.h"

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace detr {

// sum + word · columns, of numbers, or of pairs of bfloat16 that lie in the place of one number
template <bool pairs>
static Block<lanes>::Lanes add_product(Block<lanes>::Lanes sum, float word, Block<lanes>::Lanes columns) {
#ifdef __AVX512BF16__
    if (pairs)
        return (Block<lanes>::Lanes)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_ps(word), (__m512bh)columns);
#endif
    return sum + word * columns;
}

template <bool pairs, int rows>
static void multiply_rows(const float* panel, int64_t room, const float* columns, int64_t channels, int64_t part,
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

template <bool pairs>
void multiply(const float* panel, int64_t room, const float* columns, int64_t channels, int64_t part, float* products) {
    for (int64_t first = 0; first < room; first += product_rows)
        UpTo<pairs, product_rows>::multiply(room - first, panel + first * lanes, room, columns, channels, part,
                                            products + first * product_columns);
}

template void multiply<false>(const float*, int64_t, const float*, int64_t, int64_t, float*);

void accumulate(const float* panel, int64_t room, int64_t channels, const float* right, int64_t rows, bool first,
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

#ifdef __AVX512BF16__
template void multiply<true>(const float*, int64_t, const float*, int64_t, int64_t, float*);

void pair_panel(float* panel, int64_t room, int64_t channels) {
    for (int64_t c = 0; c < channels; c += 2 * lanes)
        for (int64_t r = 0; r < room; r++) {
            const float* in = panel + (c * room + r * lanes);
            __m512bh pairs = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(in + room * lanes), _mm512_loadu_ps(in));
            _mm512_storeu_si512(panel + c / 2 * room + r * lanes, (__m512i)pairs);
        }
}

void pair_columns(const float* columns, int64_t channels, float* out) {
    auto words = [](const float* p) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(p))); };
    for (int64_t c = 0; c < channels; c += 2)
        for (int64_t j = 0; j < product_columns; j += lanes) {
            const float* in = columns + c * product_columns + j;
            __m512i high = _mm512_slli_epi32(words(in + product_columns), 16);
            _mm512_storeu_si512(out + c / 2 * product_columns + j, _mm512_or_si512(words(in), high));
        }
}
#else
void pair_panel(float*, int64_t, int64_t) {}
void pair_columns(const float*, int64_t, float*) {}
#endif

}  // namespace detr
