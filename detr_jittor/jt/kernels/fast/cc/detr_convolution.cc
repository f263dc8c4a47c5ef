// Convolution + frozen batch norm + residual + ReLU, forward and backward, in the blocked layout.
//
// The norm's scale is folded into the weights while these are packed into oneDNN's layout: y = relu(conv(x, w·scale) +
// shift + residual). Packed weights are kept for layers whose weights do not change, and made anew in each step for
// others.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "detr_bfloat16.h"
#include "detr_onednn.h"
#include "detr_packed.h"
#include "detr_winograd.h"

namespace detr {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
static const auto f32 = dnnl::memory::data_type::f32;
static const auto bf16 = dnnl::memory::data_type::bf16, none = dnnl::memory::data_type::undef;
static const auto direct = dnnl::algorithm::convolution_direct;

static dnnl::memory::data_type operand() { return multiplies_bfloat16() ? bf16 : f32; }
static dnnl::memory::data_type type_of(const Tensor& t) { return t.bfloat16 ? bf16 : f32; }

// A frozen batch norm as scale and shift of each channel; without one, 1 and 0.
struct Norm {
    std::vector<float> scale, shift;

    // normed: whether the call has its weight, bias, mean and variance [C'] from input 2 on
    Norm(const Call& call, int64_t channels, bool normed) : scale(channels, 1.f), shift(channels) {
        if (!normed) return;
        const float *weight = call.in[2].f32(), *bias = call.in[3].f32(), *mean = call.in[4].f32();
        const float* variance = call.in[5].f32();
        for (int64_t c = 0; c < channels; c++) {
            double factor = weight[c] / std::sqrt(variance[c] + 1e-5);
            scale[c] = static_cast<float>(factor);
            shift[c] = static_cast<float>(bias[c] - mean[c] * factor);
        }
    }
};

struct Geometry {
    int64_t b, ci, h, w, co, k, stride, padding, dilation, ho, wo;

    Geometry(const Tensor& x, const Tensor& weight, int64_t stride, int64_t padding, int64_t dilation)
        : b(x.shape[0]), ci(x.shape[1]), h(x.shape[2]), w(x.shape[3]), co(weight.shape[0]), k(weight.shape[2]),
          stride(stride), padding(padding), dilation(dilation),
          ho((h + 2 * padding - dilation * (k - 1) - 1) / stride + 1),
          wo((w + 2 * padding - dilation * (k - 1) - 1) / stride + 1) {}

    Key key(std::initializer_list<int64_t> more) const {
        Key key{b, ci, h, w, co, k, stride, padding, dilation, multiplies_bfloat16()};
        key.insert(key.end(), more);
        return key;
    }
    using Type = dnnl::memory::data_type;
    Desc src(Type type) const { return Desc({b, ci, h, w}, type, ci % block() ? Tag::nchw : blocked()); }
    Desc dst(Type type) const { return Desc({b, co, ho, wo}, type, blocked()); }
    Desc shift() const { return Desc({1, co, 1, 1}, f32, Tag::nchw); }
    Desc plain_weights() const { return Desc({co, ci, k, k}, f32, Tag::oihw); }
    Desc any_weights(Type type) const { return Desc({co, ci, k, k}, type, Tag::any); }
    dnnl::memory::dims strides() const { return {stride, stride}; }
    dnnl::memory::dims dilates() const { return {dilation - 1, dilation - 1}; }
    dnnl::memory::dims pads() const { return {padding, padding}; }

    // oneDNN 2.6 has only reference code for some gradients of strided 1×1 convolutions (odd heights), so these read
    // every stride-th pixel first and go on with stride 1.
    bool skips_pixels() const { return k == 1 && stride > 1 && padding == 0; }
    Geometry without_skips() const {
        Geometry g = *this;
        if (skips_pixels()) g.h = ho, g.w = wo, g.stride = 1;
        return g;
    }
    // With dilation d the pixels whose places leave the same remainders, when divided by d, make up d² maps that have
    // nothing to do with each other. On each of them the convolution is an ordinary one. oneDNN 2.6 has only reference
    // code for the gradients of a dilated one where there is no AVX-512: so these take the maps for pictures of a batch.
    bool splits() const {
        return block() == 8 && dilation > 1 && stride == 1 && 2 * padding == dilation * (k - 1) && ci % block() == 0;
    }
    Geometry split() const {
        Geometry g = *this;
        g.b = b * dilation * dilation, g.padding = padding / dilation, g.dilation = 1;
        g.h = g.ho = (h + dilation - 1) / dilation, g.w = g.wo = (w + dilation - 1) / dilation;
        return g;
    }

    // And for the filters' gradient on maps that are lower than the filter (the last stage for a picture of 64 pixels),
    // with AVX-512 if it is dilated: it then takes seconds. So these get rows of zeros below.
    bool grows() const { return (block() == 8 || dilation > 1) && h < height(); }
    int64_t height() const { return dilation * (k - 1) + 1; }  // of the filter
    Geometry grown() const {
        Geometry g = *this;
        g.h = height(), g.ho = 2 * padding / stride + 1;
        return g;
    }

    // On small maps the filters' transformation costs more than the products that it saves. The batch does not decide:
    // a picture is to give the same numbers in any.
    bool winograd() const {
        return !multiplies_bfloat16() && k == 3 && stride <= 2 && dilation == 1 && padding == 1 &&
               has_winograd(ci, co) && plane().tiles() / b >= 32 * stride * stride;
    }
    Plane plane() const { return {b, h, w, stride}; }
};

static dnnl::convolution_forward::primitive_desc forward_desc(const Geometry& g, Geometry::Type out = f32,
                                                              const dnnl::primitive_attr& attributes = {}) {
    return {{dnnl::prop_kind::forward_training, direct, g.src(operand()), g.any_weights(operand()), g.dst(out),
             g.strides(), g.dilates(), g.pads(), g.pads()}, attributes, engine()};
}

// residual: none, or its type
static Primitive& forward(const Geometry& g, Geometry::Type out, Geometry::Type residual, bool relu) {
    return primitive(g.key({0, static_cast<int64_t>(out), static_cast<int64_t>(residual), relu}), [&] {
        auto attributes = user_scratchpad();
        dnnl::post_ops after;
        // Not as a bias: oneDNN begins the sum of products with it, and each rounding is then the larger.
        after.append_binary(dnnl::algorithm::binary_add, g.shift());
        if (residual != none) after.append_binary(dnnl::algorithm::binary_add, g.dst(residual));
        if (relu) after.append_eltwise(1.f, dnnl::algorithm::eltwise_relu, 0.f, 0.f);
        attributes.set_post_ops(after);
        auto d = forward_desc(g, out, attributes);
        tell_if_reference(d, "a convolution");
        return Primitive{dnnl::convolution_forward(d), g.src(operand()), d.weights_desc(), g.dst(out),
                         d.scratchpad_desc()};
    });
}

static Primitive& backward_data(const Geometry& g) {
    return primitive(g.key({1}), [&] {
        auto hint = forward_desc(g);
        dnnl::convolution_backward_data::primitive_desc d(
            {direct, g.src(f32), g.any_weights(operand()), g.dst(operand()), g.strides(), g.dilates(), g.pads(),
             g.pads()},
            user_scratchpad(), engine(), hint);
        tell_if_reference(d, "the gradient of a convolution's input");
        return Primitive{dnnl::convolution_backward_data(d), g.src(f32), d.weights_desc(),
                         g.dst(operand()), d.scratchpad_desc()};
    });
}

static Primitive& backward_weights(const Geometry& g) {
    return primitive(g.key({2}), [&] {
        auto hint = forward_desc(g);
        dnnl::convolution_backward_weights::primitive_desc d(
            {direct, g.src(operand()), g.any_weights(f32), g.dst(operand()), g.strides(), g.dilates(), g.pads(),
             g.pads()},
            user_scratchpad(), engine(), hint);
        tell_if_reference(d, "the gradient of a convolution's filters");
        return Primitive{dnnl::convolution_backward_weights(d), g.src(operand()), d.diff_weights_desc(),
                         g.dst(operand()), d.scratchpad_desc()};
    });
}

static const float* direct_weights(const Geometry& g, const Tensor& weight, const float* scale, const Desc& wanted,
                                   bool kept) {
    int64_t floats = (wanted.get_size() + 3) / 4;
    return packed(weight, layout(wanted), scale, g.co, floats, kept, Scratch::weights, [&](float* target) {
        rearrange(g.plain_weights(), weight.data, wanted, target, scale);
    });
}

// Every stride-th pixel of x [B, C, H, W] in blocked layout.
template <class Number>
static const Number* gather_pixels(const Geometry& g, const Number* x) {
    int64_t n = block(), planes = g.b * g.ci / n;
    auto* out = reinterpret_cast<Number*>(scratch(Scratch::gathered, planes * g.ho * g.wo * n));
#pragma omp parallel for collapse(2)
    for (int64_t p = 0; p < planes; p++)
        for (int64_t y = 0; y < g.ho; y++)
            for (int64_t i = 0; i < g.wo; i++)
                std::memcpy(out + ((p * g.ho + y) * g.wo + i) * n,
                            x + ((p * g.h + y * g.stride) * g.w + i * g.stride) * n, n * sizeof(Number));
    return out;
}

// The pixels of x that are multiplied, as an operand.
static const void* source(const Geometry& whole, const Tensor& x) {
    const void* found = nullptr;
    by_type(x, [&](auto* numbers) { found = whole.skips_pixels() ? gather_pixels(whole, numbers) : numbers; });
    const Geometry g = whole.without_skips();
    return x.bfloat16 ? found : as_operand(static_cast<const float*>(found), g.b * g.ci * g.h * g.w, Scratch::operand);
}

// The reverse: the other pixels become zero.
static void scatter_pixels(const Geometry& g, const float* pixels, float* x) {
    int64_t n = block(), planes = g.b * g.ci / n;
#pragma omp parallel for collapse(2)
    for (int64_t p = 0; p < planes; p++)
        for (int64_t y = 0; y < g.h; y++) {
            float* row = x + (p * g.h + y) * g.w * n;
            std::memset(row, 0, g.w * n * sizeof(float));
            if (y % g.stride) continue;
            for (int64_t i = 0; i < g.wo; i++)
                std::memcpy(row + i * g.stride * n, pixels + ((p * g.ho + y / g.stride) * g.wo + i) * n,
                            n * sizeof(float));
        }
}

// Calls f(p, y, x, q, v, u) for each pixel (y, x) of plane p of x [B, C, H, W], which is pixel (v, u) of plane q after
// `Geometry::split`; x is -1 where the split map has a pixel more, which is zero.
template <class Function>
static void for_split_pixels(const Geometry& g, int64_t channels, const Function& f) {
    int64_t d = g.dilation, blocks = channels / block(), h = (g.h + d - 1) / d, w = (g.w + d - 1) / d;
#pragma omp parallel for collapse(2)
    for (int64_t p = 0; p < g.b * blocks; p++)
        for (int64_t v = 0; v < h; v++)
            for (int64_t part = 0; part < d * d; part++) {
                int64_t y = v * d + part / d, q = ((p / blocks) * d * d + part) * blocks + p % blocks;
                for (int64_t u = 0; u < w; u++) {
                    int64_t x = u * d + part % d;
                    f(p, y, y < g.h && x < g.w ? x : -1, q, v, u);
                }
            }
}

static const float* split_map(const Geometry& g, int64_t channels, const float* x, Scratch purpose) {
    const Geometry parts = g.split();
    int64_t n = block();
    float* out = scratch(purpose, parts.b * channels * parts.h * parts.w);
    for_split_pixels(g, channels, [&](int64_t p, int64_t y, int64_t i, int64_t q, int64_t v, int64_t u) {
        float* target = out + ((q * parts.h + v) * parts.w + u) * n;
        if (i < 0) std::memset(target, 0, n * sizeof(float));
        else std::memcpy(target, x + ((p * g.h + y) * g.w + i) * n, n * sizeof(float));
    });
    return out;
}

// The reverse
static void join_map(const Geometry& g, int64_t channels, const float* split, float* x) {
    const Geometry parts = g.split();
    int64_t n = block();
    for_split_pixels(g, channels, [&](int64_t p, int64_t y, int64_t i, int64_t q, int64_t v, int64_t u) {
        if (i >= 0)
            std::memcpy(x + ((p * g.h + y) * g.w + i) * n, split + ((q * parts.h + v) * parts.w + u) * n,
                        n * sizeof(float));
    });
}

// An operand of so many planes of `numbers`, with zeros at the end of each.
static const void* with_zeros(const void* x, int64_t planes, int64_t numbers, int64_t wanted, Scratch purpose) {
    int64_t size = multiplies_bfloat16() ? 2 : 4, bytes = numbers * size;
    char* out = reinterpret_cast<char*>(scratch(purpose, planes * wanted));
    for (int64_t p = 0; p < planes; p++) {
        std::memcpy(out + p * wanted * size, static_cast<const char*>(x) + p * bytes, bytes);
        std::memset(out + p * wanted * size + bytes, 0, wanted * size - bytes);
    }
    return out;
}

// in: x, weight, [the norm's weight, bias, mean, variance], [residual]; out: y.
// numbers: stride, padding, dilation, relu, kept.
DETR_KERNEL(convolution) {
    const Tensor &x = call.in[0], &weight = call.in[1];
    Geometry whole(x, weight, call.integer(0), call.integer(1), call.integer(2)), g = whole.without_skips();
    const Norm norm(call, g.co, call.in.size() > 3);
    const float *scale = norm.scale.data(), *shift = norm.shift.data();
    const Tensor* residual = call.in.size() % 2 ? &call.in.back() : nullptr;
    if (g.winograd()) {
        auto transform = [&](float* target) {
            winograd_filters(g.stride, g.ci, g.co, weight.f32(), scale, target);
        };
        int64_t floats = winograd_filter_floats(g.stride, g.ci, g.co);
        const float* filters = packed(weight, {g.stride}, scale, g.co, floats, call.integer(4), Scratch::weights,
                                      transform);
        Finish finish{shift, residual ? residual->f32() : nullptr, call.integer(3) != 0};
        return winograd_convolve(g.plane(), g.ci, g.co, x.f32(), filters, finish, call.out[0].f32());
    }
    const Primitive& p = forward(g, type_of(call.out[0]), residual ? type_of(*residual) : none, call.integer(3));
    const float* w = direct_weights(g, weight, scale, p.weights, call.integer(4));
    const void* src = source(whole, x);
    auto after = [](int i) { return DNNL_ARG_ATTR_MULTIPLE_POST_OP(i) | DNNL_ARG_SRC_1; };
    if (residual)
        execute(p, {{DNNL_ARG_SRC, p.src, src}, {DNNL_ARG_WEIGHTS, p.weights, w}, {after(0), g.shift(), shift},
                    {after(1), g.dst(type_of(*residual)), residual->data}, {DNNL_ARG_DST, p.dst, call.out[0].data}});
    else
        execute(p, {{DNNL_ARG_SRC, p.src, src}, {DNNL_ARG_WEIGHTS, p.weights, w}, {after(0), g.shift(), shift},
                    {DNNL_ARG_DST, p.dst, call.out[0].data}});
}

// The weight's gradient from that of the output, an operand of products.
static void write_weight_gradient(const Geometry& whole, const Tensor& x, const void* dy, const float* scale,
                                  float* dweight) {
    Geometry g = whole.splits() ? whole.split() : whole.without_skips();
    const void* src;
    if (whole.splits()) {
        src = split_map(whole, g.ci, x.f32(), Scratch::gathered);
        dy = split_map(whole, g.co, static_cast<const float*>(dy), Scratch::gathered_gradient);
    } else {
        src = g.winograd() ? x.f32() : source(whole, x);
    }
    if (g.winograd())
        return winograd_backward_weights(g.plane(), g.ci, g.co, static_cast<const float*>(src),
                                         static_cast<const float*>(dy), scale, dweight);
    if (g.grows()) {
        const Geometry low = g;
        const int64_t n = block(), lanes = g.ci % n ? 1 : n;
        g = g.grown();
        src = with_zeros(src, g.b * g.ci / lanes, low.h * g.w * lanes, g.h * g.w * lanes, Scratch::grown);
        dy = with_zeros(dy, g.b * g.co / n, low.ho * g.wo * n, g.ho * g.wo * n, Scratch::grown_gradient);
    }
    const Primitive& p = backward_weights(g);
    float* packed_gradient = scratch(Scratch::weights, p.weights.get_size() / sizeof(float));
    execute(p, {{DNNL_ARG_SRC, p.src, src}, {DNNL_ARG_DIFF_DST, p.dst, dy},
                {DNNL_ARG_DIFF_WEIGHTS, p.weights, packed_gradient}});
    rearrange(p.weights, packed_gradient, g.plain_weights(), dweight, scale);
}

static void write_input_gradient(const Geometry& whole, const Tensor& weight, const float* scale, const void* dy,
                                 float* dx) {
    if (whole.splits()) {
        const Geometry parts = whole.split();
        dy = split_map(whole, whole.co, static_cast<const float*>(dy), Scratch::gathered_gradient);
        float* split = scratch(Scratch::gathered, parts.b * parts.ci * parts.h * parts.w);
        write_input_gradient(parts, weight, scale, dy, split);
        return join_map(whole, whole.ci, split, dx);
    }
    Geometry g = whole.without_skips();
    if (g.winograd()) {
        float* filters = scratch(Scratch::weights, winograd_filter_floats(g.stride, g.ci, g.co));
        winograd_turned_filters(g.stride, g.ci, g.co, weight.f32(), scale, filters);
        return winograd_backward_input(g.plane(), g.ci, g.co, static_cast<const float*>(dy), filters, dx);
    }
    const Primitive& p = backward_data(g);
    const float* w = direct_weights(g, weight, scale, p.weights, false);
    float* target = whole.skips_pixels() ? scratch(Scratch::gathered, p.src.get_size() / sizeof(float)) : dx;
    execute(p, {{DNNL_ARG_DIFF_DST, p.dst, dy}, {DNNL_ARG_WEIGHTS, p.weights, w},
                {DNNL_ARG_DIFF_SRC, p.src, target}});
    if (whole.skips_pixels()) scatter_pixels(whole, target, dx);
}

// in: x, weight, [the norm's four], dy, [y]: y where there is a ReLU; out: those wanted of dx, dweight, dresidual.
// numbers: stride, padding, dilation, wants dx, wants dweight, wants dresidual.
DETR_KERNEL(convolution_backward) {
    const Tensor &x = call.in[0], &weight = call.in[1];
    Geometry whole(x, weight, call.integer(0), call.integer(1), call.integer(2));
    const bool normed = call.in.size() > 4;
    const Tensor* gradients = &call.in[normed ? 6 : 2];  // dy, [y]
    const Norm norm(call, whole.co, normed);
    const float* scale = norm.scale.data();
    size_t next = 0;
    float* dx = call.integer(3) ? call.out[next++].f32() : nullptr;
    float* dweight = call.integer(4) ? call.out[next++].f32() : nullptr;
    const bool relu = call.in.size() % 2 == 0;
    float* dresidual = relu && call.integer(5) ? call.out[next].f32() : nullptr;
    const float* dy = gradients[0].f32();
    if (!dweight && !dx && !dresidual) return;
    const auto purpose = Scratch::operand_gradient;
    const void* gradient = relu ? masked_operand(dy, gradients[1], dresidual, purpose)
                                : as_operand(dy, gradients[0].size(), purpose);
    if (dweight) write_weight_gradient(whole, x, gradient, scale, dweight);
    if (dx) write_input_gradient(whole, weight, scale, gradient, dx);
}

// Make a layer's primitives without running them.
// in: x and weight, of which only the shapes count; out: how many primitives are at hand.
// numbers: stride, padding, dilation.
DETR_KERNEL(make_convolution) {
    Geometry g(call.in[0], call.in[1], call.integer(0), call.integer(1), call.integer(2));
    g = g.without_skips();
    if (!g.winograd())
        for (auto residual : {none, operand()}) forward(g, operand(), residual, true);
    if (g.splits()) g = g.split();
    if (!g.winograd()) {
        if (g.ci % block() == 0) backward_data(g);
        backward_weights(g.grows() ? g.grown() : g);
    }
    call.out[0].f32()[0] = static_cast<float>(primitive_count());
}

// out: how many primitives were made so far of oneDNN's reference code.
DETR_KERNEL(reference_primitives) { call.out[0].f32()[0] = static_cast<float>(reference_count()); }

DETR_KERNEL(to_blocked) {
    const auto& s = call.in[0].shape;
    rearrange(Desc({s[0], s[1], s[2], s[3]}, f32, Tag::nchw), call.in[0].data,
              Desc({s[0], s[1], s[2], s[3]}, f32, blocked()), call.out[0].data);
}

DETR_KERNEL(from_blocked) {
    const auto& s = call.in[0].shape;
    rearrange(Desc({s[0], s[1], s[2], s[3]}, type_of(call.in[0]), blocked()), call.in[0].data,
              Desc({s[0], s[1], s[2], s[3]}, f32, Tag::nchw), call.out[0].data);
}

}  // namespace detr
