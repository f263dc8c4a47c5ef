// oneDNN: one engine, a bounded cache of primitives, and execution on plain pointers.
#pragma once
#include <functional>
#include <stdexcept>

#include <dnnl.hpp>

#include "detr_kernel.h"
#include "detr_lru.h"

namespace detr {

dnnl::engine& engine();

dnnl::memory::format_tag blocked();  // [B, C / block, H, W, block]

struct Primitive {
    dnnl::primitive primitive;
    dnnl::memory::desc src, weights, dst, scratchpad;
};

// The primitive of `key`, made by `make` if it is not at hand.
Primitive& primitive(const Key& key, const std::function<Primitive()>& make);

size_t primitive_count();

struct Argument {
    int name;  // DNNL_ARG_…
    const dnnl::memory::desc& desc;
    const void* data;
};

void execute(const Primitive& p, std::initializer_list<Argument> arguments);

// What tells two descriptors' kinds, dimensions and formats apart.
Key layout(const dnnl::memory::desc& d);

// `from` rearranged as `to`, output channel o (dimension 0) multiplied by scale[o] if there is a scale.
void rearrange(const dnnl::memory::desc& from, const void* source, const dnnl::memory::desc& to, void* target,
               const float* scale = nullptr);

dnnl::primitive_attr user_scratchpad();

// oneDNN's reference code is right, but a hundred times slower than its kernels: the first time it serves is told, and
// how many primitives are made of it is counted.
void tell_reference(const char* what);
int64_t reference_count();

template <class Descriptor>
const Descriptor& tell_if_reference(const Descriptor& d, const char* what) {
    if (std::string(d.impl_info_str()).find("ref") != std::string::npos) tell_reference(what);
    return d;
}

}  // namespace detr
