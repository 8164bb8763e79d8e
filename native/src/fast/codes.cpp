// Convolutions over codes: dot products of four unsigned and four signed bytes. Inputs come as lines (lines.h), so that
// borders, signed bytes and bits are all the same; the zero of the codes is taken from the start of each sum.
#include "ending.h"
#include "lines.h"

namespace pseg::PSEG_SET {
namespace {

// A tile: PIXELS pixels by some vectors of outputs, so many that sums stay in registers.
#if defined(__AVX512F__)
constexpr fast::Machine MACHINE{LANES, 4, WIDE, OFFSET};
template <int V>
constexpr int PIXELS = V == 4 ? 6 : 12;
#elif defined(__AVX2__)
constexpr fast::Machine MACHINE{LANES, 2, WIDE, OFFSET};
template <int V>
constexpr int PIXELS = 4;
#else
constexpr fast::Machine MACHINE{LANES, 4, WIDE, OFFSET};
template <int V>
constexpr int PIXELS = V == 4 ? 4 : 8;
#endif

// Pixels of a block of rows, at least, where there are so many: weights are read once for all of them.
constexpr uint32_t PIXELS_AT_ONCE = 96;

uint64_t aligned(uint64_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

uint32_t rows_at_once(Shape out) {
    const uint32_t rows = (PIXELS_AT_ONCE + out.width - 1) / out.width;
    return rows < out.height ? rows : out.height;
}

// --- dense: every output sees every input -------------------------------------------------------------------

struct Dense {
    Job& job;
    const Instruction& it;
    Ending ending;
    Constants constants;
    const uint8_t* weights;
    uint32_t inputs, quads;
    Targets targets;
    float* values;  // f32 of a block of rows, where the ending is not plain

    Dense(Job& job, float* values)
        : job(job), it(job.it), ending(ending_of(job.frame.program, it)), constants(constants_of(it)),
          weights(fast::start_of(it) + fast::head_of(it).weights), inputs(uint32_t(job.frame.program.grid(it.reads[0])->planes)),
          quads((it.reads[0].channels + 3) / 4), targets(job), values(values) {}
};

// A block of rows of output.
struct Block {
    const Rows& rows;
    uint32_t first, count;
};

// Where the pixels of a tile lie in the output; those behind `count` repeat the last one.
template <int P>
struct Places {
    uint32_t y[P], x[P], index[P], count;
};

// Sums of a tile, of plane q of the input and the plane of the weights at w. Returns where the next plane begins.
template <int V, int P>
inline const uint8_t* sum(const Dense& d, const Rows& rows, const Places<P>& at, const uint8_t* w, const int32_t* start, uint32_t q, I (&acc)[P][V]) {
    const Window& window = d.it.window;
    for (int v = 0; v < V; ++v)
        for (int p = 0; p < P; ++p) acc[p][v] = load<I>(start + v * LANES);
    for (uint32_t i = 0; i < window.kernel[0]; ++i) {
        const uint8_t* from[P];
        for (int p = 0; p < P; ++p)
            from[p] = rows.at(at.y[p] * window.stride[0] + i * window.dilation[0]) + q * rows.plane + at.x[p] * window.stride[1] * rows.pixel;
        for (uint32_t j = 0; j < window.kernel[1]; ++j) {
            for (uint32_t k = 0; k < d.quads; ++k, w += V * QUADS) {
                Signed s[V];
                for (int v = 0; v < V; ++v) s[v] = signed_of(w + v * QUADS);
#pragma GCC unroll 16
                for (int p = 0; p < P; ++p) {
                    const Unsigned u = unsigned_four(from[p] + 4 * size_t(k));
#pragma GCC unroll 4
                    for (int v = 0; v < V; ++v) acc[p][v] = dot(acc[p][v], u, s[v]);
                }
            }
            for (int p = 0; p < P; ++p) from[p] += window.dilation[1] * rows.pixel;
        }
    }
    return w;
}

template <int V, int P>
inline void put_bytes(const Dense& d, const Places<P>& at, const Tensor& to, const Codes& codes, uint32_t first, const F (&y)[P][V]) {
    constexpr uint32_t PART = V * LANES;
    const uint32_t valid = d.it.channels - first < PART ? d.it.channels - first : PART;
    const F* flat = &y[0][0];
#pragma GCC unroll 16
    for (int g = 0; g < P * V / 4; ++g) {
        const B bytes = packed(code(codes, flat[4 * g]), code(codes, flat[4 * g + 1]), code(codes, flat[4 * g + 2]), code(codes, flat[4 * g + 3])) ^ codes.flip;
        alignas(BYTES) uint8_t each[BYTES];
        store(each, bytes);
        for (uint32_t part = 0; part < 4 / V; ++part) {
            const uint32_t p = uint32_t(g) * (4 / V) + part;
            if (p >= at.count) return;
            uint8_t* pixel = to.at(at.y[p], at.x[p]) + first;
            if (valid == PART) std::memcpy(pixel, each + part * PART, PART);
            else std::memcpy(pixel, each + part * PART, valid);
        }
    }
}

// Writes a tile: outputs from `first` on.
template <int V, int P>
inline void write(const Dense& d, const Places<P>& at, uint32_t first, F (&y)[P][V]) {
    if (!d.ending.plain) {
        for (int p = 0; p < P; ++p)
            for (int v = 0; v < V; ++v) store(d.values + size_t(at.index[p]) * d.constants.outputs + first + v * LANES, y[p][v]);
        return;
    }
    if (d.ending.bound)
        for (int p = 0; p < P; ++p)
            for (int v = 0; v < V; ++v) y[p][v] = lower(higher(y[p][v], d.ending.low), d.ending.high);
    if (d.ending.second)
        for (int v = 0; v < V; ++v) {
            const F m = load<F>(d.constants.second_m + first + v * LANES), b = load<F>(d.constants.second_b + first + v * LANES);
            for (int p = 0; p < P; ++p) y[p][v] = y[p][v] * m + b;
        }
    const uint32_t valid = d.it.channels - first < V * LANES ? d.it.channels - first : V * LANES;
    for (uint32_t t = 0; t < d.targets.count; ++t) {
        const Tensor& to = d.targets.tensors[t];
        if (to.grid && to.grid->kind == GridKind::uniform) {
            put_bytes<V, P>(d, at, to, d.targets.codes[t], first, y);
            continue;
        }
        for (uint32_t p = 0; p < at.count; ++p) {
            if (to.grid) put_signs<V>(to, to.at(at.y[p], at.x[p]), first, valid, y[p]);
            else std::memcpy(to.floats(at.y[p], at.x[p]) + first, y[p], 4 * size_t(valid));
        }
    }
}

template <int V>
const uint8_t* outputs(const Dense& d, const Block& block, uint32_t first, const uint8_t* w) {
    constexpr int P = PIXELS<V>;
    const uint32_t width = d.job.shape.width, pixels = block.count * width, pairs = d.it.weights.planes * d.inputs;
    const uint8_t* end = w;
    Places<P> at;
    for (uint32_t pixel = 0, y = 0, x = 0; pixel < pixels; pixel += P) {
        at.count = pixels - pixel < uint32_t(P) ? pixels - pixel : uint32_t(P);
        for (uint32_t p = 0; p < uint32_t(P); ++p) {
            at.y[p] = block.first + y, at.x[p] = x, at.index[p] = y * width + x;
            if (p + 1 >= at.count) continue;
            if (++x == width) x = 0, ++y;
        }
        if (++x == width) x = 0, ++y;
        I acc[P][V];
        F result[P][V];
        const uint8_t* plane = w;
        for (uint32_t pair = 0; pair < pairs; ++pair) {
            const uint32_t q = pair % d.inputs;
            const size_t row = size_t(pair) * d.constants.outputs + first;
            const uint8_t* next = sum<V, P>(d, block.rows, at, plane, d.constants.start + row, q, acc);
            if (q + 1 == d.inputs) plane = next;
            for (int v = 0; v < V; ++v) {
                const F m = load<F>(d.constants.m + row + v * LANES);
                for (int p = 0; p < P; ++p) result[p][v] = pair ? result[p][v] + to_float(acc[p][v]) * m : to_float(acc[p][v]) * m;
            }
        }
        end = plane;
        for (int v = 0; v < V; ++v) {
            const F b = load<F>(d.constants.b + first + v * LANES);
            for (int p = 0; p < P; ++p) result[p][v] = result[p][v] + b;
        }
        write<V, P>(d, at, first, result);
    }
    return end;
}

void compute(const Dense& d, const Block& block) {
    const uint8_t* w = d.weights;
    const uint32_t vectors = d.constants.outputs / LANES;
    for (uint32_t v = 0; v < vectors;) {
        const uint32_t now = fast::vectors_at(MACHINE, v, vectors);
        if (now == 1) w = outputs<1>(d, block, v * LANES, w);
        else if (now == 2) w = outputs<2>(d, block, v * LANES, w);
#if defined(__AVX512F__) || !defined(__AVX2__)
        else w = outputs<4>(d, block, v * LANES, w);
#endif
        v += now;
    }
    if (d.ending.plain) return;
    for (uint32_t y = 0; y < block.count; ++y)
        for (uint32_t x = 0; x < d.job.shape.width; ++x)
            finish(d.job, block.first + y, x, d.values + (size_t(y) * d.job.shape.width + x) * d.constants.outputs);
}

// Bytes for values, where the ending needs them.
uint64_t value_bytes(const Program& program, const Instruction& it, Shape out, uint32_t rows) {
    return ending_of(program, it).plain ? 0 : aligned(4 * uint64_t(rows) * out.width * fast::head_of(it).outputs);
}

// Whether pixels can be read where they lie.
bool reads_in_place(const Program& program, const Instruction& it) {
    const Window& w = it.window;
    return program.type(it.reads[0]) == Type::u8 && it.reads[0].channels % 4 == 0 && w.kernel[0] == 1 && w.kernel[1] == 1 &&
           !(w.padding[0] | w.padding[1] | w.padding[2] | w.padding[3]);
}

uint32_t pixel_of(const Instruction& it) { return (it.reads[0].channels + 3u) / 4 * 4; }

// --- depthwise: every channel by itself ---------------------------------------------------------------------

// Rows of the kernel are quads: four of them, the lanes of 64 channels side by side, make four vectors. A pixel of 16 or
// 32 channels does not fill a vector: then a vector sees several places of its row at once, equally far apart.
struct Depthwise {
    const Instruction& it;
    Ending ending;
    Constants constants;
    const uint8_t* weights;
    uint32_t inputs, pixel, blocks, parts, rows;  // rows: quads of rows of the kernel

    Depthwise(const Program& program, const Instruction& it)
        : it(it), ending(ending_of(program, it)), constants(constants_of(it)), weights(fast::start_of(it) + fast::head_of(it).weights),
          inputs(uint32_t(program.grid(it.reads[0])->planes)), pixel(fast::depthwise_pixel(MACHINE, it.channels)),
          blocks((pixel + BYTES - 1) / BYTES), parts(pixel < BYTES ? BYTES / pixel : 1), rows((it.window.kernel[0] + 3u) / 4) {}
};

constexpr uint32_t COLUMNS = 32;  // outputs whose quads are kept at a time
constexpr uint32_t MOST_PARTS = BYTES / 16;

uint64_t quad_bytes(const Depthwise& d) {
    const Window& w = d.it.window;
    return uint64_t((COLUMNS - 1) * w.stride[1] + reach(w, 1)) * d.inputs * d.rows * 4 * BYTES;
}

// Columns that one part of a vector goes through, and where part i begins.
struct Stretch {
    uint32_t width, length, parts;
    Stretch(uint32_t width, uint32_t parts) : width(width), length((width + parts - 1) / parts), parts(parts) {}
    uint32_t begin(uint32_t part) const {
        const uint32_t at = part * length;
        return at + length <= width ? at : width - length;
    }
};

// Takes the f32 results of one row, four vectors at a time, each part of the vectors a pixel of its own.
template <int KW, class Take>
void row_of(const Depthwise& d, const Rows& rows, uint32_t y, uint32_t width, uint8_t* quads, Take take) {
    const Window& w = d.it.window;
    const Stretch stretch(width, d.parts);
    const uint32_t columns = KW ? uint32_t(KW) : w.kernel[1], pairs = d.it.weights.planes * d.inputs;
    const size_t plane = size_t(columns) * d.rows * 4 * QUADS, column = size_t(d.inputs) * d.rows * 4 * BYTES;
    for (uint32_t block = 0; block < d.blocks; ++block)
        for (uint32_t first = 0; first < stretch.length; first += COLUMNS) {
            const uint32_t count = stretch.length - first < COLUMNS ? stretch.length - first : COLUMNS;
            const uint32_t seen = (count - 1) * w.stride[1] + reach(w, 1);
            for (uint32_t q = 0; q < d.inputs; ++q)
                for (uint32_t r = 0; r < d.rows; ++r) {
                    const uint8_t* from[4][MOST_PARTS] = {};
                    for (uint32_t i = 0; i < 4; ++i)
                        for (uint32_t part = 0; part < d.parts; ++part) {
                            // Rows behind the kernel's last have weights of 0.
                            const uint32_t ky = 4 * r + i < w.kernel[0] ? 4 * r + i : 0;
                            from[i][part] = rows.at(y * w.stride[0] + ky * w.dilation[0]) + q * rows.plane +
                                            (stretch.begin(part) + first) * w.stride[1] * rows.pixel + block * BYTES;
                        }
                    uint8_t* to = quads + (size_t(q) * d.rows + r) * 4 * BYTES;
                    for (uint32_t x = 0; x < seen; ++x, to += column) {
                        B four[4], out[4];
                        for (uint32_t i = 0; i < 4; ++i) {
                            four[i] = together(from[i], d.parts);
                            for (uint32_t part = 0; part < d.parts; ++part) from[i][part] += rows.pixel;
                        }
                        interleaved(four[0], four[1], four[2], four[3], out);
                        for (uint32_t i = 0; i < 4; ++i) store(to + i * BYTES, out[i]);
                    }
                }
            const uint8_t* weights = d.weights + block * d.it.weights.planes * plane;
            const size_t constants = size_t(block) * 4 * LANES;
            for (uint32_t x = 0; x < count; ++x) {
                F result[4];
                for (uint32_t pair = 0; pair < pairs; ++pair) {
                    const size_t row = size_t(pair) * d.constants.outputs + constants;
                    const uint8_t* s = weights + pair / d.inputs * plane;
                    I acc[4];
                    for (int i = 0; i < 4; ++i) acc[i] = load<I>(d.constants.start + row + i * LANES);
#pragma GCC unroll 5
                    for (uint32_t j = 0; j < columns; ++j) {
                        const uint8_t* u = quads + (x * w.stride[1] + j * w.dilation[1]) * column + (pair % d.inputs) * d.rows * 4 * BYTES;
                        for (uint32_t r = 0; r < d.rows; ++r)
#pragma GCC unroll 4
                            for (int i = 0; i < 4; ++i, u += BYTES, s += QUADS) acc[i] = dot(acc[i], unsigned_of(load<B>(u)), signed_of(s));
                    }
                    for (int i = 0; i < 4; ++i) {
                        const F part = to_float(acc[i]) * load<F>(d.constants.m + row + i * LANES);
                        result[i] = pair ? result[i] + part : part;
                    }
                }
                for (int i = 0; i < 4; ++i) result[i] = result[i] + load<F>(d.constants.b + constants + i * LANES);
                take(block, stretch, first + x, result);
            }
        }
}

template <class Take>
void row_of_any(const Depthwise& d, const Rows& rows, uint32_t y, uint32_t width, uint8_t* quads, Take take) {
    if (d.it.window.kernel[1] == 3) row_of<3>(d, rows, y, width, quads, take);
    else if (d.it.window.kernel[1] == 2) row_of<2>(d, rows, y, width, quads, take);
    else row_of<0>(d, rows, y, width, quads, take);
}

// A row as codes, a pixel every `pixel` bytes.
void codes_row(const Depthwise& d, const Codes& codes, const Rows& rows, uint32_t y, uint32_t width, uint8_t* quads, uint8_t* line, size_t pixel, uint32_t valid) {
    row_of_any(d, rows, y, width, quads, [&](uint32_t block, const Stretch& stretch, uint32_t x, F(&result)[4]) {
        if (d.ending.bound)
            for (F& y : result) y = lower(higher(y, d.ending.low), d.ending.high);
        if (d.ending.second)
            for (uint32_t i = 0; i < 4; ++i) {
                const size_t at = (size_t(block) * 4 + i) * LANES;
                result[i] = result[i] * load<F>(d.constants.second_m + at) + load<F>(d.constants.second_b + at);
            }
        const B bytes = packed_by_parts(code(codes, result[0]), code(codes, result[1]), code(codes, result[2]), code(codes, result[3])) ^ codes.flip;
        uint8_t* to[MOST_PARTS];
        for (uint32_t part = 0; part < d.parts; ++part) to[part] = line + (stretch.begin(part) + x) * pixel + block * BYTES;
        const uint32_t left = valid - block * BYTES, whole = d.parts > 1 ? d.pixel : BYTES;
        if (left >= whole) {
            apart(bytes, to, d.parts);
            return;
        }
        alignas(BYTES) uint8_t each[BYTES];
        store(each, bytes);
        for (uint32_t part = 0; part < d.parts; ++part) std::memcpy(to[part], each + part * d.pixel, left);
    });
}

// A row as f32, natural order, d.pixel apart.
void values_row(const Depthwise& d, const Rows& rows, uint32_t y, uint32_t width, uint8_t* quads, float* values) {
    row_of_any(d, rows, y, width, quads, [&](uint32_t block, const Stretch& stretch, uint32_t x, F(&result)[4]) {
        for (uint32_t i = 0; i < 4; ++i)
            for (uint32_t l = 0; l < LANES / 4; ++l) {
                const uint32_t c = 16 * l + 4 * i, part = d.parts > 1 ? c / d.pixel : 0;
                float* to = values + size_t(stretch.begin(part) + x) * d.pixel + block * BYTES + (d.parts > 1 ? c % d.pixel : c);
                std::memcpy(to, reinterpret_cast<const uint8_t*>(&result[i]) + 16 * l, 16);
            }
    });
}

// Whether a row can be written as codes to where it goes.
bool writes_codes(const Program& program, const Instruction& it) {
    return it.writes.size() == 1 && is_bytes(program.grid(it.writes[0])) && ending_of(program, it).plain;
}

}  // namespace

namespace convolution_codes {
bool fits(const Program& program, const Instruction& it) { return fast::in_bytes(program, it) && it.groups == 1; }
void prepare(const Program& program, Instruction& it) { fast::dense_codes(program, it, MACHINE); }

uint64_t scratch(const Program& program, const Instruction& it, Shape in, Shape out) {
    const uint32_t rows = rows_at_once(out);
    const uint64_t lines = reads_in_place(program, it) ? 0 : Lines::bytes(it.window, *program.grid(it.reads[0]), pixel_of(it), in, out, rows);
    return aligned(lines) + value_bytes(program, it, out, rows);
}

void run(Job& job) {
    const Program& program = job.frame.program;
    const Instruction& it = job.it;
    const Tensor in = job.frame.tensor(it.reads[0]);
    const uint32_t most = rows_at_once(job.shape);
    const bool in_place = reads_in_place(program, it);
    const uint64_t lines_bytes = in_place ? 0 : aligned(Lines::bytes(it.window, *in.grid, pixel_of(it), {in.height, in.width}, job.shape, most));
    const Dense d(job, reinterpret_cast<float*>(job.scratch + lines_bytes));
    if (in_place) {
        const Rows rows{in.data, in.row, in.pixel, 0, UINT32_MAX};
        for (uint32_t y = job.first; y < job.last; y += most) compute(d, {rows, y, job.last - y < most ? job.last - y : most});
        return;
    }
    Lines lines(in, it.window, pixel_of(it), job.shape.width, most, job.first, job.scratch);
    for (uint32_t y = job.first; y < job.last; y += most) {
        const uint32_t count = job.last - y < most ? job.last - y : most;
        compute(d, {lines.see(y, count), y, count});
    }
}
}  // namespace convolution_codes

namespace depthwise_codes {
bool fits(const Program& program, const Instruction& it) {
    const Window& w = it.window;
    return fast::in_bytes(program, it) && it.groups == it.channels && it.reads[0].channels == it.channels && w.kernel[0] <= 8 &&
           w.stride[1] <= 4 && reach(w, 1) <= 32;
}
void prepare(const Program& program, Instruction& it) { fast::depthwise_codes(program, it, MACHINE); }

namespace {
uint64_t lines_bytes(const Depthwise& d, const Grid& grid, Shape in, Shape out) {
    return aligned(Lines::bytes(d.it.window, grid, d.pixel, in, out, 1)) + aligned(quad_bytes(d));
}
}  // namespace

uint64_t scratch(const Program& program, const Instruction& it, Shape in, Shape out) {
    const Depthwise d(program, it);
    const uint64_t values = writes_codes(program, it) ? 0 : aligned(4 * uint64_t(out.width) * d.pixel);
    return lines_bytes(d, *program.grid(it.reads[0]), in, out) + values;
}

void run(Job& job) {
    const Program& program = job.frame.program;
    const Depthwise d(program, job.it);
    const Tensor in = job.frame.tensor(job.it.reads[0]);
    Lines lines(in, job.it.window, d.pixel, job.shape.width, 1, job.first, job.scratch);
    uint8_t* end = job.scratch + lines_bytes(d, *in.grid, {in.height, in.width}, job.shape);
    uint8_t* quads = end - aligned(quad_bytes(d));
    float* values = reinterpret_cast<float*>(end);
    const bool codes = writes_codes(program, job.it);
    for (uint32_t y = job.first; y < job.last; ++y) {
        const Rows& rows = lines.see(y, 1);
        if (codes) {
            const Tensor to = job.frame.tensor(job.it.writes[0]);
            codes_row(d, codes_of(*to.grid), rows, y, job.shape.width, quads, to.at(y, 0), to.pixel, to.channels);
            continue;
        }
        values_row(d, rows, y, job.shape.width, quads, values);
        for (uint32_t x = 0; x < job.shape.width; ++x) finish(job, y, x, values + size_t(x) * d.pixel);
    }
}
}  // namespace depthwise_codes

// Depthwise, then 1×1: the row between them never leaves the cache.
namespace separable_codes {
bool joins(const Program& program, const Instruction& first, const Instruction& second) {
    const Window& w = second.window;
    return writes_codes(program, first) && w.kernel[0] == 1 && w.kernel[1] == 1 && w.stride[0] == 1 && w.stride[1] == 1 &&
           !(w.padding[0] | w.padding[1] | w.padding[2] | w.padding[3]);
}

namespace {
struct Memory {
    uint64_t lines, quads, line, values;
    Memory(const Program& program, const Depthwise& d, const Instruction& it, Shape in, Shape out)
        : lines(aligned(Lines::bytes(d.it.window, *program.grid(d.it.reads[0]), d.pixel, in, out, 1))), quads(aligned(quad_bytes(d))),
          line(aligned(uint64_t(out.width) * d.pixel)), values(value_bytes(program, it, out, 1)) {}
};
}  // namespace

uint64_t scratch(const Program& program, const Instruction& it, Shape in, Shape out) {
    const Memory memory(program, Depthwise(program, program.instructions[it.inside]), it, in, out);
    return memory.lines + memory.quads + memory.line + memory.values;
}

void run(Job& job) {
    const Program& program = job.frame.program;
    const Instruction& first = program.instructions[job.it.inside];
    const Depthwise depthwise(program, first);
    const Tensor in = job.frame.tensor(first.reads[0]);
    const Memory memory(program, depthwise, job.it, {in.height, in.width}, job.shape);
    Lines lines(in, first.window, depthwise.pixel, job.shape.width, 1, job.first, job.scratch);
    uint8_t* quads = job.scratch + memory.lines;
    uint8_t* line = quads + memory.quads;
    const Dense dense(job, reinterpret_cast<float*>(line + memory.line));
    Codes codes = codes_of(*program.grid(first.writes[0]));
    codes.flip = 0;  // lines are unsigned
    const Rows between{line, 0, depthwise.pixel, 0, 1};
    for (uint32_t y = job.first; y < job.last; ++y) {
        codes_row(depthwise, codes, lines.see(y, 1), y, job.shape.width, quads, line, depthwise.pixel, depthwise.pixel);
        compute(dense, {between, y, 1});
    }
}
}  // namespace separable_codes

}  // namespace pseg::PSEG_SET
