// oneDNN: one engine, a bounded cache of primitives, and execution on plain pointers.
#pragma once
#include <functional>
#include <list>
#include <stdexcept>
#include <unordered_map>
#include <utility>
#include <vector>

#include <dnnl.hpp>

#include "detr_kernel.h"

namespace detr {

using Key = std::vector<int64_t>;

struct KeyHash {
    size_t operator()(const Key& key) const {
        size_t h = 1469598103934665603u;  // FNV-1a
        for (int64_t k : key) h = (h ^ static_cast<size_t>(k)) * 1099511628211u;
        return h;
    }
};

// A map that forgets what was not used for longest.
template <class Value>
class Lru {
public:
    explicit Lru(size_t capacity) : capacity(capacity) {}

    Value* find(const Key& key) {
        auto found = places.find(key);
        if (found == places.end()) return nullptr;
        items.splice(items.begin(), items, found->second);
        return &items.front().second;
    }
    Value& insert(const Key& key, Value value) {
        erase(key);
        if (items.size() >= capacity) erase(Key(items.back().first));
        items.emplace_front(key, std::move(value));
        places[key] = items.begin();
        return items.front().second;
    }
    void erase(const Key& key) {
        auto found = places.find(key);
        if (found == places.end()) return;
        items.erase(found->second);
        places.erase(found);
    }
    void clear() { items.clear(), places.clear(); }
    size_t size() const { return items.size(); }

private:
    size_t capacity;
    std::list<std::pair<Key, Value>> items;
    std::unordered_map<Key, typename std::list<std::pair<Key, Value>>::iterator, KeyHash> places;
};

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

// `from` rearranged as `to`, output channel o (dimension 0) multiplied by scale[o] if there is a scale.
void rearrange(const dnnl::memory::desc& from, const void* source, const dnnl::memory::desc& to, void* target,
               const float* scale = nullptr);

dnnl::primitive_attr user_scratchpad();

// oneDNN's reference code is a hundred times slower than its kernels: rather fail than run it.
template <class Descriptor>
const Descriptor& not_reference(const Descriptor& d) {
    if (std::string(d.impl_info_str()).find("ref") != std::string::npos)
        throw std::runtime_error("oneDNN has only its reference code for this shape");
    return d;
}

}  // namespace detr
