// As much of CUDA as detr_jittor/jt/kernels/cuda/cu uses, on a processor: every thread of every warp, one warp after the
// other. In a warp the threads take turns: each runs until it wants a number of another one, and goes on when all of
// them have told theirs. That a card's threads may come in any order, and its memory, are not emulated.
#pragma once
#pragma GCC optimize("no-fast-math")  // which Jittor compiles its operators with, and nvcc does not
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>
#include <vector>

#define __global__
#define __device__

static struct { unsigned x; } blockIdx, threadIdx, blockDim, gridDim;

namespace emulation {

const int lanes = 32;
const size_t stack = 1 << 16;

static std::function<void()> kernel;
static ucontext_t between, thread[lanes];
static std::vector<char> stacks(lanes * stack);
static double told[2][lanes];
static int current, asked[lanes];  // the thread that runs, and how often each has asked
static bool ended[lanes];

static void body() { kernel(), ended[current] = true; }

static void warp(unsigned first) {
    for (int i = 0; i < lanes; i++) {
        asked[i] = ended[i] = 0;
        getcontext(&thread[i]);
        thread[i].uc_stack = {.ss_sp = stacks.data() + i * stack, .ss_size = stack};
        thread[i].uc_link = &between;
        makecontext(&thread[i], body, 0);
    }
    for (int left = lanes; left;) {
        for (current = 0; current < lanes; current++) {
            threadIdx.x = first + current;
            swapcontext(&between, &thread[current]);
        }
        left = static_cast<int>(std::count(ended, ended + lanes, false));
        if (left && left < lanes) throw std::runtime_error("a thread ends while others of its warp wait for it");
    }
}

static void launch(int blocks, int block, std::function<void()> started) {
    kernel = started;
    gridDim.x = std::min(blocks, 2);  // few, so that the threads have to go on to further pieces
    blockDim.x = block;
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++)
        for (int first = 0; first < block; first += lanes) warp(first);
}

}  // namespace emulation

template <class Number>
static Number __shfl_xor_sync(unsigned mask, Number v, int step) {
    using namespace emulation;
    if (mask != 0xFFFFFFFFu) throw std::runtime_error("not the whole warp");
    const int own = current, round = asked[own]++ % 2;
    told[round][own] = v;
    swapcontext(&thread[own], &between);
    return static_cast<Number>(told[round][own ^ step]);
}
