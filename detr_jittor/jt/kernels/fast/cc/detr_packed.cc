#include "detr_packed.h"

#include <stdlib.h>  // aligned_alloc

#include <algorithm>
#include <memory>

namespace detr {

struct Packed {
    Key form;
    std::vector<float> scale;
    std::unique_ptr<float, void (*)(void*)> data{nullptr, std::free};
};

static Lru<Packed>& cache() {
    static Lru<Packed> cache(384);
    return cache;
}

void forget_packed(int64_t id) { cache().erase({id}); }

const float* packed(const Tensor& weight, const Key& form, const float* scale, int64_t scales, int64_t floats,
                    bool kept, Scratch purpose, const std::function<void(float*)>& pack) {
    if (!kept) {
        float* target = scratch(purpose, floats);
        pack(target);
        return target;
    }
    Packed* found = cache().find({weight.id});
    if (found && found->form == form && static_cast<int64_t>(found->scale.size()) == scales &&
        std::equal(scale, scale + scales, found->scale.begin()))
        return found->data.get();
    Packed made{form, {scale, scale + scales}};
    made.data.reset(static_cast<float*>(aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64)));
    if (!made.data) throw std::bad_alloc();
    pack(made.data.get());
    return cache().insert({weight.id}, std::move(made)).data.get();
}

}  // namespace detr
