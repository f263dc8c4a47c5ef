// A card that is not there, for tests that compile what would run on one: its memory is the machine's, starting a
// kernel does nothing, and zeros come back. Preloaded, it answers before CUDA's own libraries do. What only has to say
// that all is well is declared without its arguments, as C's calling convention allows.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

extern "C" {

// Jittor has its libraries ask their own neighbours first, and nobody would come here.
void* dlopen(const char* file, int flags) {
    static auto original = (void* (*)(const char*, int))dlsym(RTLD_NEXT, "dlopen");
    return original(file, flags & ~RTLD_DEEPBIND);
}

// One card of generation 9.0 with 8 GB
cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    memset(properties, 0, sizeof *properties);
    properties->major = 9;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : attribute == cudaDevAttrComputeCapabilityMinor ? 0 : 1;
    return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
    memset(attributes, 0, sizeof *attributes);
    attributes->ptxVersion = attributes->binaryVersion = 90;
    attributes->maxThreadsPerBlock = 1024;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { return *free = *total = size_t(8) << 30, cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t) {
    return *blocks = 1, cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t, unsigned) {
    return *blocks = 1, cudaSuccess;
}

// Memory
cudaError_t cudaMalloc(void** p, size_t size) { return *p = calloc(1, size + 64), cudaSuccess; }
cudaError_t cudaMallocManaged(void** p, size_t size, unsigned) { return cudaMalloc(p, size); }
cudaError_t cudaMallocHost(void** p, size_t size) { return cudaMalloc(p, size); }
cudaError_t cudaFree(void* p) { return free(p), cudaSuccess; }
cudaError_t cudaFreeHost(void* p) { return free(p), cudaSuccess; }
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
    // zeros come back, whatever a place held when it was used before: a count of found elements may be among them
    kind == cudaMemcpyDeviceToHost ? memset(to, 0, size) : memmove(to, from, size);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t) {
    return cudaMemcpy(to, from, size, kind);
}
cudaError_t cudaMemset(void* p, int value, size_t size) { return memset(p, value, size), cudaSuccess; }
cudaError_t cudaMemsetAsync(void* p, int value, size_t size, cudaStream_t) { return cudaMemset(p, value, size); }
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t function, void* data) { return function(data), cudaSuccess; }

// A convolution, in each direction: one algorithm, the first, which needs no memory
#define CONVOLUTION(direction)                                                                                       \
    int cudnnFindConvolution##direction##AlgorithmEx(void*, void*, void*, void*, void*, void*, void*, void*, int,    \
                                                     int* count, void* algorithms, void*, size_t) {                  \
        memset(algorithms, 0, 48);                                                                                   \
        return *count = 1, 0;                                                                                        \
    }                                                                                                                \
    int cudnnGetConvolution##direction##WorkspaceSize(void*, void*, void*, void*, void*, int, size_t* size) {        \
        return *size = 0, 0;                                                                                         \
    }                                                                                                                \
    int cudnnConvolution##direction() { return 0; }
CONVOLUTION(Forward)
CONVOLUTION(BackwardData)
CONVOLUTION(BackwardFilter)

#define FINE(name) int name() { return 0; }
FINE(cudnnCreate)
FINE(cudnnDestroy)
FINE(cublasCreate_v2)
FINE(cublasDestroy_v2)
FINE(cublasSgemm_v2)
FINE(cublasGemmEx)
FINE(cublasGemmStridedBatchedEx)
FINE(curandCreateGenerator)
FINE(curandDestroyGenerator)
FINE(curandSetPseudoRandomGeneratorSeed)
FINE(curandGenerateUniform)
FINE(curandGenerateNormal)
}

// These have C++ declarations in the header, whose type they need.
#define FINE_CUDA(call) extern "C" cudaError_t call { return cudaSuccess; }
FINE_CUDA(cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t))
FINE_CUDA(cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void*, void**))
FINE_CUDA(cudaSetDevice(int))
FINE_CUDA(cudaGetLastError())
FINE_CUDA(cudaPeekAtLastError())
FINE_CUDA(cudaDeviceSynchronize())
FINE_CUDA(cudaStreamCreateWithFlags(cudaStream_t*, unsigned))
FINE_CUDA(cudaStreamDestroy(cudaStream_t))
FINE_CUDA(cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned))
FINE_CUDA(cudaEventCreate(cudaEvent_t*))
FINE_CUDA(cudaEventCreateWithFlags(cudaEvent_t*, unsigned))
FINE_CUDA(cudaEventDestroy(cudaEvent_t))
FINE_CUDA(cudaEventRecord(cudaEvent_t, cudaStream_t))
