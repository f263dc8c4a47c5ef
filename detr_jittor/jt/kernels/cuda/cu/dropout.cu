namespace detr {

static __global__ void drop(const float* x, float* y, int64_t n, Dropout dropout) {
    for (int64_t i = thread(); i < n; i += threads()) y[i] = x[i] * dropout.factor(i);
}

// in: x, or the gradient of the output; out: y, or the gradient of x. numbers: p, key.
static void dropout(Call& call) {
    int64_t n = call.in[0].size();
    launch(drop, n, call.in[0].f32(), call.out[0].f32(), n, Dropout(call.numbers[0], call.numbers[1]));
}

}  // namespace detr
