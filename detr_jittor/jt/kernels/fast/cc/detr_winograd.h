// Gradients of 3×3 convolutions with stride 1 by minimal filtering F(2×2, 3×3) (arXiv 1509.09308, section 4.1):
// 16 products for 2×2 outputs where the direct way takes 36.
#pragma once
#include <cstdint>

namespace detr {

struct Plane {
    int64_t b, ci, co, h, w;  // padding 1: as high and wide before as after

    int64_t tiles_x() const { return (w + 1) / 2; }
    int64_t tiles_y() const { return (h + 1) / 2; }
    int64_t tiles() const { return b * tiles_y() * tiles_x(); }
    int64_t weight_floats() const { return 16 * ci * co; }
};

bool has_winograd(int64_t ci, int64_t co);

// The gradient of x for the output gradient dy, in blocked layout; weight [Co, Ci, 3, 3], times scale[co].
void winograd_backward_data(const Plane& p, const float* dy, const float* weight, const float* scale, float* dx);

// The gradient of `weight` [Co, Ci, 3, 3] for the output gradient dy, times scale[co].
void winograd_backward_weights(const Plane& p, const float* x, const float* dy, const float* scale, float* dweight);

}  // namespace detr
