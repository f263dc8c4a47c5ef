// The mean of bilinear samples in each bin of the queries' boxes, and the gradient of the maps that they are taken from.
namespace detr {

struct Boxes {
    const float *boxes, *extent;     // [B, K, 4] and [B, 2]
    int64_t queries, of_picture, d;  // B·K, K, D
    int bins, samples;               // P; of a bin along an axis
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
        const float *box = b.boxes + query * 4, *extent = b.extent + query / b.of_picture * 2;
        for (int s = 0; s < samples; s++) {
            place(b, box[1], box[3], extent[0], map.h, bin / b.bins * samples + s, down[s], weights_down[s]);
            place(b, box[0], box[2], extent[1], map.w, bin % b.bins * samples + s, across[s], weights_across[s]);
        }
    }
    __device__ static void place(const Boxes& b, float centre, float side, float extent, int64_t length, int sample,
                                 int64_t* pixels, float* weights) {
        float step = (sample + 0.5f) / (b.bins * b.samples) - 0.5f;
        float at = (centre + side * step) * extent * length - 0.5f;
        bool inside = at > -1 && at < length;  // not if it is a NaN
        int64_t low = inside ? static_cast<int64_t>(floorf(at)) : 0;
        for (int i = 0; i < 2; i++) {
            bool there = inside && low + i >= 0 && low + i < length;
            pixels[i] = there ? low + i : 0;
            weights[i] = there ? (1 - fabsf(at - (low + i))) / b.samples : 0.f;
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

static __global__ void clear(float* x, int64_t n) {
    for (int64_t i = thread(); i < n; i += threads()) x[i] = 0.f;
}

// Queries that share a pixel add to it in any order, so the last digits differ from run to run.
static __global__ void scatter(const float* dtokens, float* dfeatures, Boxes b, Map map) {
    const int places = b.bins * b.bins;
    for (int64_t i = warp(); i < b.queries * places; i += warps()) {
        const Bin bin(b, map, i / places, i % places);
        const float* dtoken = dtokens + (i / places * map.tokens + map.first + i % places) * b.d;
        for (int tap = 0; tap < bin.taps(); tap++) {
            const float weight = bin.weight(tap);
            if (weight == 0) continue;
            for (int64_t c = lane(); c < b.d; c += lanes)
                atomicAdd(dfeatures + bin.pixel(tap) * b.d + c, weight * dtoken[c]);
        }
    }
}

// work(a map of this shape [B, h, w, D], where its tokens are) for each map, with a warp for each bin of each query
template <class Work>
static void each_map(const Call& call, const std::vector<Tensor>& maps, size_t skip, int64_t tokens, Work work) {
    const std::vector<int64_t>& boxes = call.in[0].shape;
    Boxes b{call.in[0].f32(), call.in[1].f32(), boxes[0] * boxes[1], boxes[1], maps[skip].last(),
            static_cast<int>(call.integer(0)), static_cast<int>(call.integer(1))};
    if (b.samples > Bin::most) throw std::runtime_error("too many samples a bin");
    for (size_t m = skip; m < maps.size(); m++) {
        int64_t places = b.bins * b.bins, first = static_cast<int64_t>(m - skip) * places;
        work(maps[m], b, Map{maps[m].shape[1], maps[m].shape[2], first, tokens}, b.queries * places * lanes);
    }
}

// in: boxes [B, K, 4], extent [B, 2], maps [B, h, w, D] …; out: tokens [B, K, M·P·P, D]. numbers: P, samples of a bin
// along an axis.
static void sample(Call& call) {
    const Tensor& tokens = call.out[0];
    each_map(call, call.in, 2, tokens.shape[2], [&](const Tensor& x, const Boxes& b, const Map& map, int64_t pieces) {
        launch(gather, pieces, x.f32(), tokens.f32(), b, map);
    });
}

// in: boxes, extent, dtokens; out: dmaps …. numbers as above.
static void sample_backward(Call& call) {
    const Tensor& dtokens = call.in[2];
    each_map(call, call.out, 0, dtokens.shape[2], [&](const Tensor& x, const Boxes& b, const Map& map, int64_t pieces) {
        launch(clear, x.size(), x.f32(), x.size());
        launch(scatter, pieces, dtokens.f32(), x.f32(), b, map);
    });
}

}  // namespace detr
