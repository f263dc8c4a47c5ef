// See detr_winograd.h. A tile is a 2×2 piece of the output with the 4×4 piece of the input that it needs; transformed
// tiles lie in panels [16, C / 16, tiles, 16]: place in the 4×4 tile, channels, tiles, channels of a block.
//
// Accuracy: sums over channels run over 16 or 32 products (those of the weights' gradient over 64 tiles) and are then
// added up, so that rounding errors are like those of PyTorch's direct algorithm: for 64 to 512 channels those of y are
// .97 to 1.15 times as large, of dx .8 to 1.0, of dweight .2 to .6.
#include "detr_winograd.h"

#include <omp.h>

#include <cstring>

#include "detr_multiply.h"

namespace detr {

using B = Block<16>;
using Lanes = B::Lanes;

static const int64_t run = 64;

bool has_winograd(int64_t inputs, int64_t outputs) {
    return lanes == 16 && block() == 16 && inputs % 32 == 0 && outputs % 32 == 0;
}

// From one place in the 4×4 tile to the next: not a power of two, which would put all sixteen into the same few lines of
// the cache.
static int64_t step(int64_t n, int64_t m) { return n * m + 48; }

int64_t winograd_filter_floats(int64_t inputs, int64_t outputs) { return 16 * step(inputs, outputs); }

struct Tile {
    int64_t image, y, x;
    Tile(const Plane& p, int64_t index)
        : image(index / (p.tiles_y() * p.tiles_x())), y(index / p.tiles_x() % p.tiles_y() * 2),
          x(index % p.tiles_x() * 2) {}
};

// Column `column` of the tile's four rows, times Bᵀ.
static inline void transform_column(const Plane& p, const float* plane, const Tile& tile, int64_t column, Lanes s[4]) {
    Lanes d[4];
    bool inside = column >= 0 && column < p.w;
    for (int64_t i = 0; i < 4; i++) {
        int64_t row = tile.y - 1 + i;
        const float* pixel = plane + (row * p.w + column) * 16;
        d[i] = inside && row >= 0 && row < p.h ? B::at(pixel) : Lanes{};
        prefetch(pixel + 8 * 16, 16);
    }
    s[0] = d[0] - d[2], s[1] = d[1] + d[2], s[2] = d[2] - d[1], s[3] = d[1] - d[3];
}

// Bᵀ d B of the tiles of x [B, channels, H, W] from `first` on
static void transform_inputs(const Plane& p, const float* x, int64_t channels, int64_t first, int64_t count,
                             int64_t room, float* panel) {
    int64_t blocks = channels / 16, next = step(channels, room);
    for (int64_t k = 0; k < blocks; k++) {
        Lanes s[4][4];  // columns
        for (int64_t t = 0; t < count; t++) {
            Tile tile(p, first + t);
            const float* plane = x + (tile.image * blocks + k) * p.h * p.w * 16;
            for (int64_t j = 0; j < 2; j++) {  // shared with the tile to the left
                if (t && tile.x) {
                    for (int i = 0; i < 4; i++) s[j][i] = s[j + 2][i];
                } else {
                    transform_column(p, plane, tile, tile.x - 1 + j, s[j]);
                }
            }
            for (int64_t j = 2; j < 4; j++) transform_column(p, plane, tile, tile.x - 1 + j, s[j]);
            float* out = panel + (k * room + t) * 16;
            for (int i = 0; i < 4; i++) {
                B::at(out + (4 * i + 0) * next) = s[0][i] - s[2][i];
                B::at(out + (4 * i + 1) * next) = s[1][i] + s[2][i];
                B::at(out + (4 * i + 2) * next) = s[2][i] - s[1][i];
                B::at(out + (4 * i + 3) * next) = s[1][i] - s[3][i];
            }
        }
    }
}

// A dy Aᵀ of the output gradient's tiles from `first` on.
static void transform_gradients(const Plane& p, const float* dy, int64_t channels, int64_t first, int64_t count,
                                int64_t room, float* panel) {
    int64_t blocks = channels / 16, next = step(channels, room);
    for (int64_t k = 0; k < blocks; k++)
        for (int64_t t = 0; t < count; t++) {
            Tile tile(p, first + t);
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
                B::at(out + (4 * i + 0) * next) = s[i][0], B::at(out + (4 * i + 1) * next) = s[i][0] + s[i][1];
                B::at(out + (4 * i + 2) * next) = s[i][0] - s[i][1], B::at(out + (4 * i + 3) * next) = -s[i][1];
            }
        }
}

// Aᵀ m A: products [16, channels / 32, tiles, 32] of the tiles from `first` on → y
static void transform_outputs(const Plane& p, const float* products, int64_t channels, int64_t first, int64_t count,
                              int64_t room, const Finish& finish, float* y) {
    int64_t blocks = channels / 16, next = step(channels, room);
    for (int64_t k = 0; k < blocks; k++) {
        Lanes shift = finish.shift ? B::at(finish.shift + k * 16) : Lanes{};
        for (int64_t t = 0; t < count; t++) {
            Tile tile(p, first + t);
            const float* in = products + ((k / 2 * room + t) * 2 + k % 2) * 16;
            Lanes m[16], s[2][4];
            for (int e = 0; e < 16; e++) m[e] = B::at(in + e * next);
            for (int j = 0; j < 4; j++)
                s[0][j] = m[j] + m[4 + j] + m[8 + j], s[1][j] = m[4 + j] - m[8 + j] - m[12 + j];
            for (int64_t i = 0; i < 2 && tile.y + i < p.h; i++) {
                Lanes out[2] = {s[i][0] + s[i][1] + s[i][2], s[i][1] - s[i][2] - s[i][3]};
                int64_t place = (((tile.image * blocks + k) * p.h + tile.y + i) * p.w + tile.x) * 16;
                for (int64_t j = 0; j < 2 && tile.x + j < p.w; j++) {
                    Lanes v = out[j] + shift;
                    if (finish.residual) v += B::at(finish.residual + place + j * 16);
                    if (finish.relu) v = v > 0 ? v : Lanes{};
                    B::at(y + place + j * 16) = v;
                }
            }
        }
    }
}

// G g Gᵀ of 16 filters at once
static void transform_filter(const Lanes g[9], float* out, int64_t next) {
    Lanes s[4][3];
    for (int j = 0; j < 3; j++) {
        s[0][j] = g[j], s[3][j] = g[6 + j];
        s[1][j] = 0.5f * (g[j] + g[3 + j] + g[6 + j]), s[2][j] = 0.5f * (g[j] - g[3 + j] + g[6 + j]);
    }
    for (int i = 0; i < 4; i++) {
        B::at(out + (4 * i + 0) * next) = s[i][0], B::at(out + (4 * i + 3) * next) = s[i][2];
        B::at(out + (4 * i + 1) * next) = 0.5f * (s[i][0] + s[i][1] + s[i][2]);
        B::at(out + (4 * i + 2) * next) = 0.5f * (s[i][0] - s[i][1] + s[i][2]);
    }
}

// Transformed filters lie as [16, outputs / 32, inputs, 32].
void winograd_filters(int64_t ci, int64_t co, const float* weight, const float* scale, float* filters) {
#pragma omp parallel for
    for (int64_t k = 0; k < co / 16; k++)
        for (int64_t c = 0; c < ci; c++) {
            Lanes g[9];
            for (int64_t lane = 0; lane < 16; lane++) {
                int64_t o = k * 16 + lane;
                for (int j = 0; j < 9; j++) g[j][lane] = weight[(o * ci + c) * 9 + j] * scale[o];
            }
            transform_filter(g, filters + ((k / 2 * ci + c) * 2 + k % 2) * 16, step(ci, co));
        }
}

void winograd_turned_filters(int64_t ci, int64_t co, const float* weight, const float* scale, float* filters) {
#pragma omp parallel for
    for (int64_t k = 0; k < ci / 16; k++)
        for (int64_t o = 0; o < co; o++) {
            Lanes g[9];
            for (int64_t lane = 0; lane < 16; lane++)
                for (int j = 0; j < 9; j++) g[j][lane] = weight[(o * ci + k * 16 + lane) * 9 + 8 - j] * scale[o];
            transform_filter(g, filters + ((k / 2 * co + o) * 2 + k % 2) * 16, step(ci, co));
        }
}

void winograd_convolve(const Plane& p, int64_t inputs, int64_t outputs, const float* x, const float* filters,
                       const Finish& finish, float* y) {
    int64_t threads = omp_get_max_threads(), room = rows_of_task(p.tiles(), threads);
    int64_t panel = 16 * step(inputs, room), size = panel + 16 * step(outputs, room);
    int64_t tasks = (p.tiles() + room - 1) / room, part = 32;
    float* arena = scratch(Scratch::threads, threads * size);
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < tasks; task++) {
        float *v = arena + omp_get_thread_num() * size, *m = v + panel;
        int64_t first = task * room, count = std::min(room, p.tiles() - first);
        transform_inputs(p, x, inputs, first, count, room, v);
        for (int64_t e = 0; e < 16; e++)
            for (int64_t k = 0; k < outputs / 32; k++)
                multiply(v + e * step(inputs, room), room, filters + e * step(inputs, outputs) + k * inputs * 32,
                         inputs, part, m + e * step(outputs, room) + k * room * 32);
        transform_outputs(p, m, outputs, first, count, room, finish, y);
    }
}

// Gᵀ u G of 16 filters, [16, Co / 32, Ci, 32] → dweight [Co, Ci, 3, 3]
static void untransform_filters(int64_t ci, int64_t co, const float* sums, const float* scale, float* dweight) {
    int64_t next = step(ci, co);
#pragma omp parallel for
    for (int64_t k = 0; k < co / 16; k++) {
        const Lanes factor = B::at(scale + k * 16);
        float found[16][9][16];
        for (int64_t c = 0; c < ci; c++) {
            const float* in = sums + ((k / 2 * ci + c) * 2 + k % 2) * 16;
            Lanes u[16], s[3][4], g[9];
            for (int e = 0; e < 16; e++) u[e] = B::at(in + e * next);
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
            for (int j = 0; j < 9; j++) B::at(found[c % 16][j]) = g[j] * factor;
            if (c % 16 < 15) continue;
            for (int64_t lane = 0; lane < 16; lane++)  // sixteen filters of an output channel at a time
                for (int64_t i = 0; i < 16; i++)
                    for (int j = 0; j < 9; j++)
                        dweight[((k * 16 + lane) * ci + c - 15 + i) * 9 + j] = found[i][j][lane];
        }
    }
}

void winograd_backward_weights(const Plane& p, int64_t ci, int64_t co, const float* x, const float* dy,
                               const float* scale, float* dweight) {
    // Tiles at a time: few enough for their panels to stay in the cache.
    const int64_t room = std::max(run, (1 << 15) / (ci + co) / run * run);
    int64_t floats = winograd_filter_floats(ci, co), next = step(ci, co);
    float* v = scratch(Scratch::gathered, 16 * (step(ci, room) + step(co, room)) + floats);
    float *z = v + 16 * step(ci, room), *sums = z + 16 * step(co, room);
    for (int64_t first = 0; first < p.tiles(); first += room) {
        int64_t count = std::min(room, p.tiles() - first), pieces = (count + 7) / 8;
#pragma omp parallel
        {
#pragma omp for
            for (int64_t piece = 0; piece < pieces; piece++) {
                int64_t t = piece * 8, n = std::min<int64_t>(8, count - t);
                transform_gradients(p, dy, co, first + t, n, room, z + t * 16);
                transform_inputs(p, x, ci, first + t, n, room, v + t * 16);
            }
#pragma omp for collapse(2)
            for (int64_t e = 0; e < 16; e++)
                for (int64_t k = 0; k < co / 32; k++)
                    for (int64_t t = 0; t < count; t += run)
                        accumulate(v + e * step(ci, room) + t * 16, room, ci,
                                   z + e * step(co, room) + (2 * k * room + t) * 16, std::min(run, count - t),
                                   first + t == 0, sums + e * next + k * ci * 32);
        }
    }
    untransform_filters(ci, co, sums, scale, dweight);
}

}  // namespace detr
