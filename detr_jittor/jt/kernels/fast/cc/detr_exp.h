// The exponential function, sine and cosine of as many numbers as fill a register.
#pragma once
#include "detr_multiply.h"

namespace detr {

// eˣ for x ≤ 0 to 1.1 units in the last place; 0 below -87.3. Reduction by ln 2 and a polynomial (Cephes, expf).
inline Block<lanes>::Lanes exp_negative(Block<lanes>::Lanes x) {
    using Lanes = Block<lanes>::Lanes;
    typedef int32_t Integers __attribute__((vector_size(4 * lanes)));
    Lanes clamped = x < -87.3f ? Lanes{} - 87.3f : x;
    Lanes n = (clamped * 1.44269504f + 12582912.f) - 12582912.f;  // to the nearest integer
    Lanes r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
    Lanes p = Lanes{} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    Lanes e = p * r * r + r + 1.f;
    Integers power = (__builtin_convertvector(n, Integers) + 127) << 23;
    return x < -87.3f ? Lanes{} : e * (Lanes)power;
}

// sin x and cos x for |x| < 1000, to 7.6e-8: what is left of x after whole quarters of a turn, in
// three parts of π / 2, and polynomials (Cephes, sinf and cosf)
inline void sine_cosine(Block<lanes>::Lanes x, Block<lanes>::Lanes& sine, Block<lanes>::Lanes& cosine) {
    using Lanes = Block<lanes>::Lanes;
    typedef int32_t Integers __attribute__((vector_size(4 * lanes)));
    Lanes n = (x * 0.636619772f + 12582912.f) - 12582912.f;  // to the nearest integer
    Lanes r = ((x - n * 1.5703125f) - n * 4.837512969970703e-4f) - n * 7.54978995489188e-8f;
    Lanes z = r * r;
    Lanes s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * r + r;
    Lanes c = ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.f;
    Integers quarter = __builtin_convertvector(n, Integers);
    Integers odd = (quarter & 1) != 0;
    Lanes first = odd ? c : s, second = odd ? s : c;
    sine = (quarter & 2) != 0 ? -first : first;
    cosine = ((quarter + 1) & 2) != 0 ? -second : second;
}

}  // namespace detr
