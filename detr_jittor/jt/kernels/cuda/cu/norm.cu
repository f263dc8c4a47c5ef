// Layer norm, and frozen batch norm with what follows it in the backbone.
namespace detr {

// Two passes: E[x²] − E[x]² would lose all digits when the mean is large.
static __global__ void normalize(const float* x, const float* weight, const float* bias, float* y, float* statistics,
                                 int64_t rows, int64_t d) {
    for (int64_t i = warp(); i < rows; i += warps()) {
        const float* row = x + i * d;
        double sum = 0, squares = 0;
        for (int64_t j = lane(); j < d; j += lanes) sum += row[j];
        const float mean = static_cast<float>(total(sum) / d);
        for (int64_t j = lane(); j < d; j += lanes) squares += static_cast<double>((row[j] - mean) * (row[j] - mean));
        const float inverse = static_cast<float>(1 / sqrt(total(squares) / d + 1e-5));
        for (int64_t j = lane(); j < d; j += lanes) y[i * d + j] = (row[j] - mean) * inverse * weight[j] + bias[j];
        if (lane() == 0) statistics[2 * i] = mean, statistics[2 * i + 1] = inverse;
    }
}

// in: x [..., D], weight [D], bias [D]; out: y, mean and 1 / deviation [rows, 2]
static void layer_norm(Call& call) {
    int64_t rows = call.in[0].rows(), d = call.in[0].last();
    launch(normalize, rows * lanes, call.in[0].f32(), call.in[1].f32(), call.in[2].f32(), call.out[0].f32(),
           call.out[1].f32(), rows, d);
}

static __global__ void normalize_back(const float* x, const float* weight, const float* statistics, const float* dy,
                                      float* dx, int64_t rows, int64_t d) {
    for (int64_t i = warp(); i < rows; i += warps()) {
        const float mean = statistics[2 * i], inverse = statistics[2 * i + 1];
        double sum = 0, dot = 0;
        for (int64_t j = lane(); j < d; j += lanes) {
            float weighted = dy[i * d + j] * weight[j];
            sum += weighted;
            dot += static_cast<double>(weighted * ((x[i * d + j] - mean) * inverse));
        }
        const float along = static_cast<float>(total(sum) / d), across = static_cast<float>(total(dot) / d);
        for (int64_t j = lane(); j < d; j += lanes) {
            float normal = (x[i * d + j] - mean) * inverse;
            dx[i * d + j] = inverse * (dy[i * d + j] * weight[j] - along - normal * across);
        }
    }
}

// A thread for each column of each of some groups of rows: the rows group, group + groups, …
static __global__ void sum_columns(const float* x, const float* statistics, const float* dy, float* sums, int64_t rows,
                                   int64_t d, int64_t groups) {
    for (int64_t i = thread(); i < groups * d; i += threads()) {
        const int64_t group = i / d, j = i % d;
        double of_weight = 0, of_bias = 0;
        for (int64_t row = group; row < rows; row += groups) {
            float g = dy[row * d + j];
            of_weight += static_cast<double>(g * ((x[row * d + j] - statistics[2 * row]) * statistics[2 * row + 1]));
            of_bias += g;
        }
        sums[2 * group * d + j] = static_cast<float>(of_weight);
        sums[(2 * group + 1) * d + j] = static_cast<float>(of_bias);
    }
}

// in: x, weight, statistics, dy; out: dx, and [groups, 2, D], whose sums over the groups are dweight and dbias
static void layer_norm_backward(Call& call) {
    int64_t rows = call.in[0].rows(), d = call.in[0].last(), groups = call.out[1].shape[0];
    const float *x = call.in[0].f32(), *statistics = call.in[2].f32(), *dy = call.in[3].f32();
    launch(normalize_back, rows * lanes, x, call.in[1].f32(), statistics, dy, call.out[0].f32(), rows, d);
    launch(sum_columns, groups * d, x, statistics, dy, call.out[1].f32(), rows, d, groups);
}

// Maps [B, C, H, W], cut into pieces that lie within one channel: a warp does one after the other.
struct Pieces {
    static const int64_t length = 1024;
    int64_t channels, pixels, of_map, count;

    explicit Pieces(const Tensor& x)
        : channels(x.shape[1]), pixels(x.shape[2] * x.shape[3]), of_map((pixels + length - 1) / length),
          count(x.shape[0] * channels * of_map) {}
    __device__ int64_t channel(int64_t piece) const { return piece / of_map % channels; }
    __device__ int64_t start(int64_t piece) const { return piece / of_map * pixels + piece % of_map * length; }
    __device__ int64_t end(int64_t piece) const {
        int64_t map = (piece / of_map + 1) * pixels, own = start(piece) + length;
        return own < map ? own : map;
    }
};

struct Norm {
    const float *gamma, *beta, *mean, *var;

    explicit Norm(const Call& call)
        : gamma(call.in[1].f32()), beta(call.in[2].f32()), mean(call.in[3].f32()), var(call.in[4].f32()) {}
    __device__ float scale(int64_t c) const { return gamma[c] / sqrtf(var[c] + 1e-5f); }
};

static __global__ void shift(const float* x, const float* residual, float* y, Pieces pieces, Norm norm, bool relu) {
    for (int64_t piece = warp(); piece < pieces.count; piece += warps()) {
        const int64_t c = pieces.channel(piece), end = pieces.end(piece);
        const float scale = norm.scale(c), offset = norm.beta[c] - norm.mean[c] * scale;
        for (int64_t i = pieces.start(piece) + lane(); i < end; i += lanes) {
            float v = x[i] * scale + offset;
            if (residual) v += residual[i];
            y[i] = relu && v < 0 ? 0.f : v;  // a NaN stays
        }
    }
}

// in: x [B, C, H, W], weight, bias, mean and variance [C], [residual]; out: ReLU(norm(x) + residual). numbers: relu.
static void frozen_norm(Call& call) {
    Pieces pieces(call.in[0]);
    launch(shift, pieces.count * lanes, call.in[0].f32(), call.in.size() > 5 ? call.in[5].f32() : nullptr,
           call.out[0].f32(), pieces, Norm(call), call.integer(0) != 0);
}

static __global__ void shift_back(const float* dy, const float* y, float* dx, float* dresidual, Pieces pieces,
                                  Norm norm) {
    for (int64_t piece = warp(); piece < pieces.count; piece += warps()) {
        const float scale = norm.scale(pieces.channel(piece));
        const int64_t end = pieces.end(piece);
        for (int64_t i = pieces.start(piece) + lane(); i < end; i += lanes) {
            float g = !y || y[i] > 0 ? dy[i] : 0.f;
            dx[i] = g * scale;
            if (dresidual) dresidual[i] = g;
        }
    }
}

// in: dy, weight, bias, mean and variance, [y, where there is a ReLU]; out: dx, [that of the residual]
static void frozen_norm_backward(Call& call) {
    Pieces pieces(call.in[0]);
    launch(shift_back, pieces.count * lanes, call.in[0].f32(), call.in.size() > 5 ? call.in[5].f32() : nullptr,
           call.out[0].f32(), call.out.size() > 1 ? call.out[1].f32() : nullptr, pieces, Norm(call));
}

}  // namespace detr
