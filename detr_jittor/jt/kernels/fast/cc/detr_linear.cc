// Linear layers, alone and as the feed-forward pair with ReLU and dropout between them.
#include <omp.h>

#include <algorithm>

#include "detr_bfloat16.h"
#include "detr_gemm.h"
#include "detr_multiply.h"
#include "detr_packed.h"

namespace detr {

using B = Block<lanes>;

static const int64_t part = 64;  // of a sum, see `multiply`

// How a product is computed: with how many channels, a pair of bfloat16 counting as one.
struct Product {
    int64_t n, k, padded, channels;  // padded: k, filled up with zeros
    bool pairs;

    Product(int64_t n, int64_t k)
        : n(n), k(k), padded(whole(k, 2 * lanes)), pairs(has_pairs && multiplies_bfloat16()) {
        channels = pairs ? padded / 2 : padded;
    }

    // w [n, k] as the right matrix of `multiply`
    void transpose(const float* w, float* columns) const {
        const int64_t wide = product_columns, some = 2 * lanes;
#pragma omp parallel for collapse(2)
        for (int64_t block = 0; block < whole(n, wide) / wide; block++)
            for (int64_t c = 0; c < padded; c += some) {
                alignas(64) float piece[2 * lanes * product_columns];
                float* out = columns + (block * channels + (pairs ? c / 2 : c)) * wide;
                for (int64_t i = 0; i < some; i += lanes)
                    transpose_block(w + block * wide * k + c + i, k, n - block * wide, std::max<int64_t>(k - c - i, 0),
                                    (pairs ? piece : out) + i * wide);
                if (pairs) pair_columns(piece, some, out);
            }
    }
    int64_t floats() const { return whole(n, product_columns) * channels; }  // of a right matrix
    // The right matrices of w, `count` matrices [n, k] one after another
    const float* transposed(const Tensor& w, Scratch purpose, bool kept, int64_t count = 1) const {
        return packed(w, {lanes, pairs}, nullptr, 0, count * floats(), kept, purpose, [&](float* target) {
            for (int64_t i = 0; i < count; i++) transpose(w.f32() + i * n * k, target + i * floats());
        });
    }
    // Rows of x [k] as the left matrix
    void panel(const float* x, int64_t count, int64_t room, float* out) const {
        std::fill(out + k / lanes * lanes * room, out + padded * room, 0.f);
        to_panel(x, k, k, count, room, out);
        if (pairs) pair_panel(out, room, padded);
    }
    // Calls finish(row, first column, products [lanes]) for all products.
    template <class Finish>
    void run(const float* panel, int64_t room, const float* columns, Finish finish) const {
        const int64_t wide = product_columns;
        alignas(64) float products[task_rows * product_columns];
        for (int64_t block = 0; block < whole(n, wide) / wide; block++) {
            const float* right = columns + block * channels * wide;
            if (pairs) multiply<has_pairs>(panel, room, right, channels, part / 2, products);
            else multiply(panel, room, right, channels, part, products);
            for (int64_t r = 0; r < room; r++)
                for (int64_t j = 0; j < wide; j += lanes) finish(r, block * wide + j, products + r * wide + j);
        }
    }
};

// Calls task(first row, count of rows, room of its panels, thread) for all rows, those of a task together.
template <class Task>
static void by_rows(int64_t rows, Task task) {
    int64_t room = rows_of_task(rows, omp_get_max_threads());
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < rows; first += room)
        task(first, std::min(room, rows - first), room, omp_get_thread_num());
}

// What follows a product: + bias, ReLU (a NaN stays).
struct Bias {
    const float* bias;
    int64_t n;
    bool relu;

    B::Lanes add(const float* products, int64_t j) const {
        B::Lanes b{};
        if (j + lanes <= n) b = B::at(bias + j);
        else
            for (int64_t i = 0; i < n - j; i++) b[i] = bias[j + i];
        B::Lanes v = B::at(products) + b;
        return relu ? v < 0 ? B::Lanes{} : v : v;
    }
    // The columns of a row from j on that there are
    void write(B::Lanes v, int64_t j, float* row) const {
        if (j + lanes <= n) B::at(row + j) = v;
        else
            for (int64_t i = 0; i < n - j; i++) row[j + i] = v[i];
    }
};

// Where to write each of `count` gradients, null for those that the numbers from `first` on do not ask for
static std::vector<float*> wanted(const Call& call, int first, int count) {
    std::vector<float*> out(count);
    for (size_t i = 0, next = 0; i < out.size(); i++)
        if (call.integer(first + i)) out[i] = call.out[next++].f32();
    return out;
}

// The gradients of y = x wᵀ + b, each where there is room for it.
static void product_backward(int64_t rows, int64_t n, int64_t k, const float* x, const float* w, const float* dy,
                             float* dx, float* dw, float* db) {
    if (dx) gemm('N', rows, k, n, dy, w, dx);
    // Sums over rows are added up in shorter parts than gemm's own where the result stays in the cache: it is read
    // anew.
    if (dw) gemm('T', n, k, rows, dy, x, dw, n * k <= 1 << 17 ? 64 : 128);
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

// y = x wᵀ + b, with a ReLU or without
static void forward(const Product& product, int64_t rows, const float* x, const float* columns, const Bias& after,
                    float* y) {
    int64_t size = rows_of_task(rows, omp_get_max_threads()) * product.padded;
    float* arena = scratch(Scratch::threads, omp_get_max_threads() * size);
    by_rows(rows, [&](int64_t first, int64_t count, int64_t room, int thread) {
        float* panel = arena + thread * size;
        product.panel(x + first * product.k, count, room, panel);
        product.run(panel, room, columns, [&](int64_t row, int64_t j, const float* products) {
            if (row < count) after.write(after.add(products, j), j, y + (first + row) * product.n);
        });
    });
}

// in: x [..., K], weight [N, K], bias [N]; out: y [..., N]. numbers: relu, kept.
DETR_KERNEL(linear) {
    const Tensor &x = call.in[0], &w = call.in[1];
    const Product product(w.shape[0], x.last());
    const float* columns = product.transposed(w, Scratch::weights, call.integer(1));
    const Bias after{call.in[2].f32(), product.n, call.integer(0) != 0};
    forward(product, x.rows(), x.f32(), columns, after, call.out[0].f32());
}

// in: query, key, value [..., D], weight [3D, D], bias [3D]; out: the projections of each. numbers: kept.
DETR_KERNEL(projections) {
    const Tensor& w = call.in[3];
    const Product product(w.shape[0] / 3, w.last());
    const float* columns = product.transposed(w, Scratch::weights, call.integer(0), 3);
    for (int64_t i = 0; i < 3; i++) {
        const Bias after{call.in[4].f32() + i * product.n, product.n, false};
        forward(product, call.in[i].rows(), call.in[i].f32(), columns + i * product.floats(), after, call.out[i].f32());
    }
}

// in: query, key, value, weight and the gradients of the three projections; out: those wanted of dquery, dkey, dvalue,
// dweight, dbias. numbers: wants.
DETR_KERNEL(projections_backward) {
    const Tensor& w = call.in[3];
    int64_t n = w.shape[0] / 3, k = w.last();
    const std::vector<float*> out = wanted(call, 0, 5);
    for (int64_t i = 0; i < 3; i++)
        product_backward(call.in[i].rows(), n, k, call.in[i].f32(), w.f32() + i * n * k, call.in[4 + i].f32(), out[i],
                         out[3] ? out[3] + i * n * k : nullptr, out[4] ? out[4] + i * n : nullptr);
}

// in: x, weight, dy, [y]: y where there is a ReLU; out: those wanted of dx, dweight, dbias. numbers: wants.
DETR_KERNEL(linear_backward) {
    const Tensor &x = call.in[0], &w = call.in[1];
    int64_t rows = x.rows(), k = x.last(), n = w.shape[0];
    const std::vector<float*> out = wanted(call, 0, 3);
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
// numbers: p, key, kept. The hidden units of a task are the panel of its second product.
DETR_KERNEL(feed_forward) {
    const Tensor &x = call.in[0], &w1 = call.in[1], &w2 = call.in[3];
    int64_t rows = x.rows(), d = x.last(), f = w1.shape[0], n = w2.shape[0], threads = omp_get_max_threads();
    const Product one(f, d), two(n, f);
    const float* one_columns = one.transposed(w1, Scratch::weights, call.integer(2));
    const float* two_columns = two.transposed(w2, Scratch::more_weights, call.integer(2));
    const Bias after{call.in[2].f32(), f, true}, last{call.in[4].f32(), n, false};
    const Dropout dropout(call.numbers[0], call.numbers[1]);
    float* kept = call.out.size() > 1 ? call.out[1].f32() : nullptr;
    int64_t size = rows_of_task(rows, threads) * (one.padded + two.padded);
    float* arena = scratch(Scratch::threads, threads * size);
    by_rows(rows, [&](int64_t first, int64_t count, int64_t room, int thread) {
        float *panel = arena + thread * size, *hidden = panel + room * one.padded;
        one.panel(x.f32() + first * d, count, room, panel);
        one.run(panel, room, one_columns, [&](int64_t row, int64_t j, const float* products) {
            if (j >= two.padded) return;
            B::Lanes h{};  // beyond the last row and the last column too
            if (row < count && j < f) h = after.add(products, j);
            if (dropout.threshold) h *= dropout.factors<lanes>(static_cast<uint32_t>((first + row) * f + j));
            B::at(hidden + (j / lanes * room + row) * lanes) = h;
            if (kept && row < count && j < f) after.write(h, j, kept + (first + row) * f);
        });
        if (two.pairs) pair_panel(hidden, room, two.padded);
        two.run(hidden, room, two_columns, [&](int64_t row, int64_t j, const float* products) {
            if (row < count) last.write(last.add(products, j), j, call.out[0].f32() + (first + row) * n);
        });
    });
}

// in: x, w1, w2, hidden, dy; out: those wanted of dx, dw1, db1, dw2, db2. numbers: p, wants.
// A hidden unit that is positive was neither cut by the ReLU nor dropped.
DETR_KERNEL(feed_forward_backward) {
    const Tensor &x = call.in[0], &w1 = call.in[1], &w2 = call.in[2];
    int64_t rows = x.rows(), d = x.last(), f = w1.shape[0], n = w2.shape[0];
    const float *hidden = call.in[3].f32(), *dy = call.in[4].f32();
    const std::vector<float*> out = wanted(call, 1, 5);
    float* dhidden = scratch(Scratch::hidden, rows * f);
    product_backward(rows, n, f, hidden, w2.f32(), dy, dhidden, out[3], out[4]);
    float factor = static_cast<float>(1 / (1 - call.numbers[0]));
#pragma omp parallel for simd
    for (int64_t i = 0; i < rows * f; i++) dhidden[i] = hidden[i] > 0 ? dhidden[i] * factor : 0.f;
    product_backward(rows, f, d, x.f32(), w1.f32(), dhidden, out[0], out[1], out[2]);
}

}  // namespace detr
