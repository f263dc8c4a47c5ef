// See detr_winograd.h. A tile is a 2×2 piece of the convolution's output with the piece of the input that it needs.
// Transformed tiles lie in panels [places, C / lanes, tiles, lanes]: place in the transformed tile, channels, tiles, channels
// of a block.
//
// Accuracy: sums over channels run over 32 products (those of the weights' gradient over 64 tiles) and are then added
// up, so that rounding errors are no larger than those of PyTorch's direct algorithm: see the alignment.
#include "detr_winograd.h"

#include <omp.h>

#include <cstring>

#include "detr_multiply.h"

namespace detr {

using B = Block<lanes>;
using Lanes = B::Lanes;

static const int64_t run = 64;

// The algorithms, along one axis: y = output(filter(g) · input(d)), with a product for each place; along two axes each
// transform is applied to all columns and then to all rows. A tile begins at `step` times its number + `first`.

// Stride 1: y_i = d_i g_0 + d_{i+1} g_1 + d_{i+2} g_2.
struct Unit {
    static const int taps = 4, places = 4, outputs = 2, step = 2, first = -1;

    static void input(const Lanes* d, Lanes* v) {
        v[0] = d[0] - d[2], v[1] = d[1] + d[2], v[2] = d[2] - d[1], v[3] = d[1] - d[3];
    }
    static void filter(const Lanes* g, Lanes* u) {
        u[0] = g[0], u[1] = 0.5f * (g[0] + g[1] + g[2]), u[2] = 0.5f * (g[0] - g[1] + g[2]), u[3] = g[2];
    }
    static void output(const Lanes* m, Lanes* y) { y[0] = m[0] + m[1] + m[2], y[1] = m[1] - m[2] - m[3]; }
    // Of the last two the gradients, which are the transposed transforms
    static void filter_gradient(const Lanes* u, Lanes* g) {
        g[0] = u[0] + 0.5f * (u[1] + u[2]), g[1] = 0.5f * (u[1] - u[2]), g[2] = 0.5f * (u[1] + u[2]) + u[3];
    }
    static void output_gradient(const Lanes* y, Lanes* m) {
        m[0] = y[0], m[1] = y[0] + y[1], m[2] = y[0] - y[1], m[3] = -y[1];
    }
};

// Stride 2: y_i = d_{2i} g_0 + d_{2i+1} g_1 + d_{2i+2} g_2. The outer taps take three products for two outputs, the
// inner one takes two.
struct Halving {
    static const int taps = 5, places = 5, outputs = 2, step = 4, first = -1;

    static void input(const Lanes* d, Lanes* v) {
        v[0] = d[0] - d[2], v[1] = d[2], v[2] = d[2] - d[4], v[3] = d[1], v[4] = d[3];
    }
    static void filter(const Lanes* g, Lanes* u) {
        u[0] = g[0], u[1] = g[0] + g[2], u[2] = g[2], u[3] = g[1], u[4] = g[1];
    }
    static void output(const Lanes* m, Lanes* y) { y[0] = m[0] + m[1] + m[3], y[1] = m[1] - m[2] + m[4]; }
    static void filter_gradient(const Lanes* u, Lanes* g) {
        g[0] = u[0] + u[1], g[1] = u[3] + u[4], g[2] = u[1] + u[2];
    }
    static void output_gradient(const Lanes* y, Lanes* m) {
        m[0] = y[0], m[1] = y[0] + y[1], m[2] = -y[1], m[3] = y[0], m[4] = y[1];
    }
};

// The gradient of the input with stride 2, for turned filters: d_{2i} = e_i g_1, d_{2i+1} = e_i g_0 + e_{i+1} g_2.
struct Doubling {
    static const int taps = 3, places = 5, outputs = 4, step = 2, first = 0;

    static void input(const Lanes* e, Lanes* v) {
        v[0] = e[0] - e[1], v[1] = e[1], v[2] = e[1] - e[2], v[3] = e[0], v[4] = e[1];
    }
    static void filter(const Lanes* g, Lanes* u) { Halving::filter(g, u); }
    static void output(const Lanes* m, Lanes* d) {
        d[0] = m[3], d[1] = m[0] + m[1], d[2] = m[4], d[3] = m[1] - m[2];
    }
};

bool has_winograd(int64_t inputs, int64_t outputs) {
    return block() == lanes && inputs % product_columns == 0 && outputs % product_columns == 0;
}

// From one place to the next: not a power of two, which would put all of them into the same few lines of the cache.
static int64_t distance(int64_t n, int64_t m) { return n * m + 48; }

int64_t winograd_filter_floats(int64_t stride, int64_t inputs, int64_t outputs) {
    return (stride == 1 ? 16 : 25) * distance(inputs, outputs);
}

struct Map {
    int64_t h, w;
};

struct Tile {
    int64_t image, y, x;
    Tile(const Plane& p, int64_t index)
        : image(index / (p.tiles_y() * p.tiles_x())), y(index / p.tiles_x() % p.tiles_y()), x(index % p.tiles_x()) {}
};

// `count` pixels of a column, zero beyond the map's edges
template <int count>
static inline void read_column(const Map& map, const float* plane, int64_t y, int64_t x, Lanes* d) {
    bool inside = x >= 0 && x < map.w;
#pragma GCC unroll 5
    for (int i = 0; i < count; i++) {
        const float* pixel = plane + ((y + i) * map.w + x) * lanes;
        d[i] = inside && y + i >= 0 && y + i < map.h ? B::at(pixel) : Lanes{};
        prefetch(pixel + 8 * lanes, lanes);
    }
}

// The transformed tiles of x [B, channels, H, W] from `first` on
template <class A>
static void transform_inputs(const Plane& p, const Map& map, const float* x, int64_t channels, int64_t first,
                             int64_t count, int64_t room, float* panel) {
    int64_t blocks = channels / lanes, next = distance(channels, room);
    for (int64_t k = 0; k < blocks; k++) {
        Lanes s[A::taps][A::places];  // columns
        for (int64_t t = 0; t < count; t++) {
            Tile tile(p, first + t);
            const float* plane = x + (tile.image * blocks + k) * map.h * map.w * lanes;
#pragma GCC unroll 5
            for (int j = 0; j < A::taps; j++) {
                if (j < A::taps - A::step && t && tile.x) {  // shared with the tile to the left
#pragma GCC unroll 5
                    for (int i = 0; i < A::places; i++) s[j][i] = s[j + A::step][i];
                    continue;
                }
                Lanes d[A::taps];
                read_column<A::taps>(map, plane, tile.y * A::step + A::first, tile.x * A::step + A::first + j, d);
                A::input(d, s[j]);
            }
            float* out = panel + (k * room + t) * lanes;
#pragma GCC unroll 5
            for (int i = 0; i < A::places; i++) {
                Lanes row[A::taps], v[A::places];
#pragma GCC unroll 5
                for (int j = 0; j < A::taps; j++) row[j] = s[j][i];
                A::input(row, v);
#pragma GCC unroll 5
                for (int j = 0; j < A::places; j++) B::at(out + (A::places * i + j) * next) = v[j];
            }
        }
    }
}

// The same of the output's gradient dy, for the gradient of the weight.
template <class A>
static void transform_gradients(const Plane& p, const float* dy, int64_t channels, int64_t first, int64_t count,
                                int64_t room, float* panel) {
    const Map map{p.ho(), p.wo()};
    int64_t blocks = channels / lanes, next = distance(channels, room);
    for (int64_t k = 0; k < blocks; k++)
        for (int64_t t = 0; t < count; t++) {
            Tile tile(p, first + t);
            const float* plane = dy + (tile.image * blocks + k) * map.h * map.w * lanes;
            Lanes s[2][A::places];
            for (int j = 0; j < 2; j++) {
                Lanes g[2];
                read_column<2>(map, plane, tile.y * 2, tile.x * 2 + j, g);
                A::output_gradient(g, s[j]);
            }
            float* out = panel + (k * room + t) * lanes;
#pragma GCC unroll 5
            for (int i = 0; i < A::places; i++) {
                Lanes row[2] = {s[0][i], s[1][i]}, v[A::places];
                A::output_gradient(row, v);
#pragma GCC unroll 5
                for (int j = 0; j < A::places; j++) B::at(out + (A::places * i + j) * next) = v[j];
            }
        }
}

// Products [places, channels / columns, tiles, columns] of the tiles from `first` on → y [B, channels, H, W]
template <class A>
static void transform_outputs(const Plane& p, const Map& map, const float* products, int64_t channels, int64_t first,
                              int64_t count, int64_t room, const Finish& finish, float* y) {
    int64_t blocks = channels / lanes, next = distance(channels, room);
    for (int64_t k = 0; k < blocks; k++) {
        Lanes shift = finish.shift ? B::at(finish.shift + k * lanes) : Lanes{};
        for (int64_t t = 0; t < count; t++) {
            Tile tile(p, first + t);
            const float* in = products + ((k / 2 * room + t) * 2 + k % 2) * lanes;
            Lanes s[A::places][A::outputs];
#pragma GCC unroll 5
            for (int j = 0; j < A::places; j++) {
                Lanes m[A::places];
#pragma GCC unroll 5
                for (int i = 0; i < A::places; i++) m[i] = B::at(in + (A::places * i + j) * next);
                A::output(m, s[j]);
            }
            int64_t top = tile.y * A::outputs, left = tile.x * A::outputs;
#pragma GCC unroll 4
            for (int i = 0; i < A::outputs; i++) {
                Lanes row[A::places], out[A::outputs];
#pragma GCC unroll 5
                for (int j = 0; j < A::places; j++) row[j] = s[j][i];
                A::output(row, out);
                if (top + i >= map.h) break;
                int64_t place = (((tile.image * blocks + k) * map.h + top + i) * map.w + left) * lanes;
                for (int64_t j = 0; j < A::outputs && left + j < map.w; j++) {
                    Lanes v = out[j] + shift;
                    if (finish.residual) v += B::at(finish.residual + place + j * lanes);
                    if (finish.relu) v = v < 0 ? Lanes{} : v;  // a NaN stays
                    B::at(y + place + j * lanes) = v;
                }
            }
        }
    }
}

// As many filters at once as there are lanes
template <class A>
static void transform_filter(const Lanes g[9], float* out, int64_t next) {
    Lanes s[3][A::places];
    for (int j = 0; j < 3; j++) {
        Lanes column[3] = {g[j], g[3 + j], g[6 + j]};
        A::filter(column, s[j]);
    }
    for (int i = 0; i < A::places; i++) {
        Lanes row[3] = {s[0][i], s[1][i], s[2][i]}, u[A::places];
        A::filter(row, u);
        for (int j = 0; j < A::places; j++) B::at(out + (A::places * i + j) * next) = u[j];
    }
}

// Transformed filters lie as [places, outputs / columns, inputs, columns].
template <class A>
static void transform_filters(int64_t ci, int64_t co, const float* weight, const float* scale, float* filters) {
#pragma omp parallel for
    for (int64_t k = 0; k < co / lanes; k++)
        for (int64_t c = 0; c < ci; c++) {
            Lanes g[9];
            for (int64_t lane = 0; lane < lanes; lane++) {
                int64_t o = k * lanes + lane;
                for (int j = 0; j < 9; j++) g[j][lane] = weight[(o * ci + c) * 9 + j] * scale[o];
            }
            transform_filter<A>(g, filters + ((k / 2 * ci + c) * 2 + k % 2) * lanes, distance(ci, co));
        }
}

// The same from Co to Ci channels, with the filters turned by 180°
template <class A>
static void transform_turned(int64_t ci, int64_t co, const float* weight, const float* scale, float* filters) {
#pragma omp parallel for
    for (int64_t k = 0; k < ci / lanes; k++)
        for (int64_t o = 0; o < co; o++) {
            Lanes g[9];
            for (int64_t lane = 0; lane < lanes; lane++)
                for (int j = 0; j < 9; j++) g[j][lane] = weight[(o * ci + k * lanes + lane) * 9 + 8 - j] * scale[o];
            transform_filter<A>(g, filters + ((k / 2 * co + o) * 2 + k % 2) * lanes, distance(ci, co));
        }
}

// x [B, inputs, H, W] of the size `from` → y [B, outputs, H', W'] of the size `to`
template <class A>
static void convolve(const Plane& p, const Map& from, const Map& to, int64_t inputs, int64_t outputs, const float* x,
                     const float* filters, const Finish& finish, float* y) {
    const int64_t places = A::places * A::places, threads = omp_get_max_threads();
    int64_t room = rows_of_task(p.tiles(), threads), tasks = (p.tiles() + room - 1) / room;
    int64_t panel = places * distance(inputs, room), size = panel + places * distance(outputs, room);
    float* arena = scratch(Scratch::threads, threads * size);
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < tasks; task++) {
        float *v = arena + omp_get_thread_num() * size, *m = v + panel;
        int64_t first = task * room, count = std::min(room, p.tiles() - first);
        transform_inputs<A>(p, from, x, inputs, first, count, room, v);
        for (int64_t e = 0; e < places; e++)
            for (int64_t k = 0; k < outputs / product_columns; k++)
                multiply(v + e * distance(inputs, room), room,
                         filters + e * distance(inputs, outputs) + k * inputs * product_columns, inputs, 32,
                         m + e * distance(outputs, room) + k * room * product_columns);
        transform_outputs<A>(p, to, m, outputs, first, count, room, finish, y);
    }
}

// Sums [places, Co / columns, Ci, columns] → dweight [Co, Ci, 3, 3]
template <class A>
static void untransform_filters(int64_t ci, int64_t co, const float* sums, const float* scale, float* dweight) {
    int64_t next = distance(ci, co);
#pragma omp parallel for
    for (int64_t k = 0; k < co / lanes; k++) {
        const Lanes factor = B::at(scale + k * lanes);
        float found[lanes][9][lanes];
        for (int64_t c = 0; c < ci; c++) {
            const float* in = sums + ((k / 2 * ci + c) * 2 + k % 2) * lanes;
            Lanes s[A::places][3];
            for (int j = 0; j < A::places; j++) {
                Lanes u[A::places];
                for (int i = 0; i < A::places; i++) u[i] = B::at(in + (A::places * i + j) * next);
                A::filter_gradient(u, s[j]);
            }
            for (int i = 0; i < 3; i++) {
                Lanes row[A::places], g[3];
                for (int j = 0; j < A::places; j++) row[j] = s[j][i];
                A::filter_gradient(row, g);
                for (int j = 0; j < 3; j++) B::at(found[c % lanes][3 * i + j]) = g[j] * factor;
            }
            if (c % lanes < lanes - 1) continue;
            for (int64_t lane = 0; lane < lanes; lane++)  // as many filters of an output channel at a time
                for (int64_t i = 0; i < lanes; i++)
                    for (int j = 0; j < 9; j++)
                        dweight[((k * lanes + lane) * ci + c - lanes + 1 + i) * 9 + j] = found[i][j][lane];
        }
    }
}

template <class A>
static void backward_weights(const Plane& p, int64_t ci, int64_t co, const float* x, const float* dy,
                             const float* scale, float* dweight) {
    const int64_t places = A::places * A::places;
    // Tiles at a time: few enough for their panels to stay in the cache.
    const int64_t room = std::max(run, (1 << 15) / (ci + co) / run * run);
    int64_t next = distance(ci, co);
    float* v = scratch(Scratch::gathered, places * (distance(ci, room) + distance(co, room) + next));
    float *z = v + places * distance(ci, room), *sums = z + places * distance(co, room);
    for (int64_t first = 0; first < p.tiles(); first += room) {
        int64_t count = std::min(room, p.tiles() - first), pieces = (count + 7) / 8;
#pragma omp parallel
        {
#pragma omp for
            for (int64_t piece = 0; piece < pieces; piece++) {
                int64_t t = piece * 8, n = std::min<int64_t>(8, count - t);
                transform_gradients<A>(p, dy, co, first + t, n, room, z + t * lanes);
                transform_inputs<A>(p, {p.h, p.w}, x, ci, first + t, n, room, v + t * lanes);
            }
#pragma omp for collapse(2)
            for (int64_t e = 0; e < places; e++)
                for (int64_t k = 0; k < co / product_columns; k++)
                    for (int64_t t = 0; t < count; t += run)
                        accumulate(v + e * distance(ci, room) + t * lanes, room, ci,
                                   z + e * distance(co, room) + (2 * k * room + t) * lanes, std::min(run, count - t),
                                   first + t == 0, sums + e * next + k * ci * product_columns);
        }
    }
    untransform_filters<A>(ci, co, sums, scale, dweight);
}

void winograd_filters(int64_t stride, int64_t ci, int64_t co, const float* weight, const float* scale, float* filters) {
    (stride == 1 ? transform_filters<Unit> : transform_filters<Halving>)(ci, co, weight, scale, filters);
}

void winograd_turned_filters(int64_t stride, int64_t ci, int64_t co, const float* weight, const float* scale,
                             float* filters) {
    (stride == 1 ? transform_turned<Unit> : transform_turned<Doubling>)(ci, co, weight, scale, filters);
}

void winograd_convolve(const Plane& p, int64_t ci, int64_t co, const float* x, const float* filters,
                       const Finish& finish, float* y) {
    const Map from{p.h, p.w}, to{p.ho(), p.wo()};
    (p.stride == 1 ? convolve<Unit> : convolve<Halving>)(p, from, to, ci, co, x, filters, finish, y);
}

void winograd_backward_input(const Plane& p, int64_t ci, int64_t co, const float* dy, const float* filters, float* dx) {
    const Map from{p.ho(), p.wo()}, to{p.h, p.w};
    const Finish nothing{nullptr, nullptr, false};
    (p.stride == 1 ? convolve<Unit> : convolve<Doubling>)(p, from, to, co, ci, dy, filters, nothing, dx);
}

void winograd_backward_weights(const Plane& p, int64_t ci, int64_t co, const float* x, const float* dy,
                               const float* scale, float* dweight) {
    (p.stride == 1 ? backward_weights<Unit> : backward_weights<Halving>)(p, ci, co, x, dy, scale, dweight);
}

}  // namespace detr
