// 3×3 convolutions with stride 1 by minimal filtering F(2×2, 3×3) (arXiv 1509.09308, section 4.1): 16 products for 2×2
// outputs where the direct way takes 36.
#pragma once
#include <algorithm>
#include <cstdint>

namespace detr {

// A picture's height and width are the same before and after: the padding is 1.
struct Plane {
    int64_t b, h, w;

    int64_t tiles_x() const { return (w + 1) / 2; }
    int64_t tiles_y() const { return (h + 1) / 2; }
    int64_t tiles() const { return b * tiles_y() * tiles_x(); }
};

bool has_winograd(int64_t inputs, int64_t outputs);

// How many floats the transformed filters take.
int64_t winograd_filter_floats(int64_t inputs, int64_t outputs);

// The filters of weight [Co, Ci, 3, 3], times scale[co], transformed for `winograd_convolve`.
void winograd_filters(int64_t ci, int64_t co, const float* weight, const float* scale, float* filters);

// The same for the gradient of the input, which is a convolution from Co to Ci channels with the filters turned by 180°.
void winograd_turned_filters(int64_t ci, int64_t co, const float* weight, const float* scale, float* filters);

// What follows the sum of products: y = relu(sum + shift[channel] + residual), each where it is asked for.
struct Finish {
    const float *shift, *residual;
    bool relu;
};

// x [B, inputs, H, W] → y [B, outputs, H, W], both in blocked layout.
void winograd_convolve(const Plane& p, int64_t inputs, int64_t outputs, const float* x, const float* filters,
                       const Finish& finish, float* y);

// The gradient of the weight [Co, Ci, 3, 3] for the output gradient dy, times scale[co].
void winograd_backward_weights(const Plane& p, int64_t ci, int64_t co, const float* x, const float* dy,
                               const float* scale, float* dweight);

}  // namespace detr
