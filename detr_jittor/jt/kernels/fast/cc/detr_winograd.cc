// See detr_winograd.h. A tile is a 2×2 piece of the output with the 4×4 piece of the input that it needs; transformed
// tiles lie in panels [16, C / 16, tiles, 16]: place in the 4×4 tile, channels, tiles, channels of a block.
//
// Accuracy: sums over channels run over 16 or 32 products (those of the weights' gradient over 64 tiles) and are then
// added up, so that rounding errors are like the direct algorithm's: of dx 1.1 times, of dweight .7 times as large.
#include "detr_winograd.h"

#include <omp.h>

#include <algorithm>
#include <cstring>

#include "detr_kernel.h"

namespace detr {

using B = Block<16>;
using Lanes = B::Lanes;

static const int64_t run = 64;
static const int64_t rows = 14;         // tiles of one product: with 2 × 16 channels they fill the registers
static const int64_t most = 3 * rows;  // tiles of one task: their panels stay in the cache

bool has_winograd(int64_t ci, int64_t co) { return block() == 16 && ci % 32 == 0 && co % 32 == 0; }

struct Tile {
    int64_t image, y, x;
    Tile(const Plane& p, int64_t index)
        : image(index / (p.tiles_y() * p.tiles_x())), y(index / p.tiles_x() % p.tiles_y() * 2),
          x(index % p.tiles_x() * 2) {}
};

// Bᵀ d B of the tiles of x [B, channels, H, W] from `first` on
static void transform_inputs(const Plane& p, const float* x, int64_t channels, int64_t first, int64_t count,
                             int64_t room, float* panel) {
    int64_t blocks = channels / 16, step = blocks * room * 16;
    for (int64_t t = 0; t < count; t++) {
        Tile tile(p, first + t);
        for (int64_t k = 0; k < blocks; k++) {
            const float* plane = x + (tile.image * blocks + k) * p.h * p.w * 16;
            float* out = panel + (k * room + t) * 16;
            Lanes d[4][4], s[4][4];
            for (int64_t i = 0; i < 4; i++)
                for (int64_t j = 0; j < 4; j++) {
                    int64_t row = tile.y - 1 + i, column = tile.x - 1 + j;
                    bool inside = row >= 0 && row < p.h && column >= 0 && column < p.w;
                    d[i][j] = inside ? B::at(plane + (row * p.w + column) * 16) : Lanes{};
                }
            for (int j = 0; j < 4; j++) {
                s[0][j] = d[0][j] - d[2][j], s[1][j] = d[1][j] + d[2][j];
                s[2][j] = d[2][j] - d[1][j], s[3][j] = d[1][j] - d[3][j];
            }
            for (int i = 0; i < 4; i++) {
                B::at(out + (4 * i + 0) * step) = s[i][0] - s[i][2];
                B::at(out + (4 * i + 1) * step) = s[i][1] + s[i][2];
                B::at(out + (4 * i + 2) * step) = s[i][2] - s[i][1];
                B::at(out + (4 * i + 3) * step) = s[i][1] - s[i][3];
            }
        }
    }
}

// A dy Aᵀ of the output gradient's tiles from `first` on.
static void transform_gradients(const Plane& p, const float* dy, int64_t first, int64_t count, int64_t room,
                                float* panel) {
    int64_t blocks = p.co / 16, step = blocks * room * 16;
    for (int64_t t = 0; t < count; t++) {
        Tile tile(p, first + t);
        for (int64_t k = 0; k < blocks; k++) {
            const float* plane = dy + (tile.image * blocks + k) * p.h * p.w * 16;
            float* out = panel + (k * room + t) * 16;
            Lanes g[2][2], s[4][2];
            for (int64_t i = 0; i < 2; i++)
                for (int64_t j = 0; j < 2; j++)
                    g[i][j] = tile.y + i < p.h && tile.x + j < p.w
                                  ? B::at(plane + ((tile.y + i) * p.w + tile.x + j) * 16) : Lanes{};
            for (int j = 0; j < 2; j++)
                s[0][j] = g[0][j], s[1][j] = g[0][j] + g[1][j], s[2][j] = g[0][j] - g[1][j], s[3][j] = -g[1][j];
            for (int i = 0; i < 4; i++) {
                B::at(out + (4 * i + 0) * step) = s[i][0], B::at(out + (4 * i + 1) * step) = s[i][0] + s[i][1];
                B::at(out + (4 * i + 2) * step) = s[i][0] - s[i][1], B::at(out + (4 * i + 3) * step) = -s[i][1];
            }
        }
    }
}

// Aᵀ m A: products [16, Ci / 32, tiles, 32] of the tiles from `first` on → dx
static void transform_outputs(const Plane& p, const float* products, int64_t first, int64_t count, int64_t room,
                              float* dx) {
    int64_t blocks = p.ci / 16, step = p.ci * room;
    for (int64_t t = 0; t < count; t++) {
        Tile tile(p, first + t);
        for (int64_t k = 0; k < blocks; k++) {
            const float* in = products + ((k / 2 * room + t) * 2 + k % 2) * 16;
            Lanes m[16], s[2][4];
            for (int e = 0; e < 16; e++) m[e] = B::at(in + e * step);
            for (int j = 0; j < 4; j++)
                s[0][j] = m[j] + m[4 + j] + m[8 + j], s[1][j] = m[4 + j] - m[8 + j] - m[12 + j];
            for (int64_t i = 0; i < 2 && tile.y + i < p.h; i++) {
                Lanes out[2] = {s[i][0] + s[i][1] + s[i][2], s[i][1] - s[i][2] - s[i][3]};
                int64_t place = (((tile.image * blocks + k) * p.h + tile.y + i) * p.w + tile.x) * 16;
                for (int64_t j = 0; j < 2 && tile.x + j < p.w; j++) B::at(dx + place + j * 16) = out[j];
            }
        }
    }
}

// products[tile, 32] (+)= Σ over channels of panel[channel, tile] · filter[channel, 32], for `rows` tiles
static void multiply(const float* panel, int64_t room, const float* filter, int64_t channels, float* products) {
    const int64_t run = channels > 256 ? 32 : 16;
    for (int64_t start = 0; start < channels; start += run) {
        Lanes sum[rows][2] = {};
        for (int64_t c = start; c < std::min(start + run, channels); c++) {
            const float *v = panel + c / 16 * room * 16 + c % 16, *u = filter + c * 32;
            Lanes left = B::at(u), right = B::at(u + 16);
#pragma GCC unroll 14
            for (int r = 0; r < rows; r++) sum[r][0] += v[r * 16] * left, sum[r][1] += v[r * 16] * right;
        }
#pragma GCC unroll 14
        for (int r = 0; r < rows; r++)
            for (int half = 0; half < 2; half++) {
                float* out = products + r * 32 + half * 16;
                B::at(out) = start ? B::at(out) + sum[r][half] : sum[r][half];
            }
    }
}

// G g Gᵀ of 16 filters at once
static void transform_filter(const Lanes g[9], float* out, int64_t step) {
    Lanes s[4][3];
    for (int j = 0; j < 3; j++) {
        s[0][j] = g[j], s[3][j] = g[6 + j];
        s[1][j] = 0.5f * (g[j] + g[3 + j] + g[6 + j]), s[2][j] = 0.5f * (g[j] - g[3 + j] + g[6 + j]);
    }
    for (int i = 0; i < 4; i++) {
        B::at(out + (4 * i + 0) * step) = s[i][0], B::at(out + (4 * i + 3) * step) = s[i][2];
        B::at(out + (4 * i + 1) * step) = 0.5f * (s[i][0] + s[i][1] + s[i][2]);
        B::at(out + (4 * i + 2) * step) = 0.5f * (s[i][0] - s[i][1] + s[i][2]);
    }
}

// The filters of `weight` [Co, Ci, 3, 3], times scale[co], turned by 180° and transformed: [16, Ci / 32, Co, 32]
static void transform_weights(const Plane& p, const float* weight, const float* scale, float* filters) {
#pragma omp parallel for collapse(2)
    for (int64_t k = 0; k < p.ci / 16; k++)
        for (int64_t o = 0; o < p.co; o++) {
            Lanes g[9];
            for (int64_t lane = 0; lane < 16; lane++)
                for (int j = 0; j < 9; j++) g[j][lane] = weight[(o * p.ci + k * 16 + lane) * 9 + 8 - j] * scale[o];
            transform_filter(g, filters + ((k / 2 * p.co + o) * 2 + k % 2) * 16, p.ci * p.co);
        }
}

void winograd_backward_data(const Plane& p, const float* dy, const float* weight, const float* scale, float* dx) {
    float* filters = scratch(Scratch::weights, p.weight_floats());
    transform_weights(p, weight, scale, filters);
    // Tasks of like size, as many for each thread.
    int64_t threads = omp_get_max_threads();
    int64_t tasks = (p.tiles() + most * threads - 1) / (most * threads) * threads;
    int64_t room = ((p.tiles() + tasks - 1) / tasks + rows - 1) / rows * rows;  // tiles of a task
    int64_t panel = 16 * room * p.co, size = panel + 16 * room * p.ci;
    tasks = (p.tiles() + room - 1) / room;
    float* arena = scratch(Scratch::threads, threads * size);
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < tasks; task++) {
        float *v = arena + omp_get_thread_num() * size, *m = v + panel;
        int64_t first = task * room, count = std::min(room, p.tiles() - first);
        transform_inputs(p, dy, p.co, first, count, room, v);
        for (int64_t e = 0; e < 16; e++)
            for (int64_t k = 0; k < p.ci / 32; k++)
                for (int64_t t = 0; t < room; t += rows)
                    multiply(v + e * room * p.co + t * 16, room, filters + (e * p.ci / 32 + k) * p.co * 32, p.co,
                             m + ((e * p.ci / 32 + k) * room + t) * 32);
        transform_outputs(p, m, first, count, room, dx);
    }
}

// sums[8, 32] += Σ over tiles of v[tile, channel] · z[tile, 32]
static void accumulate(const float* v, const float* left, const float* right, int64_t tiles, float* sums) {
    Lanes sum[8][2] = {};
    for (int64_t t = 0; t < tiles; t++) {
        Lanes a = B::at(left + t * 16), b = B::at(right + t * 16);
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) sum[r][0] += v[t * 16 + r] * a, sum[r][1] += v[t * 16 + r] * b;
    }
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) B::at(sums + r * 32) += sum[r][0], B::at(sums + r * 32 + 16) += sum[r][1];
}

// Gᵀ u G of 16 filters, [16, Co / 32, Ci, 32] → dweight [Co, Ci, 3, 3]
static void untransform_filters(const Plane& p, const float* sums, const float* scale, float* dweight) {
#pragma omp parallel for collapse(2)
    for (int64_t k = 0; k < p.co / 16; k++)
        for (int64_t c = 0; c < p.ci; c++) {
            const float* in = sums + ((k / 2 * p.ci + c) * 2 + k % 2) * 16;
            Lanes u[16], s[3][4], g[9];
            for (int e = 0; e < 16; e++) u[e] = B::at(in + e * p.ci * p.co);
            for (int j = 0; j < 4; j++) {
                s[0][j] = u[j] + 0.5f * (u[4 + j] + u[8 + j]);
                s[1][j] = 0.5f * (u[4 + j] - u[8 + j]);
                s[2][j] = 0.5f * (u[4 + j] + u[8 + j]) + u[12 + j];
            }
            for (int i = 0; i < 3; i++) {
                g[3 * i] = s[i][0] + 0.5f * (s[i][1] + s[i][2]);
                g[3 * i + 1] = 0.5f * (s[i][1] - s[i][2]);
                g[3 * i + 2] = 0.5f * (s[i][1] + s[i][2]) + s[i][3];
            }
            for (int64_t lane = 0; lane < 16; lane++) {
                int64_t o = k * 16 + lane;
                for (int j = 0; j < 9; j++) dweight[(o * p.ci + c) * 9 + j] = g[j][lane] * scale[o];
            }
        }
}

void winograd_backward_weights(const Plane& p, const float* x, const float* dy, const float* scale, float* dweight) {
    const int64_t room = 4 * run;  // tiles at a time: few enough to stay in the cache
    float* v = scratch(Scratch::gathered, 16 * room * (p.ci + p.co) + p.weight_floats());
    float *z = v + 16 * room * p.ci, *sums = z + 16 * room * p.co;
    std::memset(sums, 0, p.weight_floats() * sizeof(float));
    for (int64_t first = 0; first < p.tiles(); first += room) {
        int64_t count = std::min(room, p.tiles() - first), pieces = (count + 7) / 8;
#pragma omp parallel
        {
#pragma omp for
            for (int64_t piece = 0; piece < pieces; piece++) {
                int64_t t = piece * 8, n = std::min<int64_t>(8, count - t);
                transform_gradients(p, dy, first + t, n, room, z + t * 16);
                transform_inputs(p, x, p.ci, first + t, n, room, v + t * 16);
            }
#pragma omp for collapse(2)
            for (int64_t e = 0; e < 16; e++)
                for (int64_t k = 0; k < p.co / 32; k++)
                    for (int64_t t = 0; t < count; t += run)
                        for (int64_t c = 0; c < p.ci; c += 8) {
                            const float* left = z + ((e * p.co / 16 + 2 * k) * room + t) * 16;
                            accumulate(v + ((e * p.ci / 16 + c / 16) * room + t) * 16 + c % 16, left, left + room * 16,
                                       std::min(run, count - t), sums + ((e * p.co / 32 + k) * p.ci + c) * 32);
                        }
        }
    }
    untransform_filters(p, sums, scale, dweight);
}

}  // namespace detr
