// Between the two matrix products of attention: scale, mask, softmax and dropout in one.
namespace detr {

struct Rows {
    int64_t count, keys, of_picture;  // rows, their length, and how many of them share a mask
    float scale;
};

static __global__ void weigh(const float* scores, const bool* ignored, float* weights, float* dropped, Rows rows,
                             Dropout dropout) {
    for (int64_t i = warp(); i < rows.count; i += warps()) {
        const int64_t first = i * rows.keys;
        const bool* skip = ignored ? ignored + i / rows.of_picture * rows.keys : nullptr;
        float most = -INFINITY;
        for (int64_t j = lane(); j < rows.keys; j += lanes)
            if (!skip || !skip[j]) most = fmaxf(most, scores[first + j] * rows.scale);
        most = largest(most);
        double sum = 0;
        for (int64_t j = lane(); j < rows.keys; j += lanes) {
            float e = skip && skip[j] ? 0.f : expf(scores[first + j] * rows.scale - most);
            weights[first + j] = e;
            sum += e;
        }
        sum = total(sum);
        const float inverse = sum == 0 ? 0.f : static_cast<float>(1 / sum);  // a NaN stays one
        for (int64_t j = lane(); j < rows.keys; j += lanes) {
            float w = weights[first + j] *= inverse;
            if (dropped) dropped[first + j] = w * dropout.factor(first + j);
        }
    }
}

// in: scores [B, …, keys], [mask [B, keys], true where a key is ignored]; out: weights, zero where every key is ignored,
// [those after dropout]. numbers: scale, p, key.
static void softmax(Call& call) {
    const Tensor& scores = call.in[0];
    Rows rows{scores.rows(), scores.last(), scores.rows() / std::max<int64_t>(scores.shape[0], 1),
              static_cast<float>(call.numbers[0])};
    launch(weigh, rows.count * lanes, scores.f32(), call.in.size() > 1 ? call.in[1].mask() : nullptr,
           call.out[0].f32(), call.out.size() > 1 ? call.out[1].f32() : nullptr, rows,
           Dropout(call.numbers[1], call.numbers[2]));
}

static __global__ void weigh_back(const float* weights, const float* dy, float* dscores, Rows rows, Dropout dropout) {
    for (int64_t i = warp(); i < rows.count; i += warps()) {
        const int64_t first = i * rows.keys;
        // In double: gradients that are alike cancel.
        double sum = 0, whole = 0;
        for (int64_t j = lane(); j < rows.keys; j += lanes) {
            double w = weights[first + j];
            sum += w * (dy[first + j] * dropout.factor(first + j));
            whole += w;  // 1, but for its rounding
        }
        sum = total(sum), whole = total(whole);
        const double mean = whole == 0 ? 0 : sum / whole;
        for (int64_t j = lane(); j < rows.keys; j += lanes) {
            double g = dy[first + j] * dropout.factor(first + j) - mean;
            dscores[first + j] = static_cast<float>(weights[first + j] * g) * rows.scale;
        }
    }
}

// in: weights, the gradient of those after dropout; out: that of the scores. numbers as above.
static void softmax_backward(Call& call) {
    const Tensor& weights = call.in[0];
    Rows rows{weights.rows(), weights.last(), 1, static_cast<float>(call.numbers[0])};
    launch(weigh_back, rows.count * lanes, weights.f32(), call.in[1].f32(), call.out[0].f32(), rows,
           Dropout(call.numbers[1], call.numbers[2]));
}

}  // namespace detr
