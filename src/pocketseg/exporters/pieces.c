/* What files of `pocketseg export --to c` are made of. A piece begins at a line that names it, with the pieces that it
   calls; a file holds those that its net needs, in this order. Single numbers are computed in the order of the plain
   kernels of the engine (native/src/scalar, native/src/pipeline), so that results are the same to the bit.

   A tensor keeps the rows that something will still read: row y lies in the place of row y - rows. The channels of a
   pixel lie side by side. A result is computed row by row, channel by channel, in `line`. */

/*: tensor */
typedef struct {
    uint8_t *codes; /* one of the two is there */
    float *floats;
    int32_t height, width;
    int32_t rows;            /* that are kept */
    int32_t pixel;           /* numbers from a pixel to the next; of codes bytes */
    int32_t plane;           /* of signs: bytes from a plane to the next */
    int32_t first, channels; /* of a pixel */
} tensor;

/*: least */
static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

/*: slice tensor */
static tensor slice(tensor of, int32_t first, int32_t channels) {
    of.first += first;
    of.channels = channels;
    return of;
}

/*: codes_at tensor */
static uint8_t *codes_at(const tensor *of, int32_t y, int32_t channel) {
    return of->codes + (y % of->rows) * of->width * of->pixel + of->first + channel;
}

/*: wide_at tensor */
static uint8_t *wide_at(const tensor *of, int32_t y, int32_t channel) {
    return of->codes + (y % of->rows) * of->width * of->pixel + 4 * (of->first + channel);
}

/*: signs_at tensor */
static uint8_t *signs_at(const tensor *of, int32_t y) { return of->codes + (y % of->rows) * of->width * of->pixel; }

/*: floats_at tensor */
static float *floats_at(const tensor *of, int32_t y, int32_t channel) {
    return of->floats + (y % of->rows) * of->width * of->pixel + of->first + channel;
}

/*: whole_of */
static int32_t whole_of(const uint8_t *from) {
    int32_t value;
    memcpy(&value, from, 4);
    return value;
}

/*: window */
typedef struct {
    int32_t height, width, stride_y, stride_x, dilation_y, dilation_x, above, left;
} window;

/*: columns least window */
/* The columns of a result, first to last - 1, whose tap lies in an image; `at` is where the tap of the first lies. */
static void columns(const window *w, int32_t tap, int32_t width, int32_t count, int32_t *at, int32_t *first,
                    int32_t *last) {
    *at = tap * w->dilation_x - w->left;
    *first = *at >= 0 ? 0 : (w->stride_x - 1 - *at) / w->stride_x;
    *last = *at >= width ? 0 : least(count, (width - 1 - *at) / w->stride_x + 1);
}

/*: CONVOLUTION tensor window columns */
/* sums[x] += x[tap, channel] * filter[tap, channel] over the taps in the image, row by row, and the channels of a tap;
   of f32 each product and each sum is rounded. */
#define CONVOLUTION(NAME, SUM, WEIGHT, NUMBER, PIXELS, VALUE)                                                         \
    static void NAME(SUM *sums, int32_t count, const WEIGHT *filter, const window *w, int32_t y, const tensor *parts, \
                     int32_t many, int32_t zero) {                                                                    \
        int32_t i, j, part, at, x, last, c;                                                                           \
        (void)zero;                                                                                                   \
        for (x = 0; x < count; ++x) sums[x] = 0;                                                                      \
        for (i = 0; i < w->height; ++i) {                                                                             \
            const int32_t row = y * w->stride_y - w->above + i * w->dilation_y;                                       \
            for (j = 0; j < w->width; ++j)                                                                            \
                for (part = 0; part < many; ++part) {                                                                 \
                    const tensor *in = parts + part;                                                                  \
                    const int32_t channels = in->channels, step = in->pixel * w->stride_x;                            \
                    if (row >= 0 && row < in->height) {                                                               \
                        const NUMBER *pixels = PIXELS(in, row, 0);                                                    \
                        columns(w, j, in->width, count, &at, &x, &last);                                              \
                        at = at * in->pixel + x * step;                                                               \
                        if (channels == 1) { /* depthwise */                                                          \
                            const SUM weight = (SUM)filter[0];                                                        \
                            for (c = 0; x < last; ++x, at += step) {                                                  \
                                const NUMBER *from = pixels + at;                                                     \
                                sums[x] = sums[x] + (SUM)(VALUE) * weight;                                            \
                            }                                                                                         \
                        }                                                                                             \
                        for (; x < last; ++x, at += step) {                                                           \
                            const NUMBER *from = pixels + at;                                                         \
                            SUM sum = sums[x];                                                                        \
                            for (c = 0; c < channels; ++c) sum = sum + (SUM)(VALUE) * (SUM)filter[c];                 \
                            sums[x] = sum;                                                                            \
                        }                                                                                             \
                    }                                                                                                 \
                    filter += channels;                                                                               \
                }                                                                                                     \
        }                                                                                                             \
    }

/*: convolve_u8 CONVOLUTION codes_at */
CONVOLUTION(convolve_u8, int32_t, int8_t, uint8_t, codes_at, (int32_t)from[c] - zero)

/*: convolve_u8_wide CONVOLUTION codes_at */
CONVOLUTION(convolve_u8_wide, int64_t, int32_t, uint8_t, codes_at, (int32_t)from[c] - zero)

/*: convolve_s8 CONVOLUTION codes_at */
CONVOLUTION(convolve_s8, int32_t, int8_t, uint8_t, codes_at, ((int32_t)from[c] ^ 128) - 128 - zero)

/*: convolve_s8_wide CONVOLUTION codes_at */
CONVOLUTION(convolve_s8_wide, int64_t, int32_t, uint8_t, codes_at, ((int32_t)from[c] ^ 128) - 128 - zero)

/*: convolve_s32 CONVOLUTION wide_at whole_of */
CONVOLUTION(convolve_s32, int32_t, int8_t, uint8_t, wide_at, whole_of(from + 4 * c) - zero)

/*: convolve_s32_wide CONVOLUTION wide_at whole_of */
CONVOLUTION(convolve_s32_wide, int64_t, int32_t, uint8_t, wide_at, whole_of(from + 4 * c) - zero)

/*: convolve_f32 CONVOLUTION floats_at */
CONVOLUTION(convolve_f32, float, float, float, floats_at, from[c])

/*: SIGNS tensor window signs_at */
/* The same over plane `plane` of signs. What lies outside of the image is a sign as well. */
#define SIGNS(NAME, SUM, WEIGHT)                                                                                    \
    static void NAME(SUM *sums, int32_t count, const WEIGHT *filter, const window *w, int32_t y, const tensor *parts, \
                     int32_t many, int32_t plane, int32_t outside) {                                                \
        int32_t i, j, part, x, c;                                                                                   \
        for (x = 0; x < count; ++x) sums[x] = 0;                                                                    \
        for (i = 0; i < w->height; ++i) {                                                                           \
            const int32_t row = y * w->stride_y - w->above + i * w->dilation_y;                                     \
            for (j = 0; j < w->width; ++j)                                                                          \
                for (part = 0; part < many; ++part) {                                                               \
                    const tensor *in = parts + part;                                                                \
                    for (x = 0; x < count; ++x) {                                                                   \
                        const int32_t column = x * w->stride_x - w->left + j * w->dilation_x;                       \
                        const int inside = row >= 0 && row < in->height && column >= 0 && column < in->width;       \
                        const uint8_t *from =                                                                       \
                            inside ? signs_at(in, row) + column * in->pixel + plane * in->plane : in->codes;        \
                        SUM sum = sums[x];                                                                          \
                        for (c = 0; c < in->channels; ++c) {                                                        \
                            const int32_t bit = in->first + c;                                                      \
                            const int plus = inside ? from[bit / 8] >> bit % 8 & 1 : outside;                       \
                            sum += plus ? (SUM)filter[c] : -(SUM)filter[c];                                         \
                        }                                                                                           \
                        sums[x] = sum;                                                                              \
                    }                                                                                               \
                    filter += in->channels;                                                                         \
                }                                                                                                   \
        }                                                                                                           \
    }

/*: convolve_signs SIGNS */
SIGNS(convolve_signs, int32_t, int8_t)

/*: convolve_signs_wide SIGNS */
SIGNS(convolve_signs_wide, int64_t, int32_t)

/*: transposed tensor window floats_at */
/* The taps that reach a pixel, row by row, and the channels within a tap. */
static void transposed(float *sums, int32_t count, const float *filter, const window *w, int32_t y, const tensor *parts,
                       int32_t many, int32_t zero) {
    int32_t i, j, part, x, c;
    (void)zero;
    for (x = 0; x < count; ++x) sums[x] = 0;
    for (i = 0; i < w->height; ++i) {
        const int32_t row = y + w->above - i * w->dilation_y;
        for (j = 0; j < w->width; ++j)
            for (part = 0; part < many; ++part) {
                const tensor *in = parts + part;
                for (x = 0; x < count; ++x) {
                    const int32_t column = x + w->left - j * w->dilation_x;
                    const float *from;
                    float sum = sums[x];
                    if (row < 0 || column < 0 || row % w->stride_y || column % w->stride_x) continue;
                    if (row / w->stride_y >= in->height || column / w->stride_x >= in->width) continue;
                    from = floats_at(in, row / w->stride_y, 0) + column / w->stride_x * in->pixel;
                    for (c = 0; c < in->channels; ++c) sum = sum + from[c] * filter[c];
                    sums[x] = sum;
                }
                filter += in->channels;
            }
    }
}

/*: code_of */
/* Number `at` of a stream of codes of some bits, the lowest bit first. */
static uint32_t code_of(const uint8_t *data, int32_t at, int32_t bits) {
    const int32_t bit = at * bits, end = bit % 8 + bits;
    uint32_t value = data[bit / 8];
    if (end > 8) value |= (uint32_t)data[bit / 8 + 1] << 8;
    if (end > 16) value |= (uint32_t)data[bit / 8 + 2] << 16;
    if (end > 24) value |= (uint32_t)data[bit / 8 + 3] << 24;
    return value >> bit % 8 & ((1u << bits) - 1);
}

/*: signed_of code_of */
static int32_t signed_of(const uint8_t *data, int32_t at, int32_t bits) {
    const int32_t code = (int32_t)code_of(data, at, bits), half = (int32_t)1 << (bits - 1);
    return (code ^ half) - half;
}

/*: integer_of signed_of */
static int32_t integer_of(const uint8_t *data, int32_t at, int32_t bits) { return signed_of(data, at, bits); }

/*: power_of signed_of */
/* +-2^k is stored as +-(k + 1). */
static int32_t power_of(const uint8_t *data, int32_t at, int32_t bits) {
    const int32_t code = signed_of(data, at, bits);
    return code == 0 ? 0 : code > 0 ? (int32_t)1 << (code - 1) : -((int32_t)1 << (-code - 1));
}

/*: sign_of */
static int32_t sign_of(const uint8_t *data, int32_t at, int32_t bits) {
    (void)bits;
    return data[at / 8] >> at % 8 & 1 ? 1 : -1;
}

/*: FILTER */
/* `count` weights from number `at` on. */
#define FILTER(NAME, NUMBER, OF)                                                              \
    static void NAME(NUMBER *to, const uint8_t *data, int32_t at, int32_t count, int32_t bits) { \
        int32_t i;                                                                            \
        for (i = 0; i < count; ++i) to[i] = (NUMBER)OF(data, at + i, bits);                   \
    }

/*: integers_s8 FILTER integer_of */
FILTER(integers_s8, int8_t, integer_of)

/*: integers_s32 FILTER integer_of */
FILTER(integers_s32, int32_t, integer_of)

/*: integers_f32 FILTER integer_of */
FILTER(integers_f32, float, integer_of)

/*: powers_s8 FILTER power_of */
FILTER(powers_s8, int8_t, power_of)

/*: powers_s32 FILTER power_of */
FILTER(powers_s32, int32_t, power_of)

/*: powers_f32 FILTER power_of */
FILTER(powers_f32, float, power_of)

/*: signs_s8 FILTER sign_of */
FILTER(signs_s8, int8_t, sign_of)

/*: signs_s32 FILTER sign_of */
FILTER(signs_s32, int32_t, sign_of)

/*: signs_f32 FILTER sign_of */
FILTER(signs_f32, float, sign_of)

/*: halves_f32 */
/* bf16: the upper half of an f32. */
static void halves_f32(float *to, const uint16_t *data, int32_t at, int32_t count) {
    int32_t i;
    for (i = 0; i < count; ++i) {
        const uint32_t bits = (uint32_t)data[at + i] << 16;
        memcpy(to + i, &bits, 4);
    }
}

/*: SCALE */
/* y = f32(sum) * m + b, two roundings. */
#define SCALE(NAME, SUM)                                                                       \
    static void NAME(float *to, const SUM *sums, int32_t count, float m, float b) {            \
        int32_t x;                                                                             \
        for (x = 0; x < count; ++x) {                                                          \
            const float product = (float)sums[x] * m;                                          \
            to[x] = product + b;                                                               \
        }                                                                                      \
    }

/*: scale_s32 SCALE */
SCALE(scale_s32, int32_t)

/*: scale_s64 SCALE */
SCALE(scale_s64, int64_t)

/*: scale_f32 SCALE */
SCALE(scale_f32, float)

/*: PLANE */
/* y = f32(sum) * m of the first pair of planes; of the others y + f32(sum) * m. */
#define PLANE(NAME, SUM)                                                                       \
    static void NAME(float *to, const SUM *sums, int32_t count, float m, int first) {          \
        int32_t x;                                                                             \
        for (x = 0; x < count; ++x) {                                                          \
            const float product = (float)sums[x] * m;                                          \
            to[x] = first ? product : to[x] + product;                                         \
        }                                                                                      \
    }

/*: plane_s32 PLANE */
PLANE(plane_s32, int32_t)

/*: plane_s64 PLANE */
PLANE(plane_s64, int64_t)

/*: plane_f32 PLANE */
PLANE(plane_f32, float)

/*: offset */
static void offset(float *to, const float *from, int32_t count, float b) {
    int32_t x;
    for (x = 0; x < count; ++x) to[x] = from[x] + b;
}

/*: affine */
static void affine(float *values, int32_t count, float m, float b) {
    int32_t x;
    for (x = 0; x < count; ++x) {
        const float product = values[x] * m;
        values[x] = product + b;
    }
}

/*: relu */
static void relu(float *values, int32_t count) {
    int32_t x;
    for (x = 0; x < count; ++x) values[x] = values[x] < 0 ? 0 : values[x];
}

/*: clip */
static void clip(float *values, int32_t count, float low, float high) {
    int32_t x;
    for (x = 0; x < count; ++x) values[x] = values[x] < low ? low : values[x] > high ? high : values[x];
}

/*: add floats_at */
/* A tensor of one pixel meets larger ones as if it were repeated. */
static void add(float *values, int32_t count, const tensor *other, int32_t y, int32_t channel) {
    const int32_t one = other->height == 1 && other->width == 1;
    const float *from = floats_at(other, one ? 0 : y, channel);
    int32_t x;
    for (x = 0; x < count; ++x) values[x] = values[x] + from[one ? 0 : x * other->pixel];
}

/*: multiply floats_at */
static void multiply(float *values, int32_t count, const tensor *other, int32_t y, int32_t channel) {
    const int32_t one = other->height == 1 && other->width == 1;
    const float *from = floats_at(other, one ? 0 : y, channel);
    int32_t x;
    for (x = 0; x < count; ++x) values[x] = values[x] * from[one ? 0 : x * other->pixel];
}

/*: look */
/* Notes where nan or inf would become a code: of them the difference to itself is not 0. */
static void look(const float *values, int32_t count) {
    int32_t x;
    for (x = 0; x < count; ++x) finite &= values[x] - values[x] == 0.0f;
}

/*: uniform */
typedef struct {
    float inverse, scale;
    int32_t zero, lowest, highest;
} uniform;

/*: uniform_code uniform */
/* clip(rint(x * inverse) + zero), half to even. Clipping to whole numbers first changes nothing; adding 1.5 * 2^23 leaves
   a whole number. In this order nan becomes a code as well. */
static int32_t uniform_code(float x, const uniform *grid) {
    const float low = (float)(grid->lowest - grid->zero), high = (float)(grid->highest - grid->zero);
    const float scaled = x * grid->inverse;
    const float inside = !(scaled > low) ? low : scaled < high ? scaled : high;
    const float whole = (inside + 12582912.0f) - 12582912.0f;
    return (int32_t)whole + grid->zero;
}

/*: power */
typedef struct {
    int32_t i, f;
} power;

/*: power_code power */
/* +-2^rint(log2|x|) in steps of 2^-f; 0 of what is too small. */
static int32_t power_code(float x, const power *grid) {
    const float half = x < 0 ? -x : x;
    uint32_t bits;
    int32_t exponent, shift;
    float mantissa;
    memcpy(&bits, &half, 4);
    exponent = (int32_t)(bits >> 23) - 127;
    if (exponent == 128 || exponent == -127) return 0;
    bits = (bits & 0x7fffffu) | 126u << 23;
    memcpy(&mantissa, &bits, 4);
    exponent += mantissa > 0.70710677f;
    if (exponent < -grid->f) return 0;
    shift = exponent + grid->f < grid->i + grid->f - 1 ? exponent + grid->f : grid->i + grid->f - 1;
    return x < 0 ? -((int32_t)1 << shift) : (int32_t)1 << shift;
}

/*: PUT */
#define PUT(NAME, GRID, OF, PIXELS, STORE)                                                                   \
    static void NAME(const float *values, int32_t count, const tensor *to, int32_t y, int32_t channel,       \
                     const GRID *grid) {                                                                     \
        uint8_t *at = PIXELS(to, y, channel);                                                                \
        int32_t x;                                                                                           \
        for (x = 0; x < count; ++x) {                                                                        \
            const int32_t code = OF(values[x], grid);                                                        \
            STORE;                                                                                           \
        }                                                                                                    \
    }

/*: put_uniform PUT uniform_code codes_at */
PUT(put_uniform, uniform, uniform_code, codes_at, at[x * to->pixel] = (uint8_t)(code & 255))

/*: put_uniform_s32 PUT uniform_code wide_at */
PUT(put_uniform_s32, uniform, uniform_code, wide_at, memcpy(at + x * to->pixel, &code, 4))

/*: put_power PUT power_code codes_at */
PUT(put_power, power, power_code, codes_at, at[x * to->pixel] = (uint8_t)(code & 255))

/*: put_power_s32 PUT power_code wide_at */
PUT(put_power_s32, power, power_code, wide_at, memcpy(at + x * to->pixel, &code, 4))

/*: put_signs signs_at */
/* b = sign(x), and the rest x - gamma * b goes on; sign(0) = +1. */
static void put_signs(const float *values, int32_t count, const tensor *to, int32_t y, int32_t channel,
                      const float *gammas, int32_t planes) {
    const int32_t bit = to->first + channel;
    const uint8_t one = (uint8_t)(1u << bit % 8);
    uint8_t *at = signs_at(to, y) + bit / 8;
    int32_t x, q;
    for (x = 0; x < count; ++x) {
        float rest = values[x];
        for (q = 0; q < planes; ++q) {
            const int plus = rest >= 0;
            uint8_t *byte = at + x * to->pixel + q * to->plane;
            *byte = (uint8_t)(plus ? *byte | one : *byte & ~one);
            rest = rest - (plus ? gammas[q] : -gammas[q]);
        }
    }
}

/*: put_f32 floats_at */
static void put_f32(const float *values, int32_t count, const tensor *to, int32_t y, int32_t channel) {
    float *at = floats_at(to, y, channel);
    int32_t x;
    for (x = 0; x < count; ++x) at[x * to->pixel] = values[x];
}

/*: snap_uniform uniform_code */
/* The value of the code. */
static void snap_uniform(float *values, int32_t count, const uniform *grid) {
    int32_t x;
    for (x = 0; x < count; ++x) values[x] = (float)(uniform_code(values[x], grid) - grid->zero) * grid->scale;
}

/*: snap_power power_code */
static void snap_power(float *values, int32_t count, const power *grid, float scale) {
    int32_t x;
    for (x = 0; x < count; ++x) values[x] = (float)power_code(values[x], grid) * scale;
}

/*: snap_signs */
static void snap_signs(float *values, int32_t count, const float *gammas, int32_t planes) {
    int32_t x, q;
    for (x = 0; x < count; ++x) {
        float rest = values[x], total = 0;
        for (q = 0; q < planes; ++q) {
            const float part = rest >= 0 ? gammas[q] : -gammas[q];
            rest = rest - part;
            total = q == 0 ? part : total + part;
        }
        values[x] = total;
    }
}

/*: take floats_at */
/* Every pixel `factor` times. */
static void take(float *to, int32_t count, const tensor *in, int32_t y, int32_t channel, int32_t factor) {
    const float *from = floats_at(in, y, channel);
    int32_t x;
    for (x = 0; x < count; ++x) to[x] = from[x / factor * in->pixel];
}

/*: largest tensor window floats_at */
static void largest(float *to, int32_t count, const window *w, int32_t y, const tensor *in, int32_t channel) {
    int32_t x, i, j;
    for (x = 0; x < count; ++x) {
        int first = 1;
        to[x] = 0;
        for (i = 0; i < w->height; ++i)
            for (j = 0; j < w->width; ++j) {
                const int32_t row = y * w->stride_y - w->above + i * w->dilation_y;
                const int32_t column = x * w->stride_x - w->left + j * w->dilation_x;
                float value;
                if (row < 0 || row >= in->height || column < 0 || column >= in->width) continue;
                value = floats_at(in, row, channel)[column * in->pixel];
                if (first || value > to[x]) to[x] = value;
                first = 0;
            }
    }
}

/*: average tensor window floats_at */
static void average(float *to, int32_t count, const window *w, int32_t y, const tensor *in, int32_t channel) {
    int32_t x, i, j;
    for (x = 0; x < count; ++x) {
        float sum = 0;
        for (i = 0; i < w->height; ++i)
            for (j = 0; j < w->width; ++j) {
                const int32_t row = y * w->stride_y + i, column = x * w->stride_x + j;
                if (row < in->height && column < in->width)
                    sum = sum + floats_at(in, row, channel)[column * in->pixel];
            }
        to[x] = sum / (float)(w->height * w->width);
    }
}

/*: mean floats_at */
static void mean(float *to, const tensor *in, int32_t channel) {
    double sum = 0;
    int32_t x, y;
    for (y = 0; y < in->height; ++y)
        for (x = 0; x < in->width; ++x) sum += (double)floats_at(in, y, channel)[x * in->pixel];
    to[0] = (float)(sum / ((double)in->height * in->width));
}

/*: between */
/* Where row or column `at` of a bilinear result lies: between two of the input, and how far from the first. */
static float between(int32_t at, int32_t size, float step, int corners, int32_t *low, int32_t *high) {
    const float exact = corners ? step * (float)at : step * ((float)at + 0.5f) - 0.5f;
    const float place = exact > 0 ? exact : 0;
    *low = (int32_t)place;
    if (*low > size - 1) *low = size - 1;
    *high = *low + 1 < size ? *low + 1 : *low;
    return place - (float)*low;
}

/*: bilinear between floats_at */
static void bilinear(float *to, int32_t count, int32_t y, float step_y, float step_x, int corners, const tensor *in,
                     int32_t channel) {
    int32_t x, upper, lower, left, right;
    const float v = between(y, in->height, step_y, corners, &upper, &lower);
    for (x = 0; x < count; ++x) {
        const float u = between(x, in->width, step_x, corners, &left, &right);
        const float *a = floats_at(in, upper, channel), *b = floats_at(in, lower, channel);
        const float above = a[left * in->pixel] * (1 - u) + a[right * in->pixel] * u;
        const float below = b[left * in->pixel] * (1 - u) + b[right * in->pixel] * u;
        to[x] = above * (1 - v) + below * v;
    }
}

/*: move tensor */
/* Codes as they are, of `bytes` bytes each. Row `row` of the input, every pixel `factor` times, from `left` on; what lies
   outside is `zero`. */
static void move(const tensor *to, int32_t y, int32_t at, const tensor *in, int32_t row, int32_t channel,
                 int32_t bytes, int32_t channels, int32_t factor, int32_t left, int32_t zero) {
    const int32_t inside = row >= 0 && row < in->height;
    int32_t x, c;
    uint8_t *out = to->codes + (y % to->rows) * to->width * to->pixel + bytes * (to->first + at);
    const uint8_t *from =
        inside ? in->codes + (row % in->rows) * in->width * in->pixel + bytes * (in->first + channel) : in->codes;
    for (x = 0; x < to->width; ++x) {
        const int32_t column = (x - left) / factor;
        if (inside && x >= left && column < in->width)
            memcpy(out + x * to->pixel, from + column * in->pixel, (size_t)(bytes * channels));
        else
            for (c = 0; c < channels; ++c) {
                if (bytes == 4)
                    memcpy(out + x * to->pixel + 4 * c, &zero, 4);
                else
                    out[x * to->pixel + c] = (uint8_t)(zero & 255);
            }
    }
}

/*: move_signs signs_at */
/* Signs as they are: `bytes` bytes of each plane. Bits behind the last channel are never read. */
static void move_signs(const tensor *to, int32_t y, int32_t at, const tensor *in, int32_t row, int32_t channel,
                       int32_t planes, int32_t bytes, int32_t factor, int32_t left, const uint8_t *zeros) {
    const int32_t inside = row >= 0 && row < in->height;
    int32_t x, q, i;
    for (x = 0; x < to->width; ++x) {
        const int32_t column = (x - left) / factor;
        for (q = 0; q < planes; ++q) {
            uint8_t *out = signs_at(to, y) + x * to->pixel + q * to->plane + (to->first + at) / 8;
            if (inside && x >= left && column < in->width)
                memcpy(out, signs_at(in, row) + column * in->pixel + q * in->plane + (in->first + channel) / 8,
                       (size_t)bytes);
            else
                for (i = 0; i < bytes; ++i) out[i] = zeros[q] ? 255 : 0;
        }
    }
}

/*: MAXIMUM tensor window */
/* The largest code of a window; padding never wins. */
#define MAXIMUM(NAME, PIXELS, VALUE, STORE)                                                                     \
    static void NAME(const tensor *to, int32_t y, int32_t at, const window *w, const tensor *in, int32_t channel) { \
        int32_t x, i, j;                                                                                        \
        for (x = 0; x < to->width; ++x) {                                                                       \
            uint8_t *out = PIXELS(to, y, at) + x * to->pixel;                                                   \
            int32_t most = 0;                                                                                   \
            int first = 1;                                                                                      \
            for (i = 0; i < w->height; ++i)                                                                     \
                for (j = 0; j < w->width; ++j) {                                                                \
                    const int32_t row = y * w->stride_y - w->above + i * w->dilation_y;                         \
                    const int32_t column = x * w->stride_x - w->left + j * w->dilation_x;                       \
                    const uint8_t *from;                                                                        \
                    int32_t code;                                                                               \
                    if (row < 0 || row >= in->height || column < 0 || column >= in->width) continue;            \
                    from = PIXELS(in, row, channel) + column * in->pixel;                                       \
                    code = VALUE;                                                                               \
                    if (first || code > most) most = code;                                                      \
                    first = 0;                                                                                  \
                }                                                                                               \
            STORE;                                                                                              \
        }                                                                                                       \
    }

/*: largest_u8 MAXIMUM codes_at */
MAXIMUM(largest_u8, codes_at, *from, *out = (uint8_t)(most & 255))

/*: largest_s8 MAXIMUM codes_at */
MAXIMUM(largest_s8, codes_at, ((int32_t)*from ^ 128) - 128, *out = (uint8_t)(most & 255))

/*: largest_s32 MAXIMUM wide_at whole_of */
MAXIMUM(largest_s32, wide_at, whole_of(from), memcpy(out, &most, 4))

/*: largest_signs tensor window signs_at */
/* One plane: +1 wins. */
static void largest_signs(const tensor *to, int32_t y, int32_t at, const window *w, const tensor *in, int32_t channel) {
    const int32_t from = in->first + channel, bit = to->first + at;
    const uint8_t one = (uint8_t)(1u << bit % 8);
    int32_t x, i, j;
    for (x = 0; x < to->width; ++x) {
        uint8_t *out = signs_at(to, y) + x * to->pixel + bit / 8;
        int plus = 0;
        for (i = 0; i < w->height; ++i)
            for (j = 0; j < w->width; ++j) {
                const int32_t row = y * w->stride_y - w->above + i * w->dilation_y;
                const int32_t column = x * w->stride_x - w->left + j * w->dilation_x;
                if (row < 0 || row >= in->height || column < 0 || column >= in->width) continue;
                plus |= signs_at(in, row)[column * in->pixel + from / 8] >> from % 8 & 1;
            }
        *out = (uint8_t)(plus ? *out | one : *out & ~one);
    }
}

/*: see least */
/* A row of a channel of the image, as the net sees it. Past its end, the last row and column are repeated. */
static void see(float *to, int32_t count, const uint8_t *pixels, int32_t y, int32_t channel, const float *values) {
    const uint8_t *row = pixels + least(y, HEIGHT - 1) * WIDTH * CHANNELS + channel;
    int32_t x;
    for (x = 0; x < count; ++x) to[x] = values[row[least(x, WIDTH - 1) * CHANNELS]];
}

/*: stretch */
/* `min-max`: from the image's lowest number to its highest. */
static void stretch(const uint8_t *pixels) {
    uint8_t low = 255, high = 0;
    double span;
    int32_t i;
    for (i = 0; i < HEIGHT * WIDTH * CHANNELS; ++i) {
        if (pixels[i] < low) low = pixels[i];
        if (pixels[i] > high) high = pixels[i];
    }
    span = (double)unit[high] - (double)unit[low];
    if (span < 1e-6) span = 1e-6;
    for (i = 0; i < 256; ++i) intensities[0][i] = (unit[i] - unit[low]) / (float)span;
}

/*: square_root */
/* Correctly rounded, bit by bit; x is 0 or a normal number. */
static double square_root(double x) {
    uint64_t bits, number, root = 0, rest = 0;
    int32_t exponent, i;
    memcpy(&bits, &x, 8);
    if (bits == 0) return 0;
    exponent = (int32_t)(bits >> 52) - 1023;
    number = (bits & (((uint64_t)1 << 52) - 1)) | (uint64_t)1 << 52;
    if (exponent & 1) number <<= 1, exponent -= 1;
    for (i = 0; i < 54; ++i) {
        /* The number has 54 bits, and 54 zeros follow. */
        rest = rest << 2 | (i < 27 ? number >> (52 - 2 * i) & 3 : 0);
        root <<= 1;
        if (rest >= 2 * root + 1) {
            rest -= 2 * root + 1;
            root += 1;
        }
    }
    root = (root >> 1) + (root & 1);
    bits = (uint64_t)(exponent / 2 + 1022) << 52;
    bits += root;
    memcpy(&x, &bits, 8);
    return x;
}

/*: total */
/* The sum of numbers of the image, of them less `less` or of the squares of that: the second half is added to the first,
   again and again. */
static double total(const uint8_t *pixels, int32_t level, int32_t at, double less, int squares) {
    double sum;
    if (level == 0) {
        const int32_t place = at % (HEIGHT * WIDTH) * CHANNELS + at / (HEIGHT * WIDTH);
        const double away = (double)unit[pixels[place]] - less;
        return squares ? away * away : (double)unit[pixels[place]];
    }
    sum = total(pixels, level - 1, at, less, squares);
    if (at + halves[level] < halves[level - 1]) sum += total(pixels, level - 1, at + halves[level], less, squares);
    return sum;
}

/*: standardize total square_root */
/* `z-score`: by the image's mean and standard deviation. */
static void standardize(const uint8_t *pixels, double most) {
    const double count = (double)(HEIGHT * WIDTH * CHANNELS);
    const double mean = total(pixels, LEVELS, 0, 0, 0) / count;
    double std = square_root(total(pixels, LEVELS, 0, mean, 1) / count);
    int32_t i;
    if (std < 1e-6) std = 1e-6;
    for (i = 0; i < 256; ++i) {
        const double value = ((double)unit[i] - mean) / std;
        intensities[0][i] = (float)(most <= 0 ? value : value < -most ? -most : value > most ? most : value);
    }
}

/*: exponential */
/* e^x of x <= 0, within two units of the last place (S. Moshier's Cephes library, expf). */
static float exponential(float x) {
    const float inside = x > -87.0f ? x : -87.0f;
    const float whole = (inside * 1.44269504f + 12582912.0f) - 12582912.0f;
    const float rest = (inside - whole * 0.693359375f) - whole * -2.12194440e-4f;
    const uint32_t bits = (uint32_t)((int32_t)whole + 127) << 23;
    float power, series = 1.9875691500e-4f;
    series = series * rest + 1.3981999507e-3f;
    series = series * rest + 8.3334519073e-3f;
    series = series * rest + 4.1665795894e-2f;
    series = series * rest + 1.6666665459e-1f;
    series = series * rest + 5.0000001201e-1f;
    series = series * (rest * rest) + rest + 1.0f;
    memcpy(&power, &bits, 4);
    return x < -87.0f ? 0.0f : series * power;
}

/*: decide_each exponential */
/* A class with a logit of its own: is there where its probability reaches the threshold. Bit 7: it reaches `peak`. */
static void decide_each(uint8_t *to, const float *from, float threshold, float peak) {
    int32_t x;
    for (x = 0; x < WIDTH; ++x) {
        const float small = exponential(from[x] >= 0 ? -from[x] : from[x]);
        const float probability = (from[x] >= 0 ? 1.0f : small) / (1.0f + small);
        to[x] = (uint8_t)((probability >= threshold) | (peak > 0 && probability >= peak) << 7);
    }
}

/*: decide_most exponential */
/* Classes that exclude each other: the most probable one, in a tie the first. Bit 7: it reaches `peak`. */
static void decide_most(uint8_t *to, const float *from, int32_t width, float peak) {
    float powers[LOGITS];
    int32_t x, k;
    for (x = 0; x < WIDTH; ++x) {
        float most = from[x], sum, others, best;
        int32_t winner = 0;
        for (k = 1; k < LOGITS; ++k) most = most < from[k * width + x] ? from[k * width + x] : most;
        for (k = 0; k < LOGITS; ++k) powers[k] = exponential(from[k * width + x] - most);
        sum = powers[0];
        for (k = 1; k < LOGITS; ++k) sum = sum + powers[k];
        for (k = 1; k < LOGITS; ++k) powers[k] = powers[k] / sum;
        others = powers[1];
        for (k = 2; k < LOGITS; ++k) others = others + powers[k];
        best = 1 - others;
        for (k = 1; k < LOGITS; ++k)
            if (powers[k] > best) {
                best = powers[k];
                winner = k;
            }
        to[x] = (uint8_t)(winner | (winner && peak > 0 && best >= peak) << 7);
    }
}

/*: parents */
/* Of each pixel another one of its component; the first one is its own. They and the sizes of components lie in the
   arena, which the net has no use for any more. */
static int32_t number_at(const uint8_t *from, int32_t at) {
    int32_t value = 0, i;
    for (i = INDEX_BYTES; i-- > 0;) value = value << 8 | from[at * INDEX_BYTES + i];
    return value;
}

static void set_number(uint8_t *to, int32_t at, int32_t value) {
    int32_t i;
    for (i = 0; i < INDEX_BYTES; ++i, value >>= 8) to[at * INDEX_BYTES + i] = (uint8_t)(value & 255);
}

static int32_t root_of(int32_t at) {
    int32_t next;
    while ((next = number_at(parents, at)) != at) {
        set_number(parents, at, number_at(parents, next));
        at = next;
    }
    return at;
}

static void join(int32_t a, int32_t b) {
    a = root_of(a);
    b = root_of(b);
    set_number(parents, a > b ? a : b, a > b ? b : a);
}

/* Joins pixels of a value that touch, also at corners where `corners` is set. */
static void find_components(int value, int corners) {
    int32_t x, y;
    for (y = 0; y < HEIGHT; ++y)
        for (x = 0; x < WIDTH; ++x) {
            const int32_t at = y * WIDTH + x;
            set_number(sizes, at, 0);
            if (own[at] != value) continue;
            set_number(parents, at, at);
            if (x > 0 && own[at - 1] == value) join(at, at - 1);
            if (y > 0 && own[at - WIDTH] == value) join(at, at - WIDTH);
            if (corners && y > 0 && x > 0 && own[at - WIDTH - 1] == value) join(at, at - WIDTH - 1);
            if (corners && y > 0 && x + 1 < WIDTH && own[at - WIDTH + 1] == value) join(at, at - WIDTH + 1);
        }
}

/*: fill_holes parents */
/* Fills what is 0 and is not joined with the border. */
static void fill_holes(void) {
    int32_t x, y, at;
    find_components(0, 0);
    for (y = 0; y < HEIGHT; ++y)
        for (x = 0; x < WIDTH; ++x)
            if ((y == 0 || x == 0 || y + 1 == HEIGHT || x + 1 == WIDTH) && own[y * WIDTH + x] == 0)
                set_number(sizes, root_of(y * WIDTH + x), 1);
    for (at = 0; at < HEIGHT * WIDTH; ++at)
        if (own[at] == 0 && number_at(sizes, root_of(at)) == 0) own[at] = 2;
    for (at = 0; at < HEIGHT * WIDTH; ++at) own[at] = own[at] != 0;
}

/*: filter_components parents */
/* Leaves the components that the rules keep. */
static void filter_components(const uint8_t *before, int32_t pixels, int peaks, int largest_only) {
    int32_t at, best = -1;
    find_components(1, 1);
    for (at = 0; at < HEIGHT * WIDTH; ++at)
        if (own[at]) set_number(sizes, root_of(at), number_at(sizes, root_of(at)) + 1);
    for (at = 0; at < HEIGHT * WIDTH; ++at)
        if (own[at] && (!peaks || before[at] & 128)) own[root_of(at)] |= 2;
    for (at = 0; at < HEIGHT * WIDTH; ++at) {
        if (!own[at] || number_at(parents, at) != at) continue;
        if (!(own[at] & 2) || number_at(sizes, at) < pixels)
            set_number(sizes, at, 0);
        else if (largest_only && (best < 0 || number_at(sizes, at) > number_at(sizes, best)))
            best = at;
    }
    for (at = 0; at < HEIGHT * WIDTH; ++at)
        if (own[at] && (number_at(sizes, root_of(at)) == 0 || (largest_only && root_of(at) != best))) own[at] |= 4;
    for (at = 0; at < HEIGHT * WIDTH; ++at) own[at] = (own[at] & 1) && !(own[at] & 4);
}
