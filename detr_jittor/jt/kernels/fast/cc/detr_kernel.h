// What a kernel is handed, the table in which Jittor's operator finds it by name, and memory that kernels share.
#pragma once
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace detr {

struct Tensor {
    void* data;
    int64_t id;  // of the Jittor Var: never used again for another
    std::vector<int64_t> shape;
    bool bfloat16;  // else float32, or bool of a mask

    float* f32() const {
        if (bfloat16) throw std::runtime_error("a kernel takes float32 and was handed bfloat16");
        return static_cast<float*>(data);
    }
    const bool* mask() const { return static_cast<const bool*>(data); }
    int64_t size() const {
        int64_t n = 1;
        for (int64_t d : shape) n *= d;
        return n;
    }
    int64_t last() const { return shape.back(); }
    int64_t rows() const { return last() ? size() / last() : 0; }
};

struct Call {
    std::vector<Tensor> in, out;
    std::vector<double> numbers;  // whole numbers up to 2^53 are exact

    int64_t integer(int i) const { return static_cast<int64_t>(numbers[i]); }
};

using Kernel = void (*)(Call&);
std::map<std::string, Kernel>& kernel_table();

struct Registration {
    Registration(const char* name, Kernel kernel);
};

#define DETR_KERNEL(name)                              \
    static void name(Call& call);                      \
    static Registration register_##name(#name, name);  \
    static void name(Call& call)

// Scratch memory, one arena for each purpose, shared by all shapes: it grows to the largest request and is never
// returned. A second request for the same purpose overwrites the first. Not for use within a parallel region.
enum class Scratch {
    onednn, weights, more_weights, gradient, gathered, gathered_gradient, grown, grown_gradient,
    operand, operand_gradient, hidden, threads, count
};
float* scratch(Scratch purpose, int64_t floats);

// The channels of a block: activations in the backbone are laid out [B, C / block, H, W, block].
int64_t block();

// The N channels of a block at one pixel, in registers.
template <int N>
struct Block {
    // Aligned like any float: the compiler forgets this where it deduces a type, so none is deduced.
    typedef float Lanes __attribute__((vector_size(4 * N), aligned(4)));
    typedef uint32_t Words __attribute__((vector_size(4 * N), aligned(4)));

    static const Lanes& at(const float* p) { return *reinterpret_cast<const Lanes*>(p); }
    static Lanes& at(float* p) { return *reinterpret_cast<Lanes*>(p); }
};

// The dropout mask of seeding.keep_mask: element `index` is kept where hash(index, key) >= p · 2^32.
struct Dropout {
    uint32_t key, threshold;
    float scale;

    Dropout(double p, double key)
        : key(static_cast<uint32_t>(key)), threshold(static_cast<uint32_t>(p * 4294967296.0)),
          scale(static_cast<float>(1 / (1 - p))) {}

    template <class Word>  // one, or as many as fill a register
    static Word mix(Word x) {
        x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
        x = (x ^ (x >> 13)) * 0xC2B2AE35u;
        return x ^ (x >> 16);
    }
    bool keeps(uint32_t index) const { return mix((index * 0x9E3779B9u) ^ key) >= threshold; }
    float factor(uint32_t index) const { return keeps(index) ? scale : 0.f; }
    // of N elements from `index` on
    template <int N>
    typename Block<N>::Lanes factors(uint32_t index) const {
        typename Block<N>::Words x{};
        for (int i = 0; i < N; i++) x[i] = index + i;
        x = mix((x * 0x9E3779B9u) ^ key);
        typename Block<N>::Lanes all = typename Block<N>::Lanes{} + scale;
        return x >= threshold ? all : typename Block<N>::Lanes{};
    }
};

}  // namespace detr
