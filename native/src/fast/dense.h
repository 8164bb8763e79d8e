// What convolutions have in common whose every output sees every input: tiles, rows, and where results go.
#pragma once

#include "lines.h"
#include "pixel_epilogue.h"

namespace pseg::PSEG_ISA {
namespace {

// A tile is some pixels of a row by V vectors of outputs: so many that sums stay in registers.
constexpr fast::Machine MACHINE{LANES, FEW_REGISTERS ? 2 : 4, ORDER, OFFSET};
template <int V>
constexpr int PIXELS = FEW_REGISTERS ? (ORDER == fast::Order::words ? 4
                                        : V == 2                    ? 6
                                                                    : 8)
                       : V == 4      ? (ORDER == fast::Order::pairs ? 4 : 6)
                       : V == 2      ? 8
                                     : 16;

constexpr uint32_t MAX_ROWS = 8;  // of a kernel
// Pixels of a block of rows, at least, where there are so many: weights are read once for all of them.
constexpr uint32_t PIXELS_AT_ONCE = 96;

inline uint32_t rows_at_once(Shape out) {
    const uint32_t rows = (PIXELS_AT_ONCE + out.width - 1) / out.width;
    return rows < out.height ? rows : out.height;
}

// A convolution where every output sees every input, while it runs.
struct Dense {
    Job& job;
    const Instruction& it;
    const Window& window;
    Epilogue epilogue;
    Constants constants;
    const uint8_t* weights;
    uint32_t inputs, pairs;
    bool bytes;   // everything is written as bytes, all of which are codes
    bool number;  // nothing but one f32 a pixel is written, as it is
    Targets targets;
    float* values;  // f32 of a block of rows, where the epilogue is not plain

    Dense(Job& job, float* values)
        : job(job),
          it(job.it),
          window(it.window),
          epilogue(epilogue_of(job.frame.program, job.op)),
          constants(constants_of(job.op)),
          weights(fast::start_of(job.op.packed) + fast::head_of(job.op).weights),
          inputs(planes_of(job.frame.program.grid(it.reads[0]))),
          pairs(it.weights.planes * inputs),
          bytes(epilogue.plain),
          number(epilogue.plain && !epilogue.bound && !epilogue.second && it.channels == 1 && it.writes.size() == 1 &&
                 !job.frame.program.grid(it.writes[0])),
          targets(job, epilogue.plain),
          values(values) {
        for (uint32_t t = 0; t < targets.count; ++t)
            bytes &= is_bytes(targets.tensors[t].grid) && targets.codes[t].whole;
    }
};

// A row of output: the rows of input that its kernel sees, and where it goes.
struct Line {
    const uint8_t* from[MAX_ROWS];
    // Bytes to the next pixel, to that of the next output, of the next tap, of the next plane.
    size_t pixel, step, column, plane;
    uint32_t y, index;        // row of the output, and its first pixel in the block
    uint8_t* to[MAX_WRITES];  // at the first output of the tile

    Line(const Dense& d, const Rows& rows, uint32_t y, uint32_t index, uint32_t first)
        : pixel(rows.pixel),
          step(rows.pixel * d.window.stride[1]),
          column(rows.pixel * d.window.dilation[1]),
          plane(rows.plane),
          y(y),
          index(index) {
        for (uint32_t i = 0; i < d.window.kernel[0]; ++i)
            from[i] = rows.at(y * d.window.stride[0] + i * d.window.dilation[0]);
        for (uint32_t t = 0; t < d.targets.count; ++t) {
            const Tensor& tensor = d.targets.tensors[t];
            to[t] = tensor.at(y, 0) + (tensor.grid ? tensor.grid->kind == QuantizationKind::binary_planes ? 0 : first
                                                   : 4 * size_t(first));
        }
    }
};

// 2. (as epilogue.h counts) y (+)= acc · m of one pair of planes; the first pair begins. Without scales y is the sum.
template <class Sum>
__attribute__((noinline)) void add_pair(const Dense& d, uint32_t pair, uint32_t first, uint32_t pixels,
                                        uint32_t vectors, const Sum* acc, F32* y) {
    const bool scales = !d.it.m.empty();
    for (uint32_t v = 0; v < vectors; ++v) {
        const F32 m = load<F32>(d.constants.m + size_t(pair) * d.constants.outputs + first + v * LANES);
        for (uint32_t k = v; k < pixels * vectors; k += vectors) {
            const F32 sum = __builtin_convertvector(acc[k], F32), part = scales ? sum * m : sum;
            y[k] = pair ? y[k] + part : part;
        }
    }
}

// 2. + b, and 3 to 5 of what is not written as bytes, to memory first; where the epilogue is not plain, they come
// later.
template <int V>
__attribute__((noinline)) void write_others(const Dense& d, const Line& line, uint32_t x, uint32_t first,
                                            uint32_t count, F32* y) {
    const uint32_t valid = d.it.channels - first < V * LANES ? d.it.channels - first : V * LANES;
    for (uint32_t p = 0; p < count; ++p, y += V) {
        for (int v = 0; v < V; ++v) y[v] = y[v] + load<F32>(d.constants.b + first + v * LANES);
        if (!d.epilogue.plain) {
            std::memcpy(d.values + size_t(line.index + x + p) * d.constants.outputs + first, y, sizeof(F32) * V);
            continue;
        }
        for (int v = 0; v < V; ++v) y[v] = apply_steps(d.epilogue, d.constants, first + v * LANES, y[v]);
        for (uint32_t t = 0; t < d.targets.count; ++t) {
            const Tensor& to = d.targets.tensors[t];
            uint8_t* pixel = line.to[t] + (x + p) * to.pixel;
            if (!to.grid) {
                std::memcpy(pixel, y, 4 * size_t(valid));
            } else if (to.grid->kind == QuantizationKind::binary_planes) {
                put_signs<V>(to, pixel, first, valid, y);
            } else {
                alignas(BYTES) uint8_t each[BYTES];
                const Codes& codes = d.targets.codes[t];
                store(each, pack(code(codes, y[0]), code(codes, y[V > 1]), code(codes, y[V > 2 ? 2 : 0]),
                                 code(codes, y[V > 2 ? 3 : 0]), codes.zero) ^
                                codes.flip);
                std::memcpy(pixel, each, valid);
            }
        }
    }
}

template <int P, class Each>
INLINE inline void tiles(uint32_t width, Each each) {
    for (uint32_t x = 0; width >= P && x < width; x += P)
        each(std::integral_constant<int, P>{}, x + P <= width ? x : width - P);
    for (uint32_t x = 0; width < P && x < width; ++x) each(std::integral_constant<int, 1>{}, x);
}

// Epilogues that are not plain, of rows whose values are all there.
inline void epilogue_rows(const Dense& d, uint32_t begin, uint32_t count) {
    if (d.epilogue.plain) return;
    PixelEpilogue per_pixel(d.job);
    for (uint32_t y = 0; y < count; ++y)
        for (uint32_t x = 0; x < d.job.shape.width; ++x)
            per_pixel(begin + y, x, d.values + (size_t(y) * d.job.shape.width + x) * d.constants.outputs);
}

// Rows begin … begin + count − 1 of the output. Tiles<V>::run does V vectors of outputs, and says where the weights of
// the next ones begin.
template <template <int> class Tiles>
void compute(const Dense& d, const Rows& rows, uint32_t begin, uint32_t count) {
    const uint8_t* w = d.weights;
    const uint32_t vectors = d.constants.outputs / LANES;
    for (uint32_t v = 0, now; v < vectors; v += now) {
        now = fast::vectors_at(MACHINE, v, vectors);
        if (now == 1)
            w = Tiles<1>::run(d, rows, begin, count, v * LANES, w);
        else if (now == 2)
            w = Tiles<2>::run(d, rows, begin, count, v * LANES, w);
        else if constexpr (MACHINE.vectors == 4)
            w = Tiles<4>::run(d, rows, begin, count, v * LANES, w);
    }
    epilogue_rows(d, begin, count);
}

// Bytes for values, where the epilogue needs them.
inline uint64_t value_bytes(const Program& program, const Operator& op, Shape out, uint32_t rows) {
    if (epilogue_of(program, op).plain) return 0;
    return align_up(4 * (uint64_t(rows) * out.width * fast::head_of(op).outputs + CHUNK));
}

// Whether pixels can be read where they lie.
inline bool is_pointwise(const Window& w) { return w.kernel[0] == 1 && w.kernel[1] == 1 && !has_padding(w); }

inline uint64_t line_bytes(const Program& program, const Instruction& it, Shape in, Shape out, uint32_t pixel,
                           uint32_t rows) {
    return align_up(Lines::bytes(it.window, planes_of(program.grid(it.reads[0])), pixel, in, out, rows));
}

// All rows of a job, with lines of pixels of `pixel` bytes, or in place: each(dense, lines, first row, count) for some
// of them.
template <class Each>
void each_rows(Job& job, uint32_t pixel, bool in_place, bool words, Each each) {
    const Instruction& it = job.it;
    const Tensor in = job.frame.tensor(it.reads[0]);
    const uint32_t most = rows_at_once(job.shape);
    const Shape size{in.height, in.width};
    const uint64_t lines_bytes = in_place ? 0 : line_bytes(job.frame.program, it, size, job.shape, pixel, most);
    const Dense d(job, reinterpret_cast<float*>(job.scratch + lines_bytes));
    Lines lines(in, it.window, pixel, job.shape.width, most, job.first, in_place ? nullptr : job.scratch, words);
    if (in_place) lines.view = {in.data, in.row, in.pixel, in.plane, in.ring ? in.ring : UINT32_MAX};
    for (uint32_t y = job.first; y < job.last; y += most) {
        const uint32_t count = job.last - y < most ? job.last - y : most;
        each(d, in_place ? lines.view : lines.see(y, count), y, count);
    }
}

template <template <int> class Tiles>
void run_dense(Job& job, uint32_t pixel, bool in_place, bool words = false) {
    each_rows(job, pixel, in_place, words, compute<Tiles>);
}

inline uint64_t dense_scratch(const Program& program, const Operator& op, Shape in, Shape out, uint32_t pixel,
                              bool in_place) {
    const uint32_t rows = rows_at_once(out);
    return (in_place ? 0 : line_bytes(program, *op.it, in, out, pixel, rows)) + value_bytes(program, op, out, rows);
}

}  // namespace
}  // namespace pseg::PSEG_ISA
