// The mean of bilinear samples in each bin of the queries' boxes, and the gradient of the maps that they are taken from.
namespace detr {

struct Boxes {
    const float *boxes, *extent;     // [B, K, 4] and [B, 2]
    int64_t queries, of_picture, d;  // B·K, K, D
    int bins, samples;               // P; of a bin along an axis

    // Where a sample of a query lies along an axis of `length` pixels. axis: 0 down, 1 across
    __device__ float at(int64_t query, int axis, int sample, int64_t length) const {
        const float centre = boxes[query * 4 + 1 - axis], side = boxes[query * 4 + 3 - axis];
        const float step = (sample + 0.5f) / (bins * samples) - 0.5f;
        return (centre + side * step) * extent[query / of_picture * 2 + axis] * length - 0.5f;
    }
};

struct Map {
    int64_t h, w, first, tokens;  // first: its first token of all those of a query
};

// The pixels that a bin takes, those of each of its samples, with their weights
struct Bin {
    static const int most = 4;  // samples along an axis
    // Along each axis the two pixels that a sample lies between, and their weights: 0 beyond the map
    int64_t down[most][2], across[most][2], picture, width;
    float weights_down[most][2], weights_across[most][2];
    int samples;

    __device__ Bin(const Boxes& b, const Map& map, int64_t query, int bin)
        : picture(query / b.of_picture * map.h * map.w), width(map.w), samples(b.samples) {
        for (int s = 0; s < samples; s++) {
            place(b.at(query, 0, bin / b.bins * samples + s, map.h), map.h, down[s], weights_down[s]);
            place(b.at(query, 1, bin % b.bins * samples + s, map.w), map.w, across[s], weights_across[s]);
        }
    }
    __device__ void place(float at, int64_t length, int64_t* pixels, float* weights) const {
        bool inside = at > -1 && at < length;  // not if it is a NaN
        int64_t low = inside ? static_cast<int64_t>(floorf(at)) : 0;
        for (int i = 0; i < 2; i++) {
            bool there = inside && low + i >= 0 && low + i < length;
            pixels[i] = there ? low + i : 0;
            weights[i] = there ? (1 - fabsf(at - (low + i))) / samples : 0.f;
        }
    }
    __device__ int taps() const { return 4 * samples * samples; }
    __device__ int64_t pixel(int tap) const {
        return picture + down[tap / 4 / samples][tap / 2 % 2] * width + across[tap / 4 % samples][tap % 2];
    }
    __device__ float weight(int tap) const {
        return weights_down[tap / 4 / samples][tap / 2 % 2] * weights_across[tap / 4 % samples][tap % 2];
    }
};

static __global__ void gather(const float* features, float* tokens, Boxes b, Map map) {
    const int places = b.bins * b.bins;
    for (int64_t i = warp(); i < b.queries * places; i += warps()) {
        const Bin bin(b, map, i / places, i % places);
        float* token = tokens + (i / places * map.tokens + map.first + i % places) * b.d;
        for (int64_t c = lane(); c < b.d; c += lanes) {
            float sum = 0;
            for (int tap = 0; tap < bin.taps(); tap++) sum += bin.weight(tap) * features[bin.pixel(tap) * b.d + c];
            token[c] = sum;
        }
    }
}

// Whether a query has samples on both sides of a pixel, or next to it, along an axis
__device__ inline bool reaches(const Boxes& b, int64_t query, int axis, int64_t pixel, int64_t length) {
    const float first = b.at(query, axis, 0, length), last = b.at(query, axis, b.bins * b.samples - 1, length);
    return fminf(first, last) < pixel + 1 && fmaxf(first, last) > pixel - 1;
}

// What a pixel gives to a bin of a query along an axis
__device__ inline float share(const Boxes& b, int64_t query, int axis, int bin, int64_t pixel, int64_t length) {
    float sum = 0;
    for (int s = 0; s < b.samples; s++)
        sum += fmaxf(1 - fabsf(b.at(query, axis, bin * b.samples + s, length) - pixel), 0.f);
    return sum / b.samples;
}

// A warp for each pixel, which asks every query of its picture in turn: more to ask than if each query added to the
// pixels that it has seen, but those would come in any order, and the last digits differ from run to run.
static __global__ void gather_back(const float* dtokens, float* dfeatures, Boxes b, Map map, int64_t pixels) {
    for (int64_t i = warp(); i < pixels; i += warps()) {
        const int64_t y = i / map.w % map.h, x = i % map.w, first = i / map.w / map.h * b.of_picture;
        float* sums = dfeatures + i * b.d;
        for (int64_t c = lane(); c < b.d; c += lanes) sums[c] = 0.f;
        for (int64_t query = first; query < first + b.of_picture; query++) {
            if (!reaches(b, query, 0, y, map.h) || !reaches(b, query, 1, x, map.w)) continue;
            for (int bin = 0; bin < b.bins * b.bins; bin++) {
                const float weight = share(b, query, 0, bin / b.bins, y, map.h) *
                                     share(b, query, 1, bin % b.bins, x, map.w);
                if (weight == 0) continue;
                const float* dtoken = dtokens + (query * map.tokens + map.first + bin) * b.d;
                for (int64_t c = lane(); c < b.d; c += lanes) sums[c] += weight * dtoken[c];
            }
        }
    }
}

// work(a map of this shape [B, h, w, D], where its tokens are) for each map
template <class Work>
static void each_map(const Call& call, const std::vector<Tensor>& maps, size_t skip, int64_t tokens, Work work) {
    const std::vector<int64_t>& boxes = call.in[0].shape;
    Boxes b{call.in[0].f32(), call.in[1].f32(), boxes[0] * boxes[1], boxes[1], maps[skip].last(),
            static_cast<int>(call.integer(0)), static_cast<int>(call.integer(1))};
    if (b.samples > Bin::most) throw std::runtime_error("too many samples a bin");
    for (size_t m = skip; m < maps.size(); m++) {
        int64_t places = b.bins * b.bins, first = static_cast<int64_t>(m - skip) * places;
        work(maps[m], b, Map{maps[m].shape[1], maps[m].shape[2], first, tokens});
    }
}

// in: boxes [B, K, 4], extent [B, 2], maps [B, h, w, D] …; out: tokens [B, K, M·P·P, D]. numbers: P, samples of a bin
// along an axis.
static void sample(Call& call) {
    const Tensor& tokens = call.out[0];
    each_map(call, call.in, 2, tokens.shape[2], [&](const Tensor& x, const Boxes& b, const Map& map) {
        launch(gather, b.queries * b.bins * b.bins * lanes, x.f32(), tokens.f32(), b, map);
    });
}

// in: boxes, extent, dtokens; out: dmaps …. numbers as above.
static void sample_backward(Call& call) {
    const Tensor& dtokens = call.in[2];
    each_map(call, call.out, 0, dtokens.shape[2], [&](const Tensor& x, const Boxes& b, const Map& map) {
        launch(gather_back, x.rows() * lanes, dtokens.f32(), x.f32(), b, map, x.rows());
    });
}

}  // namespace detr
