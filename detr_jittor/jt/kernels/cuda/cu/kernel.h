// What a kernel is handed, how it is started, and how a card's threads share its work. It stands before each .cu.
//
// A kernel goes through its work in steps of all threads there are, so any number of them serves. Rows of a matrix are
// shared out to warps: 32 threads, each of which takes every 32nd element, and `total` adds up what they have found.
// Nothing else of CUDA is used, so that the tests can run the same sources on a processor.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace detr {

struct Tensor {
    void* data;  // in the card's memory
    std::vector<int64_t> shape;

    template <class Var>  // Jittor's
    explicit Tensor(Var* var) : data(var->mem_ptr) {
        for (int i = 0; i < var->shape.size(); i++) shape.push_back(var->shape[i]);
    }
    float* f32() const { return static_cast<float*>(data); }
    double* f64() const { return static_cast<double*>(data); }
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

    template <class Vars>
    Call(const Vars& inputs, const Vars& outputs, std::vector<double> numbers) : numbers(numbers) {
        for (auto* var : inputs) in.emplace_back(var);
        for (auto* var : outputs) out.emplace_back(var);
    }
    int64_t integer(int i) const { return static_cast<int64_t>(numbers[i]); }
};

const int lanes = 32;  // threads of a warp

__device__ inline int64_t thread() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t threads() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }
__device__ inline int64_t warp() { return thread() / lanes; }
__device__ inline int64_t warps() { return threads() / lanes; }
__device__ inline int lane() { return threadIdx.x % lanes; }

// The sum and the largest of a number of each thread of a warp, told to all of them
__device__ inline double total(double v) {
    for (int step = lanes / 2; step; step /= 2) v += __shfl_xor_sync(0xFFFFFFFFu, v, step);
    return v;
}
__device__ inline float largest(float v) {
    for (int step = lanes / 2; step; step /= 2) v = fmaxf(v, __shfl_xor_sync(0xFFFFFFFFu, v, step));
    return v;
}

// Start a kernel with a thread for each piece of its work. Errors: std::runtime_error if the card refuses it.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t pieces, Arguments... arguments) {
    const int block = 256;
    if (pieces == 0) return;
    int blocks = static_cast<int>(std::min<int64_t>((pieces + block - 1) / block, 1 << 16));
#ifdef __CUDACC__
    kernel<<<blocks, block>>>(static_cast<Parameters>(arguments)...);
    if (cudaError_t error = cudaGetLastError())
        throw std::runtime_error(std::string("a kernel does not start: ") + cudaGetErrorString(error));
#else
    emulation::launch(blocks, block, [&] { kernel(static_cast<Parameters>(arguments)...); });
#endif
}

// The dropout mask of seeding.keep_mask: element `index` is kept where hash(index, key) >= p · 2^32.
struct Dropout {
    uint32_t key, threshold;
    float scale;

    Dropout(double p, double key)
        : key(static_cast<uint32_t>(key)), threshold(static_cast<uint32_t>(p * 4294967296.0)),
          scale(static_cast<float>(1 / (1 - p))) {}

    __device__ float factor(int64_t index) const {
        uint32_t x = (static_cast<uint32_t>(index) * 0x9E3779B9u) ^ key;
        x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
        x = (x ^ (x >> 13)) * 0xC2B2AE35u;
        return (x ^ (x >> 16)) >= threshold ? scale : 0.f;
    }
};

}  // namespace detr
