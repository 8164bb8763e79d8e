// Dense convolutions over codes on matrix tiles. One instruction multiplies 16 pixels of 64 bytes by 16 outputs of 64
// weights and adds that to 16 × 16 sums; two tiles of pixels by two of outputs are summed at a time, so that each tile
// that is read is used twice. Sums begin with the same numbers as in every ISA, and end in vectors of AVX-512, from
// step 2 of epilogue.h on.
#include "codes.h"

namespace pseg::PSEG_ISA {
namespace convolution_codes {
namespace {

constexpr uint32_t PIXELS_OF_TILE = 16;

// Shorter sums would spend their time with what begins and ends them; a 1×1 behind a depthwise layer is better joined
// with it by AVX-512. Both bounds are guesses: this kernel has never been timed.
constexpr uint32_t MIN_PRODUCTS = 128, MIN_OUTPUTS = 16;

uint32_t pixels_of_tile(uint32_t width) { return width < PIXELS_OF_TILE ? width : PIXELS_OF_TILE; }

// Registers 0 to 3 are sums, 4 and 5 pixels, 6 and 7 weights; they belong to this thread as long as this object lives.
class Registers {
public:
    Registers(uint32_t pixels, const fast::Steps& steps) {
        struct {
            uint8_t palette = 1, start_row = 0, reserved[14] = {};
            uint16_t columns[16] = {};  // bytes of a row
            uint8_t rows[16] = {};
        } shape;
        static_assert(sizeof shape == 64);
        for (int i = 0; i < 8; ++i) {
            shape.columns[i] = uint16_t(i == 4 || i == 5 ? 4 * steps.length : 64);
            shape.rows[i] = uint8_t(i < 6 ? pixels : steps.length);
        }
        written(&shape);
        _tile_loadconfig(&shape);
    }
    ~Registers() { _tile_release(); }
    Registers(const Registers&) = delete;
    Registers& operator=(const Registers&) = delete;

    // gcc does not know that tiles read memory: what was written must be there.
    static void written(const void* memory) { asm volatile("" : : "r"(memory) : "memory"); }
};

// Neighbors in a row of the output, from x on.
struct Tile {
    Line line;
    uint32_t x;
};

// 1. sums[tile][pixel][vector], of plane q of the input and the plane of the weights at w; the next 16 outputs have
// theirs `next` bytes further on. No pixel is read behind the last tap of its window.
template <int T, int V>
void sum(const Dense& d, const fast::Steps& steps, const Tile* tiles, uint32_t q, const uint8_t* w, size_t next,
         const int32_t* start, I32* sums) {
    Registers::written(sums);
    _tile_loadd(0, start, 0);
    if constexpr (V > 1) _tile_loadd(1, start + LANES, 0);
    if constexpr (T > 1) _tile_loadd(2, start, 0);
    if constexpr (T > 1 && V > 1) _tile_loadd(3, start + LANES, 0);
    const size_t stride = tiles->line.step;
    const uint32_t apart = steps.runs / d.window.kernel[0];  // runs of a row of the kernel
    for (uint32_t run = 0; run < steps.runs; ++run) {
        const uint8_t* from[T];
        for (int t = 0; t < T; ++t) {
            const Line& line = tiles[t].line;
            from[t] = line.from[run / apart] + q * line.plane + tiles[t].x * stride + run % apart * line.column;
        }
        for (uint32_t step = 0; step < steps.count; ++step, w += size_t(steps.length) * 64) {
            const size_t at = 4 * size_t(steps.begin(step));
            _tile_loadd(4, from[0] + at, stride);
            _tile_loadd(6, w, 64);
            _tile_dpbusd(0, 4, 6);
            if constexpr (V > 1) {
                _tile_loadd(7, w + next, 64);
                _tile_dpbusd(1, 4, 7);
            }
            if constexpr (T > 1) {
                _tile_loadd(5, from[T - 1] + at, stride);
                _tile_dpbusd(2, 5, 6);
            }
            if constexpr (T > 1 && V > 1) _tile_dpbusd(3, 5, 7);
        }
    }
    _tile_stored(0, sums, V * BYTES);
    if constexpr (V > 1) _tile_stored(1, sums + 1, V * BYTES);
    if constexpr (T > 1) _tile_stored(2, sums + PIXELS_OF_TILE * V, V * BYTES);
    if constexpr (T > 1 && V > 1) _tile_stored(3, sums + PIXELS_OF_TILE * V + 1, V * BYTES);
}

// 2. Back-transformation, and the rest.
template <int V, int P>
INLINE inline void put(const Dense& d, const Tile& tile, uint32_t pixel, uint32_t first, const I32* sums) {
    F32 y[P][V];
    unroll<V>([&](auto v) INLINE {
        const F32 m = load<F32>(d.constants.m + first + v * LANES), b = load<F32>(d.constants.b + first + v * LANES);
        unroll<P>([&](auto p) INLINE { y[p][v] = to_float(sums[(pixel + p) * V + v]) * m + b; });
    });
    write_bytes<V, P>(d, tile.line, tile.x + pixel, first, y);
}

// T tiles of pixels by V of outputs, from their first sum to where they go.
template <int T, int V>
void results(const Dense& d, const fast::Steps& steps, const Tile* tiles, uint32_t first, const uint8_t* w) {
    const uint32_t pixels = pixels_of_tile(d.job.shape.width);
    const size_t plane = steps.bytes(), next = d.it.weights.planes * plane;
    const int32_t* start = d.constants.start + first;
    I32 sums[T * PIXELS_OF_TILE * V];
    if (d.pairs == 1 && d.bytes) {
        sum<T, V>(d, steps, tiles, 0, w, next, start, sums);
        for (int t = 0; t < T; ++t) {
            const I32* of = sums + t * PIXELS_OF_TILE * V;
            uint32_t p = 0;
            for (; p + 4 <= pixels; p += 4) put<V, 4>(d, tiles[t], p, first, of);
            for (; p < pixels; ++p) put<V, 1>(d, tiles[t], p, first, of);
        }
        return;
    }
    F32 y[T * PIXELS_OF_TILE * V];
    for (uint32_t pair = 0; pair < d.pairs; ++pair) {
        sum<T, V>(d, steps, tiles, pair % d.inputs, w + pair / d.inputs * plane, next,
                  start + size_t(pair) * d.constants.outputs, sums);
        for (int t = 0; t < T; ++t)
            add_pair(d, pair, first, pixels, V, sums + t * PIXELS_OF_TILE * V, y + t * PIXELS_OF_TILE * V);
    }
    for (int t = 0; t < T; ++t)
        write_others<V>(d, tiles[t].line, tiles[t].x, first, pixels, y + t * PIXELS_OF_TILE * V);
}

// V vectors of outputs of some rows. The last tile of a row ends with it, and overlaps the one before.
template <int V>
void rows_of(const Dense& d, const fast::Steps& steps, const Rows& rows, uint32_t begin, uint32_t count, uint32_t first,
             const uint8_t* w) {
    const uint32_t width = d.job.shape.width, pixels = pixels_of_tile(width), across = (width + pixels - 1) / pixels;
    const auto tile = [&](uint32_t i) {
        const uint32_t row = i / across, x = i % across * pixels;
        return Tile{Line(d, rows, begin + row, row * width, first), x + pixels <= width ? x : width - pixels};
    };
    const uint32_t all = count * across;
    for (uint32_t i = 0; i + 1 < all; i += 2) {
        const Tile two[] = {tile(i), tile(i + 1)};
        results<2, V>(d, steps, two, first, w);
    }
    if (all % 2) {
        const Tile last = tile(all - 1);
        results<1, V>(d, steps, &last, first, w);
    }
}

}  // namespace

bool fits(const Program& program, const Instruction& it) {
    const Window& w = it.window;
    return fast::is_byte_convolution(program, it) && it.groups == 1 && w.kernel[0] <= MAX_ROWS &&
           it.channels >= MIN_OUTPUTS && uint32_t(w.kernel[0]) * w.kernel[1] * it.reads[0].channels >= MIN_PRODUCTS &&
           !(program.type(it.reads[0]) == Type::bits &&
             it.weights.kind == WeightKind::signs);  // convolution_bits is for those
}

void prepare(const Program& program, const Instruction& it, Packed& packed) { fast::tile_codes(program, it, packed); }

uint64_t scratch(const Program& program, const Operator& op, Shape in, Shape out) {
    return dense_scratch(program, op, in, out, 4 * quads_of(*op.it), reads_in_place(program, *op.it));
}

void run(Job& job) {
    const fast::Steps steps = fast::steps_of(job.it);
    const Registers registers(pixels_of_tile(job.shape.width), steps);
    each_rows(job, 4 * quads_of(job.it), reads_in_place(job.frame.program, job.it), false,
              [&](const Dense& d, const Rows& rows, uint32_t begin, uint32_t count) {
                  const uint8_t* w = d.weights;
                  const size_t vector = d.it.weights.planes * steps.bytes();
                  for (uint32_t v = 0; v < d.constants.outputs / LANES; v += 2, w += 2 * vector) {
                      if ((v + 1) * LANES < d.constants.outputs)
                          rows_of<2>(d, steps, rows, begin, count, v * LANES, w);
                      else
                          rows_of<1>(d, steps, rows, begin, count, v * LANES, w);
                  }
                  epilogue_rows(d, begin, count);
              });
}

}  // namespace convolution_codes
}  // namespace pseg::PSEG_ISA
