// Convolutions over codes: dot products of four unsigned and four signed bytes. Inputs come as lines (lines.h), so that
// borders, signed bytes and bits are all the same; the zero of the codes is taken from the start of each sum.
// Steps from a sum to its code are numbered as in epilogue.h.
#include "codes.h"

namespace pseg::PSEG_ISA {
namespace codes {
namespace {

// 1. Sums of a tile: of plane q of the input and the plane of the weights at w.
template <int V, int P>
INLINE inline void sum(const Dense& d, const Line& line, uint32_t x, const uint8_t* w, const int32_t* start, uint32_t q,
                       I32 (&acc)[P][V]) {
    unroll<V>([&](auto v) INLINE {
        const I32 begin = load<I32>(start + v * LANES);
        unroll<P>([&](auto p) INLINE { acc[p][v] = begin; });
    });
    const size_t step = line.step;
    const uint32_t quads = quads_of(d.it), columns = d.window.kernel[1];
    for (uint32_t i = 0; i < d.window.kernel[0]; ++i) {
        const uint8_t* from = line.from[i] + q * line.plane + x * step;
        for (uint32_t j = 0; j < columns; ++j, from += line.column) {
            const uint8_t* at = from;
            for (uint32_t k = 0; k < quads; ++k, w += V * QUADS, at += 4) {
                Signed s[V];
                unroll<V>([&](auto v) INLINE { s[v] = signed_of(w + v * QUADS); });
                unroll<P>([&](auto p) INLINE {
                    const Unsigned u = unsigned_four(at + p * step);
                    unroll<V>([&](auto v) INLINE { acc[p][v] = dot(acc[p][v], u, s[v]); });
                });
            }
        }
    }
}

// A tile that is not bytes, or of several planes: of the weights, of the input, or both.
template <int V, int P>
void tile_of_planes(const Dense& d, const Line& line, uint32_t x, uint32_t first, const uint8_t* w, size_t plane) {
    F32 y[P][V];
    for (uint32_t pair = 0; pair < d.pairs; ++pair) {
        I32 acc[P][V], sums[P][V];
        sum<V, P>(d, line, x, w + pair / d.inputs * plane,
                  d.constants.start + size_t(pair) * d.constants.outputs + first, pair % d.inputs, acc);
        unroll<P>([&](auto p) INLINE { unroll<V>([&](auto v) INLINE { sums[p][v] = acc[p][v]; }); });
        add_pair(d, pair, first, P, V, &sums[0][0], &y[0][0]);
    }
    write_others<V>(d, line, x, first, P, &y[0][0]);
}

template <int V, int P>
void tile(const Dense& d, const Line& line, uint32_t x, uint32_t first, const uint8_t* w) {
    I32 acc[P][V];
    F32 y[P][V];
    sum<V, P>(d, line, x, w, d.constants.start + first, 0, acc);
    // 2. Back-transformation.
    unroll<V>([&](auto v) INLINE {
        const F32 m = load<F32>(d.constants.m + first + v * LANES), b = load<F32>(d.constants.b + first + v * LANES);
        unroll<P>([&](auto p) INLINE { y[p][v] = to_float(acc[p][v]) * m + b; });
    });
    if (!d.number)
        write_bytes<V, P>(d, line, x, first, y);
    else
        unroll<P>([&](auto p) INLINE {
            *reinterpret_cast<float*>(line.to[0] + (x + p) * d.targets.tensors[0].pixel) = y[p][0][0];
        });
}

template <int V>
struct Tiles {
    static const uint8_t* run(const Dense& d, const Rows& rows, uint32_t begin, uint32_t count, uint32_t first,
                              const uint8_t* w) {
        const uint32_t width = d.job.shape.width;
        const size_t plane = size_t(d.window.kernel[0]) * d.window.kernel[1] * quads_of(d.it) * V * QUADS;
        for (uint32_t row = 0; row < count; ++row) {
            const Line line(d, rows, begin + row, row * width, first);
            if (d.pairs > 1 || !(d.bytes || d.number))
                tiles<4>(width, [&](auto p, uint32_t x) { tile_of_planes<V, p>(d, line, x, first, w, plane); });
            else
                tiles<PIXELS<V>>(width, [&](auto p, uint32_t x) { tile<V, p>(d, line, x, first, w); });
        }
        return w + d.it.weights.planes * plane;
    }
};

// --- depthwise: every channel by itself ---------------------------------------------------------------------

// Rows of the kernel are quads: four of them, the lanes of 64 channels side by side, make four vectors. A pixel of 16
// or 32 channels does not fill a vector: then a vector sees several places of its row at once, equally far apart.
struct Depthwise {
    const Operator& op;
    const Instruction& it;
    Epilogue epilogue;
    Constants constants;
    const uint8_t* weights;
    uint32_t inputs, pixel, blocks, parts, rows;  // rows: quads of rows of the kernel

    Depthwise(const Program& program, const Operator& op)
        : op(op),
          it(*op.it),
          epilogue(epilogue_of(program, op)),
          constants(constants_of(op)),
          weights(fast::start_of(op.packed) + fast::head_of(op).weights),
          inputs(uint32_t(program.grid(it.reads[0])->planes)),
          pixel(fast::depthwise_pixel(MACHINE, it.channels)),
          blocks((pixel + BYTES - 1) / BYTES),
          parts(pixel < BYTES ? BYTES / pixel : 1),
          rows((it.window.kernel[0] + 3u) / 4) {}
};

constexpr uint32_t COLUMNS = 32;  // outputs whose quads are kept at a time
constexpr uint32_t MAX_PARTS = BYTES / 16;

uint64_t quad_bytes(const Depthwise& d) {
    const Window& w = d.it.window;
    return uint64_t((COLUMNS - 1) * w.stride[1] + reach(w, 1)) * d.inputs * d.rows * 4 * BYTES;
}

// Columns that one part of a vector goes through, and where part i begins.
struct Segments {
    uint32_t width, length, parts;
    Segments(uint32_t width, uint32_t parts) : width(width), length((width + parts - 1) / parts), parts(parts) {}
    uint32_t begin(uint32_t part) const {
        const uint32_t at = part * length;
        return at + length <= width ? at : width - length;
    }
};

// Calls each(a constant) with the number of parts.
template <class Each>
INLINE inline void by_parts(uint32_t parts, Each each) {
    if (parts == 1)
        each(std::integral_constant<int, 1>{});
    else if constexpr (MAX_PARTS > 1) {
        if (parts == 2)
            each(std::integral_constant<int, 2>{});
        else if constexpr (MAX_PARTS > 2)
            each(std::integral_constant<int, 4>{});
    }
}

// The quads of some columns of a row: of each plane, of each four rows of the kernel.
template <int PARTS>
void gather(const Depthwise& d, const Rows& rows, uint32_t y, const Segments& segments, uint32_t first, uint32_t seen,
            uint32_t block, uint8_t* quads) {
    const Window& w = d.it.window;
    const size_t column = size_t(d.inputs) * d.rows * 4 * BYTES;
    for (uint32_t q = 0; q < d.inputs; ++q)
        for (uint32_t r = 0; r < d.rows; ++r) {
            const uint8_t* from[4][PARTS];
            for (uint32_t i = 0; i < 4; ++i)
                for (uint32_t part = 0; part < PARTS; ++part) {
                    // Rows after the kernel's last have weights of 0.
                    const uint32_t ky = 4 * r + i < w.kernel[0] ? 4 * r + i : 0;
                    from[i][part] = rows.at(y * w.stride[0] + ky * w.dilation[0]) + q * rows.plane +
                                    (segments.begin(part) + first) * w.stride[1] * rows.pixel + block * BYTES;
                }
            uint8_t* to = quads + (size_t(q) * d.rows + r) * 4 * BYTES;
            for (size_t x = 0; x < seen * rows.pixel; x += rows.pixel, to += column) {
                U8 four[4], out[4];
                unroll<4>([&](auto i) INLINE {
                    const uint8_t* at[PARTS];
                    unroll<PARTS>([&](auto part) INLINE { at[part] = from[i][part] + x; });
                    four[i] = concat(at, PARTS);
                });
                zip(four[0], four[1], four[2], four[3], out);
                unroll<4>([&](auto i) INLINE { store(to + i * BYTES, out[i]); });
            }
        }
}

// 1 and 2. One plane by one, a kernel of at most four rows and of KW columns: weights and constants stay in registers.
template <int KW, class Take>
inline void columns_of(const Depthwise& d, const uint8_t* quads, uint32_t count, const uint8_t* weights,
                       size_t constants, Take take) {
    Signed s[KW][4];
    I32 start[4];
    F32 m[4], b[4];
    unroll<4>([&](auto i) INLINE {
        const size_t at = constants + i * LANES;
        start[i] = load<I32>(d.constants.start + at), m[i] = load<F32>(d.constants.m + at),
        b[i] = load<F32>(d.constants.b + at);
        unroll<KW>([&](auto j) INLINE { s[j][i] = signed_of(weights + (j * 4 + i) * QUADS); });
    });
    const size_t step = size_t(d.it.window.stride[1]) * 4 * BYTES, column = size_t(d.it.window.dilation[1]) * 4 * BYTES;
    for (uint32_t x = 0; x < count; ++x, quads += step) {
        F32 result[4];
        unroll<4>([&](auto i) INLINE {
            I32 acc = start[i];
            unroll<KW>([&](auto j)
                           INLINE { acc = dot(acc, unsigned_of(load<U8>(quads + j * column + i * BYTES)), s[j][i]); });
            result[i] = to_float(acc) * m[i] + b[i];
        });
        take(x, result);
    }
}

// 1 and 2. Any kernel and any planes.
template <class Take>
inline void any_columns(const Depthwise& d, const uint8_t* quads, uint32_t count, const uint8_t* weights,
                        size_t constants, Take take) {
    const Window& w = d.it.window;
    const uint32_t pairs = d.it.weights.planes * d.inputs;
    const size_t plane = size_t(w.kernel[1]) * d.rows * 4 * QUADS, column = size_t(d.inputs) * d.rows * 4 * BYTES;
    for (uint32_t x = 0; x < count; ++x) {
        F32 result[4];
        for (uint32_t pair = 0; pair < pairs; ++pair) {
            const size_t row = size_t(pair) * d.constants.outputs + constants;
            const uint8_t* s = weights + pair / d.inputs * plane;
            I32 acc[4];
            for (int i = 0; i < 4; ++i) acc[i] = load<I32>(d.constants.start + row + i * LANES);
            for (uint32_t j = 0; j < w.kernel[1]; ++j) {
                const uint8_t* u =
                    quads + (x * w.stride[1] + j * w.dilation[1]) * column + (pair % d.inputs) * d.rows * 4 * BYTES;
                for (uint32_t r = 0; r < d.rows; ++r)
                    for (int i = 0; i < 4; ++i, u += BYTES, s += QUADS)
                        acc[i] = dot(acc[i], unsigned_of(load<U8>(u)), signed_of(s));
            }
            for (int i = 0; i < 4; ++i) {
                const F32 part = to_float(acc[i]) * load<F32>(d.constants.m + row + i * LANES);
                result[i] = pair ? result[i] + part : part;
            }
        }
        for (int i = 0; i < 4; ++i) result[i] = result[i] + load<F32>(d.constants.b + constants + i * LANES);
        take(x, result);
    }
}

// Takes the f32 results of one row, four vectors at a time, each part of the vectors a pixel of its own.
template <class Take>
inline void row_of(const Depthwise& d, const Rows& rows, uint32_t y, uint32_t width, uint8_t* quads, Take take) {
    const Window& w = d.it.window;
    const Segments segments(width, d.parts);
    const bool simple = d.rows == 1 && d.inputs == 1 && d.it.weights.planes == 1;
    const size_t block_bytes = size_t(w.kernel[1]) * d.rows * 4 * QUADS * d.it.weights.planes;
    for (uint32_t block = 0; block < d.blocks; ++block)
        for (uint32_t first = 0; first < segments.length; first += COLUMNS) {
            const uint32_t count = segments.length - first < COLUMNS ? segments.length - first : COLUMNS;
            const uint32_t seen = (count - 1) * w.stride[1] + reach(w, 1);
            by_parts(d.parts, [&](auto parts) { gather<parts>(d, rows, y, segments, first, seen, block, quads); });
            const uint8_t* weights = d.weights + block * block_bytes;
            const size_t constants = size_t(block) * 4 * LANES;
            const auto each = [&](uint32_t x, F32(&result)[4]) INLINE { take(block, segments, first + x, result); };
            if (simple && w.kernel[1] == 3)
                columns_of<3>(d, quads, count, weights, constants, each);
            else
                any_columns(d, quads, count, weights, constants, each);
        }
}

// 3 to 5. Four vectors of results as codes.
template <bool WHOLE>
INLINE inline U8 coded(const Depthwise& d, const Codes& codes, uint32_t block, F32 (&result)[4]) {
    if (d.epilogue.bound)
        unroll<4>([&](auto i) INLINE { result[i] = min(max(result[i], d.epilogue.low), d.epilogue.high); });
    if (d.epilogue.second)
        unroll<4>([&](auto i) INLINE {
            const size_t at = (size_t(block) * 4 + i) * LANES;
            result[i] = result[i] * load<F32>(d.constants.second_m + at) + load<F32>(d.constants.second_b + at);
        });
    return pack_by_parts(code<WHOLE>(codes, result[0]), code<WHOLE>(codes, result[1]), code<WHOLE>(codes, result[2]),
                         code<WHOLE>(codes, result[3]), codes.zero) ^
           codes.flip;
}

// A row as codes, a pixel every `pixel` bytes.
void codes_row(const Depthwise& d, const Codes& codes, const Rows& rows, uint32_t y, uint32_t width, uint8_t* quads,
               uint8_t* line, size_t pixel, uint32_t valid) {
    row_of(d, rows, y, width, quads, [&](uint32_t block, const Segments& segments, uint32_t x, F32(&result)[4]) INLINE {
        const U8 bytes = coded<false>(d, codes, block, result);
        uint8_t* to[4];
        for (uint32_t part = 0; part < d.parts; ++part)
            to[part] = line + (segments.begin(part) + x) * pixel + block * BYTES;
        const uint32_t left = valid - block * BYTES, whole = d.parts > 1 ? d.pixel : BYTES;
        if (left >= whole) {
            split(bytes, to, d.parts);
            return;
        }
        alignas(BYTES) uint8_t each[BYTES];
        store(each, bytes);
        for (uint32_t part = 0; part < d.parts; ++part) copy_bytes(to[part], each + part * d.pixel, left);
    });
}

// A row as f32, natural order, d.pixel apart.
void values_row(const Depthwise& d, const Rows& rows, uint32_t y, uint32_t width, uint8_t* quads, float* values) {
    row_of(d, rows, y, width, quads, [&](uint32_t block, const Segments& segments, uint32_t x, F32(&result)[4]) INLINE {
        for (uint32_t i = 0; i < 4; ++i)
            for (uint32_t l = 0; l < LANES / 4; ++l) {
                const uint32_t from = 16 * l + 4 * i, part = d.parts > 1 ? from / d.pixel : 0;
                float* to = values + size_t(segments.begin(part) + x) * d.pixel + block * BYTES +
                            (d.parts > 1 ? from % d.pixel : from);
                for (uint32_t c = 0; c < 4; ++c) to[c] = result[i][4 * l + c];
            }
    });
}

// Whether a row can be written as codes to where it goes.
bool writes_codes(const Program& program, const Operator& op) {
    const Instruction& it = *op.it;
    return it.writes.size() == 1 && is_bytes(program.grid(it.writes[0])) && epilogue_of(program, op).plain;
}

// The commonest layer, 3×3 around each pixel, straight from its tensor: the quads of a column are made once, and go
// into the sums of three outputs while they are in registers.
struct Same3x3 {
    const uint8_t* from[3];  // rows of input; those outside are lines of zeros
    const uint8_t* zeros;
    uint8_t* to;
    size_t step, pixel;  // bytes from one pixel to the next, of the input and of the output
    uint32_t width;
};

template <int PARTS>
void same_3x3(const Depthwise& d, const Codes codes, const Same3x3 a) {
    const Segments segments(a.width, PARTS);
    const int64_t step = int64_t(a.step);
    for (uint32_t block = 0; block < d.blocks; ++block) {
        const size_t constants = size_t(block) * 4 * LANES;
        const auto constant = [&](const auto* row, auto i) INLINE { return row + constants + i * LANES; };
        Signed s[3][4];
        unroll<3>([&](auto j) INLINE {
            unroll<4>([&](auto i)
                          INLINE { s[j][i] = signed_of(d.weights + (size_t(block) * 12 + j * 4 + i) * QUADS); });
        });
        const uint8_t* at[3][PARTS];
        uint8_t* to[PARTS];
        const auto inside = [&]() INLINE {
            unroll<PARTS>([&](auto part) INLINE {
                unroll<3>([&](auto i)
                              INLINE { at[i][part] = a.from[i] + segments.begin(part) * step + block * BYTES; });
            });
        };
        unroll<PARTS>([&](auto part) INLINE { to[part] = a.to + segments.begin(part) * a.pixel + block * BYTES; });
        // Column c of every part. Those outside are zeros: at the left of the first part, at the right of the last.
        const auto column = [&](int64_t c, Unsigned(&u)[4]) INLINE {
            U8 three[3], out[4];
            unroll<3>([&](auto i) INLINE {
                const uint8_t* pixels[PARTS];
                unroll<PARTS>([&](auto part) INLINE { pixels[part] = at[i][part] + c * step; });
                three[i] = concat(pixels, PARTS);
            });
            zip(three[0], three[1], three[2], three[2], out);
            unroll<4>([&](auto i) INLINE { u[i] = unsigned_of(out[i]); });
        };
        const auto outside = [&](uint32_t edge, int64_t c) INLINE {
            unroll<PARTS>([&](auto part) INLINE {
                if (segments.begin(part) + (edge ? segments.length : 0) == edge)
                    unroll<3>([&](auto i) INLINE { at[i][part] = a.zeros - c * step; });
            });
        };
        I32 now[4], next[4];  // sums of the output at this column, and of the one after it
        Unsigned u[4];
        inside(), outside(0, -1);
        column(-1, u);
        inside();
        unroll<4>([&](auto i) INLINE { now[i] = dot(load<I32>(constant(d.constants.start, i)), u[i], s[0][i]); });
        column(0, u);
        unroll<4>([&](auto i) INLINE {
            now[i] = dot(now[i], u[i], s[1][i]);
            next[i] = dot(load<I32>(constant(d.constants.start, i)), u[i], s[0][i]);
        });
        for (uint32_t x = 0; x < segments.length; ++x) {
            if (x + 1 == segments.length) outside(a.width, int64_t(x) + 1);
            column(int64_t(x) + 1, u);
            F32 result[4];
            unroll<4>([&](auto i) INLINE {
                result[i] = to_float(dot(now[i], u[i], s[2][i])) * load<F32>(constant(d.constants.m, i)) +
                            load<F32>(constant(d.constants.b, i));
                now[i] = dot(next[i], u[i], s[1][i]);
                next[i] = dot(load<I32>(constant(d.constants.start, i)), u[i], s[0][i]);
            });
            const U8 bytes = coded<true>(d, codes, block, result);
            uint8_t* each[4];
            unroll<PARTS>([&](auto part) INLINE { each[part] = to[part] + x * a.pixel; });
            split(bytes, each, PARTS);
        }
    }
}

// Row ky of the kernel of the only channel, for every lane: byte ky of lane 0 of each column of what is laid out for
// many.
void one_channel_weights(const Depthwise& d, uint32_t ky, uint8_t* to) {
    constexpr uint32_t SIZE = QUADS / BYTES;
    for (uint32_t j = 0; j < 4; ++j) {
        const uint8_t* from = d.weights + (j * d.rows + ky / 4) * 4 * QUADS + fast::place_of(MACHINE, 0, ky % 4);
        for (uint32_t lane = 0; lane < LANES; ++lane)
            for (uint32_t byte = 0; byte < SIZE; ++byte)
                to[fast::place_of(MACHINE, lane, j) + byte] = j < d.it.window.kernel[1] ? from[byte] : 0;
    }
}

// One channel, a kernel of at most four columns, along the row: neighbors in x are the quads.
void one_channel(const Depthwise& d, const Codes codes, const Rows& rows, uint32_t y, uint32_t width, uint8_t* line,
                 size_t pixel) {
    const uint32_t height = d.it.window.kernel[0];
    const Constants& only = d.constants;
    alignas(BYTES) uint8_t weights[MAX_ROWS][QUADS];
    for (uint32_t ky = 0; ky < height; ++ky) one_channel_weights(d, ky, weights[ky]);
    for (uint32_t x = 0; x < width; x += BYTES) {
        I32 acc[4];
        unroll<4>([&](auto i) INLINE { acc[i] = broadcast<I32>(*only.start); });
        for (uint32_t ky = 0; ky < height; ++ky) {
            const uint8_t* from = rows.at(y + ky) + x;
            U8 shifted[4], quads[4];
            unroll<4>([&](auto j) INLINE { shifted[j] = load<U8>(from + j); });
            zip(shifted[0], shifted[1], shifted[2], shifted[3], quads);
            unroll<4>([&](auto i) INLINE { acc[i] = dot(acc[i], unsigned_of(quads[i]), signed_of(weights[ky])); });
        }
        F32 result[4];
        unroll<4>([&](auto i) INLINE {
            result[i] = to_float(acc[i]) * *only.m + *only.b;
            if (d.epilogue.bound) result[i] = min(max(result[i], d.epilogue.low), d.epilogue.high);
            if (d.epilogue.second) result[i] = result[i] * *only.second_m + *only.second_b;
        });
        alignas(BYTES) uint8_t each[BYTES];
        store(each, pack_by_parts(code(codes, result[0]), code(codes, result[1]), code(codes, result[2]),
                                  code(codes, result[3]), codes.zero) ^
                        codes.flip);
        for (uint32_t i = 0; i < BYTES && x + i < width; ++i) line[(x + i) * pixel] = each[i];
    }
}

bool is_one_channel(const Program& program, const Depthwise& d) {
    const Window& w = d.it.window;
    return d.it.channels == 1 && w.kernel[1] <= 4 && w.stride[0] == 1 && w.stride[1] == 1 && w.dilation[0] == 1 &&
           w.dilation[1] == 1 && program.type(d.it.reads[0]) != Type::bits && d.it.weights.planes == 1 &&
           writes_codes(program, d.op);
}

// Whether same_3x3() can do it.
bool is_same_3x3(const Program& program, const Depthwise& d) {
    const Window& w = d.it.window;
    for (int side = 0; side < 2; ++side)
        if (w.kernel[side] != 3 || w.stride[side] != 1 || w.dilation[side] != 1 || w.padding[side] != 1 ||
            w.padding[side + 2] != 1)
            return false;
    return program.type(d.it.reads[0]) == Type::u8 && d.it.weights.planes == 1 && d.it.channels == d.pixel &&
           writes_codes(program, d.op) && codes_of(*program.grid(d.it.writes[0]), fast::head_of(d.op).max_result).whole;
}

// Rows of results, one way or the other.
class DepthwiseRows {
public:
    static uint64_t bytes(const Program& program, const Depthwise& d, Shape in, Shape out) {
        const View& view = d.it.reads[0];
        if (is_one_channel(program, d)) return align_up(Lines::bytes(d.it.window, 1, 1, in, out, 1) + 4 * BYTES);
        if (is_same_3x3(program, d)) return align_up(in.width * pixel_bytes(program.buffers[view.buffer]));
        return line_bytes(d, in, out) + align_up(quad_bytes(d));
    }

    DepthwiseRows(const Job& job, const Depthwise& d, uint8_t* memory)
        : d_(d),
          in_(job.frame.tensor(d.it.reads[0])),
          width_(job.shape.width),
          same_3x3_(is_same_3x3(job.frame.program, d)),
          one_channel_(is_one_channel(job.frame.program, d)),
          memory_(memory),
          lines_(in_, d.it.window, one_channel_ ? 1 : d.pixel, width_, 1, job.first, same_3x3_ ? nullptr : memory) {
        if (one_channel_) return;
        if (same_3x3_)
            std::memset(memory, fast::zero_byte(*in_.grid), in_.row);
        else
            quads_ = memory + line_bytes(d, {in_.height, in_.width}, job.shape);
    }

    // Row y as codes, a pixel every `pixel` bytes, `valid` channels of it.
    void codes(uint32_t y, const Codes& codes, uint8_t* to, size_t pixel, uint32_t valid) {
        if (one_channel_) {
            // What stands beside the only channel is multiplied by 0.
            one_channel(d_, codes, lines_.see(y, 1), y, width_, to, pixel);
            return;
        }
        if (!same_3x3_) {
            codes_row(d_, codes, lines_.see(y, 1), y, width_, quads_, to, pixel, valid);
            return;
        }
        Same3x3 a{{}, memory_, to, in_.pixel, pixel, width_};
        for (uint32_t i = 0; i < 3; ++i) a.from[i] = y + i < 1 || y + i > in_.height ? memory_ : in_.at(y + i - 1, 0);
        by_parts(d_.parts, [&](auto parts) { same_3x3<parts>(d_, codes, a); });
    }

    // Row y as f32, d.pixel numbers a pixel.
    void values(uint32_t y, float* values) { values_row(d_, lines_.see(y, 1), y, width_, quads_, values); }

private:
    static uint64_t line_bytes(const Depthwise& d, Shape in, Shape out) {
        return align_up(Lines::bytes(d.it.window, d.inputs, d.pixel, in, out, 1));
    }

    const Depthwise& d_;
    const Tensor in_;
    uint32_t width_;
    bool same_3x3_, one_channel_;
    uint8_t *memory_, *quads_ = nullptr;  // memory_: a row of zeros, or lines
    Lines lines_;
};

}  // namespace
}  // namespace codes

namespace convolution_codes {
using namespace codes;
bool fits(const Program& program, const Instruction& it) {
    return fast::is_byte_convolution(program, it) && it.groups == 1 && it.window.kernel[0] <= MAX_ROWS;
}
void prepare(const Program& program, const Instruction& it, Packed& packed) {
    fast::dense_codes(program, it, MACHINE, packed);
}

uint64_t scratch(const Program& program, const Operator& op, Shape in, Shape out) {
    return dense_scratch(program, op, in, out, 4 * quads_of(*op.it), reads_in_place(program, *op.it));
}
void run(Job& job) { run_dense<Tiles>(job, 4 * quads_of(job.it), reads_in_place(job.frame.program, job.it)); }
}  // namespace convolution_codes

namespace depthwise_codes {
using namespace codes;

bool fits(const Program& program, const Instruction& it) {
    const Window& w = it.window;
    return fast::is_byte_convolution(program, it) && it.groups == it.channels && it.reads[0].channels == it.channels &&
           w.kernel[0] <= MAX_ROWS && w.stride[1] <= 4 && reach(w, 1) <= 32;
}
void prepare(const Program& program, const Instruction& it, Packed& packed) {
    fast::depthwise_codes(program, it, MACHINE, packed);
}

uint64_t scratch(const Program& program, const Operator& op, Shape in, Shape out) {
    const Depthwise d(program, op);
    const uint64_t values = writes_codes(program, op) ? 0 : align_up(4 * (uint64_t(out.width) * d.pixel + CHUNK));
    return DepthwiseRows::bytes(program, d, in, out) + values;
}

void run(Job& job) {
    const Program& program = job.frame.program;
    const Depthwise d(program, job.op);
    const Tensor in = job.frame.tensor(job.it.reads[0]);
    DepthwiseRows rows(job, d, job.scratch);
    if (writes_codes(program, job.op)) {
        const Tensor to = job.frame.tensor(job.it.writes[0]);
        const Codes codes = codes_of(*to.grid, fast::head_of(job.op).max_result);
        for (uint32_t y = job.first; y < job.last; ++y) rows.codes(y, codes, to.at(y, 0), to.pixel, to.channels);
        return;
    }
    float* values =
        reinterpret_cast<float*>(job.scratch + DepthwiseRows::bytes(program, d, {in.height, in.width}, job.shape));
    PixelEpilogue per_pixel(job);
    for (uint32_t y = job.first; y < job.last; ++y) {
        rows.values(y, values);
        for (uint32_t x = 0; x < job.shape.width; ++x) per_pixel(y, x, values + size_t(x) * d.pixel);
    }
}
}  // namespace depthwise_codes

// Depthwise, then 1×1: the row between them never leaves the cache.
namespace separable_codes {
using namespace codes;

bool joins(const Program& program, const Operator& first, const Operator& second) {
    const Window& w = second.it->window;
    return writes_codes(program, first) && is_pointwise(w) && w.stride[0] == 1 && w.stride[1] == 1;
}

uint64_t scratch(const Program& program, const Operator& op, Shape in, Shape out) {
    const Depthwise d(program, *op.producer);
    return DepthwiseRows::bytes(program, d, in, out) + align_up(uint64_t(out.width) * d.pixel) +
           value_bytes(program, op, out, 1);
}

void run(Job& job) {
    const Program& program = job.frame.program;
    const Depthwise depthwise(program, *job.op.producer);
    const Instruction& first = depthwise.it;
    const Tensor in = job.frame.tensor(first.reads[0]);
    DepthwiseRows rows(job, depthwise, job.scratch);
    uint8_t* line = job.scratch + DepthwiseRows::bytes(program, depthwise, {in.height, in.width}, job.shape);
    const Dense dense(job, reinterpret_cast<float*>(line + align_up(uint64_t(job.shape.width) * depthwise.pixel)));
    Codes codes = codes_of(*program.grid(first.writes[0]), fast::head_of(depthwise.op).max_result);
    codes.flip = 0;  // lines are unsigned
    const Rows between{line, 0, depthwise.pixel, 0, 1};
    for (uint32_t y = job.first; y < job.last; ++y) {
        rows.codes(y, codes, line, depthwise.pixel, depthwise.pixel);
        compute<Tiles>(dense, between, y, 1);
    }
}
}  // namespace separable_codes

}  // namespace pseg::PSEG_ISA
