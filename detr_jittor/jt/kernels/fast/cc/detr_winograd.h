// 3×3 convolutions by minimal filtering (arXiv 1509.09308, section 4.1): with stride 1 by F(2×2, 3×3), 16 products for
// 2×2 outputs where the direct way takes 36; with stride 2 by F(2, 2) on every other pixel, 25 products.
#pragma once
#include <algorithm>
#include <cstdint>

namespace detr {

// A convolution's input, of height h and width w. The padding is 1, the stride 1 or 2.
struct Plane {
    int64_t b, h, w, stride;

    int64_t ho() const { return (h - 1) / stride + 1; }
    int64_t wo() const { return (w - 1) / stride + 1; }
    int64_t tiles_x() const { return (wo() + 1) / 2; }
    int64_t tiles_y() const { return (ho() + 1) / 2; }
    int64_t tiles() const { return b * tiles_y() * tiles_x(); }
};

bool has_winograd(int64_t inputs, int64_t outputs);

// How many floats the transformed filters take.
int64_t winograd_filter_floats(int64_t stride, int64_t inputs, int64_t outputs);

// The filters of weight [Co, Ci, 3, 3], times scale[co], transformed for `winograd_convolve`.
void winograd_filters(int64_t stride, int64_t ci, int64_t co, const float* weight, const float* scale, float* filters);

// The same for `winograd_backward_input`.
void winograd_turned_filters(int64_t stride, int64_t ci, int64_t co, const float* weight, const float* scale,
                             float* filters);

// What follows the sum of products: y = relu(sum + shift[channel] + residual), each where it is asked for.
struct Finish {
    const float *shift, *residual;
    bool relu;
};

// x [B, Ci, H, W] → y [B, Co, H', W'], both in blocked layout.
void winograd_convolve(const Plane& p, int64_t ci, int64_t co, const float* x, const float* filters,
                       const Finish& finish, float* y);

// The gradient of the input, dx [B, Ci, H, W], for the output gradient dy.
void winograd_backward_input(const Plane& p, int64_t ci, int64_t co, const float* dy, const float* filters, float* dx);

// The gradient of the weight [Co, Ci, 3, 3] for the output gradient dy, times scale[co].
void winograd_backward_weights(const Plane& p, int64_t ci, int64_t co, const float* x, const float* dy,
                               const float* scale, float* dweight);

}  // namespace detr
