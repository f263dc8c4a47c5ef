// A bounded map, and the lists of numbers by which shapes are told apart.
#pragma once
#include <cstdint>
#include <list>
#include <unordered_map>
#include <utility>
#include <vector>

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
    size_t size() const { return items.size(); }

private:
    size_t capacity;
    std::list<std::pair<Key, Value>> items;
    std::unordered_map<Key, typename std::list<std::pair<Key, Value>>::iterator, KeyHash> places;
};

}  // namespace detr
