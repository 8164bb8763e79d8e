#include "layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace pseg::fast {
namespace {

// The weight of plane p, output o, tap, and channel i of its group.
size_t place(const Instruction& it, uint32_t p, uint32_t o, uint32_t tap, uint32_t i) {
    return ((size_t(p) * it.channels + o) * taps(it) + tap) * group_inputs(it) + i;
}

// Vectors of quads in the order in which they are given.
class Quads {
public:
    Quads(const Machine& machine, size_t vectors) : machine_(machine) { bytes.reserve(vectors * size()); }

    // number(lane, j) is number j of a lane.
    template <class Number>
    void add(Number number) {
        const size_t begin = bytes.size();
        bytes.resize(begin + size());
        for (uint32_t lane = 0; lane < machine_.lanes; ++lane)
            for (uint32_t j = 0; j < 4; ++j) {
                const int32_t value = number(lane, j);
                uint8_t* to = bytes.data() + begin + place_of(machine_, lane, j);
                to[0] = uint8_t(value & 255);
                if (machine_.order == Order::words) to[1] = uint8_t(value >> 8 & 255);
            }
    }

    std::vector<uint8_t> bytes;

private:
    size_t size() const { return machine_.lanes * (machine_.order == Order::words ? 8 : 4); }

    const Machine& machine_;
};

// The second affine of an epilogue `m · acc + b, relu or clip, affine`.
const Step* second_affine(const Instruction& it) {
    for (const Step& step : it.steps)
        if (step.kind == StepKind::affine) return &step;
    return nullptr;
}

// No |acc| · |m| + |b| is larger, nor that after the second affine. Sums of float layers have no bound.
float largest_result(const Program& program, const Instruction& it) {
    constexpr float NO_BOUND = std::numeric_limits<float>::infinity();
    const Quantization* grid = program.grid(it.reads[0]);
    if (!grid) return NO_BOUND;
    double most = 0;
    for (uint32_t o = 0; o < it.channels; ++o) {
        double sum = std::fabs(double(it.b[o]));
        for (size_t pair = 0; pair < it.m.size() / it.channels; ++pair)
            sum += it.weights.largest_sum * double(grid->largest()) * std::fabs(double(it.m[pair * it.channels + o]));
        most = std::max(most, sum);
    }
    if (const Step* step = second_affine(it)) {
        double m = 0, b = 0;
        for (uint32_t o = 0; o < it.channels; ++o)
            m = std::max(m, std::fabs(double(step->m[o]))), b = std::max(b, std::fabs(double(step->b[o])));
        most = std::max(most, most * m + b);
    }
    return most < 1e37 ? float(most * 1.001) : NO_BOUND;  // nan is not a bound
}

// Head, weights and constants as one piece. order[i] is the channel whose constants stand at i, or NONE.
template <class Start>
void put(const Instruction& it, Packed& packed, uint32_t inputs, const std::vector<uint8_t>& weights,
         const std::vector<uint32_t>& order, float most, Start start) {
    const uint32_t pairs = it.weights.planes * inputs, outputs = uint32_t(order.size());
    const uint64_t row = 4 * uint64_t(outputs);
    Head head{};
    head.weights = align_up(sizeof(Head));
    head.starts = align_up(head.weights + weights.size());
    head.m = head.starts + align_up(pairs * row);
    head.b = head.m + align_up(pairs * row);
    head.second_m = head.b + align_up(row);
    head.second_b = head.second_m + align_up(row);
    head.outputs = outputs, head.max_result = most;
    packed.assign(size_t(head.second_b + row + 2 * ALIGNMENT), 0);
    uint8_t* to = const_cast<uint8_t*>(start_of(packed));
    std::memcpy(to, &head, sizeof head);
    if (!weights.empty()) std::memcpy(to + head.weights, weights.data(), weights.size());
    const Step* second = second_affine(it);
    for (uint32_t i = 0; i < outputs; ++i) {
        const uint32_t o = order[i];
        if (o == NONE) continue;
        for (uint32_t pair = 0; pair < pairs; ++pair) {
            const int32_t first = start(pair, o);
            std::memcpy(to + head.starts + 4 * (size_t(pair) * outputs + i), &first, 4);
            if (!it.m.empty())
                std::memcpy(to + head.m + 4 * (size_t(pair) * outputs + i), &it.m[size_t(pair) * it.channels + o], 4);
        }
        std::memcpy(to + head.b + 4 * size_t(i), &it.b[o], 4);
        if (!second) continue;
        std::memcpy(to + head.second_m + 4 * size_t(i), &second->m[o], 4);
        std::memcpy(to + head.second_b + 4 * size_t(i), &second->b[o], 4);
    }
}

// Channels as tiles of vectors hold them.
std::vector<uint32_t> in_tiles(const Machine& machine, uint32_t channels) {
    const uint32_t all = round_up(channels, machine.lanes) / machine.lanes;
    uint32_t vectors = 0;
    while (vectors < all) vectors += vectors_at(machine, vectors, all);
    std::vector<uint32_t> order(size_t(vectors) * machine.lanes, NONE);
    for (uint32_t c = 0; c < channels; ++c) order[c] = c;
    return order;
}

// Calls each(first output, vectors) for every tile.
template <class Each>
void each_tile(const Machine& machine, uint32_t channels, Each each) {
    const uint32_t all = round_up(channels, machine.lanes) / machine.lanes;
    for (uint32_t first = 0, vectors; first < all; first += vectors) {
        vectors = vectors_at(machine, first, all);
        each(first * machine.lanes, vectors);
    }
}

// What a sum of an output begins with, so that inputs need no zero taken from them.
int32_t start_of_sum(const Program& program, const Instruction& it, const Machine& machine, uint32_t pair, uint32_t o) {
    const Quantization& grid = *program.grid(it.reads[0]);
    int64_t sum = 0;
    for (uint32_t tap = 0; tap < taps(it); ++tap)
        for (uint32_t i = 0; i < group_inputs(it); ++i)
            sum += it.weights.whole[place(it, pair / planes_of(&grid), o, tap, i)];
    return int32_t(uint32_t(uint64_t((machine.offset - zero_byte(grid)) * sum)));  // sums are modulo 2³²
}

}  // namespace

int32_t zero_byte(const Quantization& grid) {
    switch (grid.type()) {
        case Type::bits:
            return 1;
        case Type::s8:
            return grid.zero_point + 128;
        default:
            return grid.zero_point;
    }
}

bool is_byte_convolution(const Program& program, const Instruction& it) {
    return it.kind == Kind::convolution && program.grid(it.reads[0]) && program.type(it.reads[0]) != Type::s32 &&
           fits_in_bytes(program, it);
}

uint32_t depthwise_pixel(const Machine& machine, uint32_t channels) {
    const uint32_t bytes = 4 * machine.lanes;
    for (uint32_t part = 16; part < bytes; part *= 2)
        if (channels <= part) return part;
    return round_up(channels, bytes);
}

uint32_t vectors_at(const Machine& machine, uint32_t first, uint32_t all) {
    const uint32_t left = all - first;
    if (left + 1 >= machine.vectors) return machine.vectors;
    return left >= 2 ? 2 : 1;
}

void dense_codes(const Program& program, const Instruction& it, const Machine& machine, Packed& packed) {
    const uint32_t in = it.reads[0].channels, quads = round_up(in, 4) / 4, all = taps(it);
    const std::vector<uint32_t> order = in_tiles(machine, it.channels);
    Quads weights(machine, order.size() / machine.lanes * it.weights.planes * all * quads);
    each_tile(machine, it.channels, [&](uint32_t first, uint32_t vectors) {
        for (uint32_t p = 0; p < it.weights.planes; ++p)
            for (uint32_t tap = 0; tap < all; ++tap)
                for (uint32_t quad = 0; quad < quads; ++quad)
                    for (uint32_t v = 0; v < vectors; ++v)
                        weights.add([&](uint32_t lane, uint32_t j) {
                            const uint32_t o = first + v * machine.lanes + lane, i = 4 * quad + j;
                            return o < it.channels && i < in ? it.weights.whole[place(it, p, o, tap, i)] : 0;
                        });
    });
    put(it, packed, planes_of(program.grid(it.reads[0])), weights.bytes, order, largest_result(program, it),
        [&](uint32_t pair, uint32_t o) { return start_of_sum(program, it, machine, pair, o); });
}

Steps steps_of(const Instruction& it) {
    constexpr uint32_t MOST = 16;
    const uint32_t columns = it.window.dilation[1] == 1 ? it.window.kernel[1] : 1,
                   quads = columns * (round_up(it.reads[0].channels, 4) / 4);
    return {taps(it) / columns, columns, quads, std::min(quads, MOST), (quads + MOST - 1) / MOST};
}

void tile_codes(const Program& program, const Instruction& it, Packed& packed) {
    const Machine machine{16, 1, Order::quads, 0};
    const uint32_t in = it.reads[0].channels, inside = round_up(in, 4) / 4;
    const std::vector<uint32_t> order = in_tiles(machine, it.channels);
    const Steps steps = steps_of(it);
    Quads weights(machine, order.size() / machine.lanes * it.weights.planes * steps.runs * steps.count * steps.length);
    each_tile(machine, it.channels, [&](uint32_t first, uint32_t) {
        for (uint32_t p = 0; p < it.weights.planes; ++p)
            for (uint32_t run = 0; run < steps.runs; ++run)
                for (uint32_t step = 0; step < steps.count; ++step)
                    for (uint32_t quad = steps.begin(step); quad < steps.begin(step) + steps.length; ++quad)
                        weights.add([&](uint32_t lane, uint32_t j) {
                            const uint32_t o = first + lane, i = 4 * (quad % inside) + j;
                            const bool fresh = quad >= step * steps.length;
                            return fresh && o < it.channels && i < in
                                       ? it.weights.whole[place(it, p, o, run * steps.taps + quad / inside, i)]
                                       : 0;
                        });
    });
    put(it, packed, planes_of(program.grid(it.reads[0])), weights.bytes, order, largest_result(program, it),
        [&](uint32_t pair, uint32_t o) { return start_of_sum(program, it, machine, pair, o); });
}

void depthwise_codes(const Program& program, const Instruction& it, const Machine& machine, Packed& packed) {
    const uint32_t pixel = depthwise_pixel(machine, it.channels), bytes = 4 * machine.lanes;
    const uint32_t blocks = round_up(pixel, bytes) / bytes, rows = it.window.kernel[0], columns = it.window.kernel[1];
    // Of a block, part r holds channels 4r … 4r + 3 of each sixteen; a pixel of fewer bytes than a vector repeats.
    const auto channel = [&](uint32_t block, uint32_t part, uint32_t lane) {
        const uint32_t c = (block * bytes + lane / 4 * 16 + part * 4 + lane % 4) % pixel;
        return c < it.channels ? c : NONE;
    };
    Quads weights(machine, size_t(blocks) * it.weights.planes * columns * ((rows + 3) / 4) * 4);
    std::vector<uint32_t> order;
    for (uint32_t block = 0; block < blocks; ++block) {
        for (uint32_t part = 0; part < 4; ++part)
            for (uint32_t lane = 0; lane < machine.lanes; ++lane) order.push_back(channel(block, part, lane));
        for (uint32_t p = 0; p < it.weights.planes; ++p)
            for (uint32_t x = 0; x < columns; ++x)
                for (uint32_t quad = 0; quad < (rows + 3) / 4; ++quad)
                    for (uint32_t part = 0; part < 4; ++part)
                        weights.add([&](uint32_t lane, uint32_t j) {
                            const uint32_t c = channel(block, part, lane), y = 4 * quad + j;
                            return c != NONE && y < rows ? it.weights.whole[place(it, p, c, y * columns + x, 0)] : 0;
                        });
    }
    put(it, packed, planes_of(program.grid(it.reads[0])), weights.bytes, order, largest_result(program, it),
        [&](uint32_t pair, uint32_t o) { return start_of_sum(program, it, machine, pair, o); });
}

void dense_bits(const Program& program, const Instruction& it, const Machine& machine, Packed& packed) {
    const uint32_t in = it.reads[0].channels, words = round_up(in, 32) / 32, all = taps(it);
    const std::vector<uint32_t> order = in_tiles(machine, it.channels);
    std::vector<uint8_t> weights;
    weights.reserve(order.size() * 4 * it.weights.planes * all * words);
    each_tile(machine, it.channels, [&](uint32_t first, uint32_t vectors) {
        for (uint32_t p = 0; p < it.weights.planes; ++p)
            for (uint32_t tap = 0; tap < all; ++tap)
                for (uint32_t word = 0; word < words; ++word)
                    for (uint32_t o = first; o < first + vectors * machine.lanes; ++o) {
                        uint32_t bits = 0;
                        for (uint32_t i = 32 * word; o < it.channels && i < std::min(in, 32 * word + 32); ++i)
                            bits |= uint32_t(it.weights.whole[place(it, p, o, tap, i)] > 0) << i % 32;
                        for (uint32_t byte = 0; byte < 4; ++byte) weights.push_back(uint8_t(bits >> 8 * byte));
                    }
    });
    put(it, packed, planes_of(program.grid(it.reads[0])), weights, order, largest_result(program, it),
        [&](uint32_t, uint32_t) { return int32_t(all * in); });
}

namespace {
float number(const Instruction& it, size_t at) {
    return it.weights.f32.empty() ? float(it.weights.whole[at]) : it.weights.f32[at];
}

void add(std::vector<uint8_t>& bytes, float value) {
    uint8_t four[4];
    std::memcpy(four, &value, 4);
    bytes.insert(bytes.end(), four, four + 4);
}
}  // namespace

void dense_floats(const Program& program, const Instruction& it, const Machine& machine, Packed& packed) {
    const uint32_t in = it.reads[0].channels, all = taps(it);
    const std::vector<uint32_t> order = in_tiles(machine, it.channels);
    std::vector<uint8_t> weights;
    weights.reserve(order.size() * 4 * it.weights.planes * all * in);
    each_tile(machine, it.channels, [&](uint32_t first, uint32_t vectors) {
        for (uint32_t p = 0; p < it.weights.planes; ++p)
            for (uint32_t tap = 0; tap < all; ++tap)
                for (uint32_t i = 0; i < in; ++i)
                    for (uint32_t o = first; o < first + vectors * machine.lanes; ++o)
                        add(weights, o < it.channels ? number(it, place(it, p, o, tap, i)) : 0);
    });
    put(it, packed, 1, weights, order, largest_result(program, it), [](uint32_t, uint32_t) { return 0; });
}

void depthwise_floats(const Program& program, const Instruction& it, const Machine& machine, Packed& packed) {
    const uint32_t channels = round_up(it.channels, machine.lanes);
    std::vector<uint32_t> order(channels, NONE);
    for (uint32_t c = 0; c < it.channels; ++c) order[c] = c;
    std::vector<uint8_t> weights;
    for (uint32_t p = 0; p < it.weights.planes; ++p)
        for (uint32_t tap = 0; tap < taps(it); ++tap)
            for (uint32_t c = 0; c < channels; ++c)
                add(weights, c < it.channels ? number(it, place(it, p, c, tap, 0)) : 0);
    put(it, packed, 1, weights, order, largest_result(program, it), [](uint32_t, uint32_t) { return 0; });
}

}  // namespace pseg::fast
