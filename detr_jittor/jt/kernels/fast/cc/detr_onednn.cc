#include "detr_onednn.h"

#include <stdlib.h>  // aligned_alloc
#include <cstdio>
#include <initializer_list>

namespace detr {

std::map<std::string, Kernel>& kernel_table() {
    static std::map<std::string, Kernel> table;
    return table;
}

Registration::Registration(const char* name, Kernel kernel) { kernel_table()[name] = kernel; }

float* scratch(Scratch purpose, int64_t floats) {
    static struct { float* data; int64_t floats; } arenas[static_cast<int>(Scratch::count)];
    auto& arena = arenas[static_cast<int>(purpose)];
    if (floats > arena.floats) {
        std::free(arena.data);
        arena = {nullptr, 0};
        int64_t rounded = (floats + 0x3FFFF) / 0x40000 * 0x40000;  // whole MiB
        arena.data = static_cast<float*>(aligned_alloc(4096, rounded * sizeof(float)));
        if (!arena.data) throw std::bad_alloc();
        arena.floats = rounded;
    }
    return arena.data;
}

dnnl::engine& engine() {
    static dnnl::engine e(dnnl::engine::kind::cpu, 0);
    return e;
}

static dnnl::stream& stream() {
    static dnnl::stream s(engine());
    return s;
}

int64_t block() {
    static int64_t b = (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core ? 16 : 8;
    return b;
}

dnnl::memory::format_tag blocked() {
    return block() == 16 ? dnnl::memory::format_tag::aBcd16b : dnnl::memory::format_tag::aBcd8b;
}

dnnl::primitive_attr user_scratchpad() {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return attributes;
}

static Lru<Primitive>& primitives() {
    // R101 needs about 70 for one size of image. oneDNN's own cache is global and would keep a thousand more.
    static Lru<Primitive> cache((dnnl_set_primitive_cache_capacity(64), 512));
    return cache;
}

Primitive& primitive(const Key& key, const std::function<Primitive()>& make) {
    Primitive* found = primitives().find(key);
    return found ? *found : primitives().insert(key, make());
}

size_t primitive_count() { return primitives().size(); }

static int64_t references = 0;

void tell_reference(const char* what) {
    if (references++ == 0)
        std::fprintf(stderr, "detr-jittor: oneDNN has no quick code for %s of a shape in this model, and computes it "
                             "slowly.\n", what);
}

int64_t reference_count() { return references; }

void execute(const Primitive& p, std::initializer_list<Argument> arguments) {
    std::unordered_map<int, dnnl::memory> memories;
    for (const Argument& a : arguments)
        memories.emplace(a.name, dnnl::memory(a.desc, engine(), const_cast<void*>(a.data)));
    int64_t bytes = p.scratchpad.get_size();
    if (bytes)
        memories.emplace(DNNL_ARG_SCRATCHPAD,
                         dnnl::memory(p.scratchpad, engine(), scratch(Scratch::onednn, (bytes + 3) / 4)));
    p.primitive.execute(stream(), memories);
    stream().wait();
}

Key layout(const dnnl::memory::desc& d) {
    const auto& blocking = d.data.format_desc.blocking;
    Key key{d.data.ndims, d.data.data_type, blocking.inner_nblks};
    key.insert(key.end(), d.data.dims, d.data.dims + d.data.ndims);
    key.insert(key.end(), blocking.strides, blocking.strides + d.data.ndims);
    key.insert(key.end(), blocking.inner_blks, blocking.inner_blks + blocking.inner_nblks);
    key.insert(key.end(), blocking.inner_idxs, blocking.inner_idxs + blocking.inner_nblks);
    return key;
}

void rearrange(const dnnl::memory::desc& from, const void* source, const dnnl::memory::desc& to, void* target,
               const float* scale) {
    Key key{-1, scale != nullptr};
    for (const Key& part : {layout(from), layout(to)}) key.insert(key.end(), part.begin(), part.end());
    const Primitive& p = primitive(key, [&] {
        auto attributes = user_scratchpad();
        if (scale) attributes.set_output_scales(1 << 0, {DNNL_RUNTIME_F32_VAL});
        dnnl::reorder::primitive_desc d(engine(), from, engine(), to, attributes);
        return Primitive{dnnl::reorder(tell_if_reference(d, "a rearrangement")), from, {}, to, d.scratchpad_desc()};
    });
    dnnl::memory::desc scales({from.dims()[0]}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::a);
    if (scale)
        execute(p, {{DNNL_ARG_FROM, p.src, source}, {DNNL_ARG_TO, p.dst, target},
                    {DNNL_ARG_ATTR_OUTPUT_SCALES, scales, scale}});
    else
        execute(p, {{DNNL_ARG_FROM, p.src, source}, {DNNL_ARG_TO, p.dst, target}});
}

}  // namespace detr
