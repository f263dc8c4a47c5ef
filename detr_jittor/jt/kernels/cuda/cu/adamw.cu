// The sum of all squares of the gradients, and one step of AdamW (arXiv 1711.05101).
namespace detr {

// A warp for each part: the runs of 32 elements part, part + parts, …
static __global__ void add_squares(const float* x, double* sums, int64_t n, int64_t parts) {
    for (int64_t part = warp(); part < parts; part += warps()) {
        double sum = 0;
        for (int64_t i = part * lanes + lane(); i < n; i += parts * lanes) sum += static_cast<double>(x[i]) * x[i];
        sum = total(sum);
        if (lane() == 0) sums[part] = sum;
    }
}

// in: gradients; out: [count, parts] double, whose sum is that of all squares
static void squares(Call& call) {
    const int64_t parts = call.out[0].last();
    for (size_t t = 0; t < call.in.size(); t++)
        launch(add_squares, parts * lanes, call.in[t].f32(), call.out[0].f64() + t * parts, call.in[t].size(), parts);
}

struct Step {
    const float *p, *m, *v, *g;
    float *new_p, *new_m, *new_v;
    float clip, keep, size, root;
};

static __global__ void update(Step s, int64_t n) {
    for (int64_t i = thread(); i < n; i += threads()) {
        const float gradient = s.g[i] * s.clip;
        const float m = s.m[i] + (gradient - s.m[i]) * 0.1f;
        const float v = s.v[i] * 0.999f + gradient * gradient * 0.001f;
        s.new_p[i] = s.p[i] * s.keep - s.size * m / (sqrtf(v) / s.root + 1e-8f);
        s.new_m[i] = m, s.new_v[i] = v;
    }
}

// in: parameters, exp_avg, exp_avg_sq, gradients, as many of each; out: the new parameters, exp_avg and exp_avg_sq.
// numbers: weight_decay, step, by what to multiply the gradients, the learning rate of each parameter.
static void adamw(Call& call) {
    const size_t count = call.in.size() / 4;
    const double decay = call.numbers[0], step = call.numbers[1];
    const float clip = static_cast<float>(call.numbers[2]);
    const float root = static_cast<float>(std::sqrt(1 - std::pow(0.999, step)));
    for (size_t t = 0; t < count; t++) {
        auto in = [&](size_t group) { return call.in[group * count + t].f32(); };
        auto out = [&](size_t group) { return call.out[group * count + t].f32(); };
        const double lr = call.numbers[3 + t];
        Step s{in(0), in(1), in(2), in(3), out(0), out(1), out(2), clip, static_cast<float>(1 - lr * decay),
               static_cast<float>(lr / (1 - std::pow(0.9, step))), root};
        launch(update, call.in[t].size(), s, call.in[t].size());
    }
}

}  // namespace detr
