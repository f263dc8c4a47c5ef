// Attention of each query to bilinear samples from its own box, and the sine of numbers in 0 … 1.
//
// The samples of a query are taken where they are used and never stored: the backward pass takes them again. Their
// gradients are stored, and then summed over the queries one block of channels after the other, so that the sums do not
// depend on the number of threads.
#include <omp.h>

#include <algorithm>
#include <cmath>

#include <dnnl.h>

#include "detr_exp.h"

namespace detr {

static const int most_taps = 8;  // pixels that a bin takes along an axis, with up to four samples

// Along one axis: the pixels of a bin and their weights
struct Taps {
    int count = 0;
    int64_t pixel[most_taps];
    float weight[most_taps];

    // Samples that are close together share pixels, which are read once for all of them.
    void add(int64_t at, float share) {
        for (int i = 0; i < count; i++)
            if (pixel[i] == at) {
                weight[i] += share;
                return;
            }
        pixel[count] = at;
        weight[count++] = share;
    }
};

using B = Block<lanes>;
using Lanes = B::Lanes;

static float dot(const float* a, const float* b, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

// In the lanes whose number has the bit `step` b, in the others a: each plus what lies `step` lanes from it
template <int step>
static Lanes folded(Lanes a, Lanes b) {
    typedef int32_t Places __attribute__((vector_size(4 * lanes)));
    Places own{}, other{};
#pragma GCC unroll 16
    for (int i = 0; i < lanes; i++) own[i] = i + (i & step ? lanes : 0), other[i] = own[i] ^ step;
    return __builtin_shuffle(a, b, own) + __builtin_shuffle(a, b, other);
}

// The sums of so many vectors' lanes, in the first lanes of one
template <int count, int step = 1>
struct Totals {
    static Lanes of(const Lanes* v) {
        Lanes half[count / 2];
#pragma GCC unroll 4
        for (int i = 0; i < count / 2; i++) half[i] = folded<step>(v[2 * i], v[2 * i + 1]);
        return Totals<count / 2, 2 * step>::of(half);
    }
};
template <int step>
struct Totals<1, step> {
    static Lanes of(const Lanes* v) {
        Lanes half = folded<step>(*v, *v);
        return Totals<1, 2 * step>::of(&half);
    }
};
template <>
struct Totals<1, lanes> {
    static Lanes of(const Lanes* v) { return *v; }
};

// Of so many heads together, so that a token is read once for all of them; x [heads, D], tokens [count, D]. A token's
// weights of all n heads lie side by side: w [count, n].
template <int heads>
struct Together {
    // out[token, head] = x · token, the heads of x so far apart
    static void products(const float* x, int64_t apart, const float* tokens, int64_t count, int64_t d, int64_t n,
                         float* out) {
        for (int64_t t = 0; t < count; t++) {
            const float* token = tokens + t * d;
            Lanes sum[heads] = {};
            int64_t c = 0;
            for (; c + lanes <= d; c += lanes)
#pragma GCC unroll 8
                for (int h = 0; h < heads; h++) sum[h] += B::at(token + c) * B::at(x + h * apart + c);
            Lanes all = Totals<heads>::of(sum);
            for (int h = 0; h < heads; h++) out[t * n + h] = all[h];
            for (int h = 0; h < heads && c < d; h++) out[t * n + h] += dot(token + c, x + h * apart + c, d - c);
        }
    }
    // out[head, D] = Σ over tokens of w[token, head] · token
    static void mean(const float* w, const float* tokens, int64_t count, int64_t d, int64_t n, float* out) {
        int64_t c = 0;
        for (; c + lanes <= d; c += lanes) {
            Lanes sum[heads] = {};
            for (int64_t t = 0; t < count; t++)
#pragma GCC unroll 8
                for (int h = 0; h < heads; h++) sum[h] += w[t * n + h] * B::at(tokens + t * d + c);
#pragma GCC unroll 8
            for (int h = 0; h < heads; h++) B::at(out + h * d + c) = sum[h];
        }
        for (; c < d; c++)
            for (int h = 0; h < heads; h++) {
                out[h * d + c] = 0;
                for (int64_t t = 0; t < count; t++) out[h * d + c] += w[t * n + h] * tokens[t * d + c];
            }
    }
    // tokens[count, D] += Σ over heads of w[token, head] · x[head]
    static void spread(const float* w, const float* x, int64_t count, int64_t d, int64_t n, float* tokens) {
        int64_t c = 0;
        for (; c + lanes <= d; c += lanes) {
            Lanes of[heads];
#pragma GCC unroll 8
            for (int h = 0; h < heads; h++) of[h] = B::at(x + h * d + c);
            for (int64_t t = 0; t < count; t++) {
                Lanes sum = B::at(tokens + t * d + c);
#pragma GCC unroll 8
                for (int h = 0; h < heads; h++) sum += w[t * n + h] * of[h];
                B::at(tokens + t * d + c) = sum;
            }
        }
        for (; c < d; c++)
            for (int64_t t = 0; t < count; t++)
                for (int h = 0; h < heads; h++) tokens[t * d + c] += w[t * n + h] * x[h * d + c];
    }
};

// work(first head, the kind of Together that serves) for heads in groups of eight, four and one
template <class Work>
static void in_groups(int64_t heads, Work work) {
    int64_t h = 0;
    for (; h + 8 <= heads; h += 8) work(h, Together<8>());
    for (; h + 4 <= heads; h += 4) work(h, Together<4>());
    for (; h < heads; h++) work(h, Together<1>());
}

static void add_scaled(float factor, const float* x, float* y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] += factor * x[i];
}

struct Sampling {
    int64_t b, k, n, d, bins, samples, maps, first, tokens;
    const float *content, *place, *rows, *columns, *boxes, *extent;
    const Call& call;
    Dropout dropout;
    bool drops;

    // in: content and place [B, K, n, D], rows and columns [B, K, P, D / 2], boxes [B, K, 4], extent [B, 2],
    // maps [B, h, w, D] …, …. numbers: P, samples a bin, p, key, maps.
    explicit Sampling(const Call& call)
        : b(call.in[0].shape[0]), k(call.in[0].shape[1]), n(call.in[0].shape[2]), d(call.in[0].shape[3]),
          bins(call.integer(0)), samples(call.integer(1)), maps(call.integer(4)), first(6), tokens(maps * bins * bins),
          content(call.in[0].f32()), place(call.in[1].f32()), rows(call.in[2].f32()), columns(call.in[3].f32()),
          boxes(call.in[4].f32()), extent(call.in[5].f32()), call(call), dropout(call.numbers[2], call.numbers[3]),
          drops(call.numbers[2] > 0) {
        if (2 * samples > most_taps) throw std::runtime_error("too many samples a bin");
    }

    int64_t height(int64_t map) const { return call.in[first + map].shape[1]; }
    int64_t width(int64_t map) const { return call.in[first + map].shape[2]; }

    // The taps of a bin of query q of all; axis 0 goes across, 1 down.
    Taps taps(int64_t q, int64_t axis, int64_t bin, int64_t length) const {
        const float *box = boxes + q * 4, share = extent[q / k * 2 + 1 - axis];
        Taps found;
        for (int64_t s = 0; s < samples; s++) {
            double step = (bin * samples + s + 0.5) / (bins * samples) - 0.5;
            float at = (box[axis] + box[axis + 2] * static_cast<float>(step)) * share * length - 0.5f;
            if (!(at > -1 && at < length)) continue;
            int64_t low = static_cast<int64_t>(std::floor(at));
            for (int64_t pixel = std::max<int64_t>(low, 0); pixel <= std::min(low + 1, length - 1); pixel++)
                found.add(pixel, (1 - std::fabs(at - pixel)) / samples);
        }
        return found;
    }
    // What is to be done with each pixel of each token of a query: work(token, offset of the pixel, weight)
    template <class Work>
    void each_tap(int64_t q, int64_t map, Work work) const {
        int64_t h = height(map), w = width(map);
        std::vector<Taps> down(bins), across(bins);
        for (int64_t i = 0; i < bins; i++) down[i] = taps(q, 1, i, h), across[i] = taps(q, 0, i, w);
        for (int64_t i = 0; i < bins * bins; i++) {
            const Taps &y = down[i / bins], &x = across[i % bins];
            for (int r = 0; r < y.count; r++)
                for (int c = 0; c < x.count; c++)
                    work(map * bins * bins + i, ((q / k * h + y.pixel[r]) * w + x.pixel[c]) * d,
                         y.weight[r] * x.weight[c]);
        }
    }
    // All tokens of a query [tokens, D]
    void gather(int64_t q, float* out) const {
        std::vector<const float*> pixels;
        std::vector<float> weights;
        int64_t token = 0;
        for (int64_t map = 0; map < maps; map++) {
            const float* features = call.in[first + map].f32();
            each_tap(q, map, [&](int64_t of, int64_t offset, float weight) {
                if (of != token) {
                    sum(pixels, weights, out + token * d);
                    std::fill(out + (token + 1) * d, out + of * d, 0.f);
                    token = of;
                }
                pixels.push_back(features + offset);
                weights.push_back(weight);
            });
        }
        sum(pixels, weights, out + token * d);
        std::fill(out + (token + 1) * d, out + tokens * d, 0.f);
    }
    template <int columns>
    static void sum_columns(const std::vector<const float*>& pixels, const std::vector<float>& weights, int64_t c,
                            float* out) {
        Lanes sum[columns] = {};
        for (size_t i = 0; i < pixels.size(); i++)
#pragma GCC unroll 4
            for (int j = 0; j < columns; j++) sum[j] += weights[i] * B::at(pixels[i] + c + j * lanes);
#pragma GCC unroll 4
        for (int j = 0; j < columns; j++) B::at(out + c + j * lanes) = sum[j];
    }
    // The weighted sum of some pixels [D], which are forgotten then
    void sum(std::vector<const float*>& pixels, std::vector<float>& weights, float* out) const {
        int64_t c = 0;
        for (; c + 4 * lanes <= d; c += 4 * lanes) sum_columns<4>(pixels, weights, c, out);
        for (; c + lanes <= d; c += lanes) sum_columns<1>(pixels, weights, c, out);
        for (; c < d; c++) {
            out[c] = 0;
            for (size_t i = 0; i < pixels.size(); i++) out[c] += weights[i] * pixels[i][c];
        }
        pixels.clear();
        weights.clear();
    }
    // The sum of the bins' sines [P, D / 2] of a query along one axis, each times a head's factor of factors [P, n]
    void along(int64_t q, int64_t head, const std::vector<double>& factors, const float* waves, double* sum,
               float* out) const {
        int64_t half = d / 2;
        std::fill(sum, sum + half, 0.);
        for (int64_t bin = 0; bin < bins; bin++) {
            const float* wave = waves + (q * bins + bin) * half;
            double factor = factors[bin * n + head];
#pragma omp simd
            for (int64_t i = 0; i < half; i++) sum[i] += factor * wave[i];
        }
        for (int64_t i = 0; i < half; i++) out[i] = static_cast<float>(sum[i]);
    }
    // The dropout factor of a weight of a query's head
    float kept(int64_t q, int64_t head, int64_t token) const {
        return drops ? dropout.factor(static_cast<uint32_t>((q * n + head) * tokens + token)) : 1.f;
    }
};

// out: y [B, K, n, D], [weights [B, K, tokens, n], for the backward pass]
DETR_KERNEL(sampled_attention) {
    Sampling s(call);
    float *y = call.out[0].f32(), *kept = call.out.size() > 1 ? call.out[1].f32() : nullptr;
    const int64_t n = s.n, half = s.d / 2, places = s.bins * s.bins, all = s.tokens * n;
#pragma omp parallel
    {
        std::vector<float> tokens(s.tokens * s.d), w(whole(all, lanes)), down(s.bins * n), across(s.bins * n), most(n),
            sum(n);
#pragma omp for
        for (int64_t q = 0; q < s.b * s.k; q++) {
            s.gather(q, tokens.data());
            in_groups(n, [&](int64_t head, auto group) {
                const float *content = s.content + (q * n + head) * s.d, *place = s.place + (q * n + head) * s.d;
                group.products(content, s.d, tokens.data(), s.tokens, s.d, n, w.data() + head);
                group.products(place, s.d, s.rows + q * s.bins * half, s.bins, half, n, down.data() + head);
                group.products(place + half, s.d, s.columns + q * s.bins * half, s.bins, half, n,
                               across.data() + head);
            });
            std::fill(most.begin(), most.end(), -INFINITY);
            std::fill(sum.begin(), sum.end(), 0.f);
            for (int64_t t = 0; t < s.tokens; t++) {
                const float *row = down.data() + t % places / s.bins * n, *column = across.data() + t % s.bins * n;
#pragma omp simd
                for (int64_t h = 0; h < n; h++) {
                    float score = w[t * n + h] + (row[h] + column[h]);
                    w[t * n + h] = score;
                    most[h] = score > most[h] ? score : most[h];
                }
            }
            for (int64_t t = 0; t < s.tokens; t++)
#pragma omp simd
                for (int64_t h = 0; h < n; h++) w[t * n + h] -= most[h];
            for (int64_t i = 0; i < all; i += lanes) B::at(w.data() + i) = exp_negative(B::at(w.data() + i));
            for (int64_t t = 0; t < s.tokens; t++)
#pragma omp simd
                for (int64_t h = 0; h < n; h++) sum[h] += w[t * n + h];
            for (int64_t t = 0; t < s.tokens; t++)
#pragma omp simd
                for (int64_t h = 0; h < n; h++) w[t * n + h] /= sum[h];
            if (kept) std::copy(w.begin(), w.begin() + all, kept + q * all);
            for (int64_t i = 0; i < all && s.drops; i++) w[i] *= s.kept(q, i % n, i / n);
            in_groups(n, [&](int64_t head, auto group) {
                group.mean(w.data() + head, tokens.data(), s.tokens, s.d, n, y + (q * n + head) * s.d);
            });
        }
    }
}

// in: those of the forward pass, weights, dy; out: dcontent, dplace, dmaps …
DETR_KERNEL(sampled_attention_backward) {
    Sampling s(call);
    const float *weights = call.in[s.first + s.maps].f32(), *dy = call.in[s.first + s.maps + 1].f32();
    float *dcontent = call.out[0].f32(), *dplace = call.out[1].f32();
    float* dtokens = scratch(Scratch::gathered, s.b * s.k * s.tokens * s.d);
    const int64_t n = s.n, half = s.d / 2, places = s.bins * s.bins, all = s.tokens * n;
#pragma omp parallel
    {
        std::vector<float> tokens(s.tokens * s.d), ds(all), passed(all);
        // In double: the gradients of a head's scores add up to nothing, and so do most of their products with sines.
        std::vector<double> down(s.bins * n), across(s.bins * n), sum(n), total(n), along(half);
#pragma omp for
        for (int64_t q = 0; q < s.b * s.k; q++) {
            const float *content = s.content + q * n * s.d, *of_query = dy + q * n * s.d, *w = weights + q * all;
            float* dt = dtokens + q * s.tokens * s.d;
            s.gather(q, tokens.data());
            in_groups(n, [&](int64_t head, auto group) {
                group.products(of_query + head * s.d, s.d, tokens.data(), s.tokens, s.d, n, ds.data() + head);
            });
            std::copy(w, w + all, passed.begin());
            for (int64_t i = 0; i < all && s.drops; i++) {
                float factor = s.kept(q, i % n, i / n);
                ds[i] *= factor;
                passed[i] *= factor;
            }
            std::fill(sum.begin(), sum.end(), 0.);
            std::fill(total.begin(), total.end(), 0.);  // 1, but for the weights' rounding
            for (int64_t t = 0; t < s.tokens; t++)
#pragma omp simd
                for (int64_t h = 0; h < n; h++) {
                    double weight = w[t * n + h];
                    sum[h] += weight * ds[t * n + h];
                    total[h] += weight;
                }
            for (int64_t h = 0; h < n; h++) sum[h] /= total[h];
            std::fill(down.begin(), down.end(), 0.);
            std::fill(across.begin(), across.end(), 0.);
            for (int64_t t = 0; t < s.tokens; t++) {
                double *row = down.data() + t % places / s.bins * n, *column = across.data() + t % s.bins * n;
#pragma omp simd
                for (int64_t h = 0; h < n; h++) {
                    double exact = w[t * n + h] * (ds[t * n + h] - sum[h]);
                    ds[t * n + h] = static_cast<float>(exact);
                    row[h] += exact;
                    column[h] += exact;
                }
            }
            for (int64_t head = 0; head < n; head++) {
                float* of_place = dplace + (q * n + head) * s.d;
                s.along(q, head, down, s.rows, along.data(), of_place);
                s.along(q, head, across, s.columns, along.data(), of_place + half);
            }
            std::fill(dt, dt + s.tokens * s.d, 0.f);
            in_groups(n, [&](int64_t head, auto group) {
                const float *d = ds.data() + head, *through = passed.data() + head;
                group.mean(d, tokens.data(), s.tokens, s.d, n, dcontent + (q * n + head) * s.d);
                group.spread(d, content + head * s.d, s.tokens, s.d, n, dt);
                group.spread(through, of_query + head * s.d, s.tokens, s.d, n, dt);
            });
        }
    }
    const int64_t width = 64, blocks = (s.d + width - 1) / width;  // of channels
    for (int64_t map = 0; map < s.maps; map++) {
        float* dmap = call.out[2 + map].f32();
        std::fill(dmap, dmap + call.out[2 + map].size(), 0.f);
#pragma omp parallel for collapse(2)
        for (int64_t picture = 0; picture < s.b; picture++)
            for (int64_t block = 0; block < blocks; block++) {
                int64_t start = block * width, channels = std::min(width, s.d - start);
                for (int64_t q = picture * s.k; q < (picture + 1) * s.k; q++)
                    s.each_tap(q, map, [&](int64_t token, int64_t offset, float weight) {
                        add_scaled(weight, dtokens + (q * s.tokens + token) * s.d + start, dmap + offset + start,
                                   channels);
                    });
            }
    }
}

// The frequency of each pair of features, a sine and a cosine: angle = position · 2π / frequency
static std::vector<float> frequencies(int64_t features) {
    std::vector<float> found(whole(features / 2, lanes), 1.f);
    for (int64_t i = 0; i < features / 2; i++) found[i] = static_cast<float>(std::pow(10000.0, i * (2.0 / features)));
    return found;
}

static const float turn = 6.283185307179586f;

// in: positions [...]; out: [..., features], sines and cosines in turn
DETR_KERNEL(sine) {
    const float* positions = call.in[0].f32();
    float* y = call.out[0].f32();
    int64_t features = call.out[0].last(), pairs = features / 2, count = call.in[0].size();
    std::vector<float> frequency = frequencies(features);
#pragma omp parallel for
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < pairs; j += lanes) {
            Lanes sine, cosine;
            sine_cosine(positions[i] * turn / B::at(frequency.data() + j), sine, cosine);
            float* wave = y + i * features + 2 * j;
            for (int64_t f = 0; f < std::min<int64_t>(lanes, pairs - j); f++)
                wave[2 * f] = sine[f], wave[2 * f + 1] = cosine[f];
        }
}

// in: positions, y, dy; out: dpositions. The derivative of each wave is its neighbour.
DETR_KERNEL(sine_backward) {
    const float *y = call.in[1].f32(), *dy = call.in[2].f32();
    int64_t features = call.in[1].last(), count = call.in[0].size();
    std::vector<float> frequency = frequencies(features);
#pragma omp parallel for
    for (int64_t i = 0; i < count; i++) {
        const float *wave = y + i * features, *d = dy + i * features;
        double sum = 0;
        for (int64_t f = 0; f < features; f += 2)
            sum += (d[f] * wave[f + 1] - d[f + 1] * wave[f]) * (turn / frequency[f / 2]);
        call.out[0].f32()[i] = static_cast<float>(sum);
    }
}

// One product of a head: each is small, so the heads are shared out among the threads, and not the product.
static void multiply(char ta, char tb, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
                     int64_t ldb, float* c, int64_t ldc) {
    if (m && n && dnnl_sgemm(ta, tb, m, n, k, 1.f, a, lda, b, ldb, 0.f, c, ldc) != dnnl_success)
        throw std::runtime_error("oneDNN refuses a matrix product");
}

// in: x [B, K, D], weight [D, D]; out: [B, K, n, D], of each head Wᵀ x
DETR_KERNEL(to_heads) {
    int64_t rows = call.in[0].rows(), d = call.in[0].last(), n = call.integer(0), head = d / n;
#pragma omp parallel for
    for (int64_t i = 0; i < n; i++)
        multiply('N', 'N', rows, d, head, call.in[0].f32() + i * head, d, call.in[1].f32() + i * head * d, d,
                 call.out[0].f32() + i * d, n * d);
}

// in: x [B, K, n, D], weight [D, D]; out: [B, K, D], of each head W x
DETR_KERNEL(from_heads) {
    int64_t d = call.in[0].last(), n = call.integer(0), head = d / n, rows = call.in[0].rows() / n;
#pragma omp parallel for
    for (int64_t i = 0; i < n; i++)
        multiply('N', 'T', rows, head, d, call.in[0].f32() + i * d, n * d, call.in[1].f32() + i * head * d, d,
                 call.out[0].f32() + i * head, d);
}

// in: x [B, K, D], y [B, K, n, D]; out: [D, D], the gradient of the weight that led from one to the other
DETR_KERNEL(heads_weight) {
    int64_t rows = call.in[0].rows(), d = call.in[0].last(), n = call.integer(0), head = d / n;
#pragma omp parallel for
    for (int64_t i = 0; i < n; i++)
        multiply('T', 'N', head, d, rows, call.in[0].f32() + i * head, d, call.in[1].f32() + i * d, n * d,
                 call.out[0].f32() + i * head * d, d);
}

}  // namespace detr
