// Rows of an input with a margin, a few at a time in a ring: of codes as unsigned bytes, of f32, or of bits as they
// are.
#pragma once

#include "layout.h"
#include "simd.h"

namespace pseg::PSEG_ISA {
namespace {

// What a window sees of rows; row 0 and column 0 are the first ones of the margin.
struct Rows {
    const uint8_t* base = nullptr;
    size_t row = 0, pixel = 0, plane = 0;
    uint32_t slots = 1;

    const uint8_t* at(uint32_t y) const { return base + (y % slots) * row; }
};

// Columns of a line: as many as windows see, and no fewer than the input and its margins have.
inline uint32_t line_columns(const Window& window, uint32_t in_width, uint32_t out_width) {
    const uint32_t seen = (out_width - 1) * window.stride[1] + reach(window, 1), has = in_width + window.padding[1];
    return seen > has ? seen : has;
}

// Rows that `count` rows of output see.
inline uint32_t line_rows(const Window& window, uint32_t count) {
    return (count - 1) * window.stride[0] + reach(window, 0);
}

class Lines {
public:
    static uint64_t bytes(const Window& window, uint32_t planes, uint32_t pixel, Shape in, Shape out, uint32_t rows) {
        const uint64_t line = uint64_t(line_columns(window, in.width, out.width)) * pixel;
        return uint64_t(planes) * line_rows(window, rows) * line + BYTES;  // a vector may be read beyond the last pixel
    }

    // `rows` rows of output are made at a time, from row `first` on. Lines without memory are never seen. `words`: bits
    // stay bits.
    Lines(const Tensor& in, const Window& window, uint32_t pixel, uint32_t out_width, uint32_t rows, uint32_t first,
          uint8_t* memory, bool words = false)
        : in_(in),
          window_(window),
          next_(first * window.stride[0]),
          planes_(in.grid ? in.grid->planes : 1),
          words_(words),
          memory_(memory) {
        columns_ = line_columns(window, in.width, out_width);
        view.base = memory, view.pixel = pixel, view.row = size_t(columns_) * pixel,
        view.slots = line_rows(window, rows);
        view.plane = view.row * view.slots;
        // Margins, and the bytes behind a pixel's last channel, are written once: their slots keep them.
        for (int q = 0; memory && q < planes_; ++q) clear(memory + size_t(q) * view.plane, view.plane, q);
    }

    // Brings in what rows first … first + count − 1 of the output see.
    const Rows& see(uint32_t first, uint32_t count) {
        const uint32_t begin = first * window_.stride[0], end = begin + line_rows(window_, count);
        if (next_ < begin) next_ = begin;
        for (; next_ < end; ++next_)
            for (int q = 0; q < planes_; ++q) fill(next_, q);
        return view;
    }

    Rows view;

private:
    // Memory outside of the image: the byte of the number 0; of signs, of the sign that 0 has.
    void clear(uint8_t* to, size_t bytes, int q) const {
        if (!in_.grid)
            std::memset(to, 0, bytes);
        else if (in_.grid->kind != QuantizationKind::binary_planes)
            std::memset(to, uint8_t(fast::zero_byte(*in_.grid)), bytes);
        else if (!words_)
            std::memset(to, in_.grid->zero_planes >> q & 1 ? 2 : 0, bytes);
        else
            for (size_t i = 0; i < bytes; i += 4)
                store(to + i, in_.grid->zero_planes >> q & 1 ? word_mask(uint32_t(i / 4) % (view.pixel / 4)) : 0u);
    }

    // Bits of a word that are channels.
    uint32_t word_mask(size_t word) const {
        const size_t left = in_.channels - 32 * word;
        return left >= 32 ? UINT32_MAX : (uint32_t(1) << left) - 1;
    }

    void fill(uint32_t row, int q) {
        uint8_t* to = memory_ + size_t(q) * view.plane + (row % view.slots) * view.row;
        if (row < window_.padding[0] || row - window_.padding[0] >= in_.height) {
            clear(to, view.row, q);
            return;
        }
        const uint8_t* from = in_.at(row - window_.padding[0], 0);
        // The margins again: the slot may have held a row outside.
        if (window_.padding[0] + window_.padding[2]) {
            clear(to, view.pixel * window_.padding[1], q);
            const uint32_t end = window_.padding[1] + in_.width;
            clear(to + view.pixel * end, view.pixel * (columns_ - end), q);
        }
        to += view.pixel * window_.padding[1];
        if (!in_.grid) {
            const size_t bytes = 4 * size_t(in_.channels);
            if (in_.pixel == bytes && view.pixel == bytes)
                std::memcpy(to, from, bytes * in_.width);
            else
                for (uint32_t x = 0; x < in_.width; ++x) copy_bytes(to + x * view.pixel, from + x * in_.pixel, bytes);
            return;
        }
        switch (in_.grid->type()) {
            case Type::bits:
                if (words_)
                    for (uint32_t x = 0; x < in_.width; ++x)
                        for (size_t i = 0; i < view.pixel / 4; ++i)
                            store(to + x * view.pixel + 4 * i,
                                  load<uint32_t>(from + x * in_.pixel + size_t(q) * in_.plane + 4 * i) & word_mask(i));
                else
                    for (uint32_t x = 0; x < in_.width; ++x)
                        spread(from + x * in_.pixel + size_t(q) * in_.plane, to + x * view.pixel);
                return;
            case Type::s8:
                for (uint32_t x = 0; x < in_.width; ++x) flip<0x80>(from + x * in_.pixel, to + x * view.pixel);
                return;
            default:
                if (in_.pixel == view.pixel && in_.pixel == in_.channels)
                    std::memcpy(to, from, in_.pixel * in_.width);
                else
                    for (uint32_t x = 0; x < in_.width; ++x) flip<0>(from + x * in_.pixel, to + x * view.pixel);
        }
    }

    template <uint8_t FLIP>
    void flip(const uint8_t* from, uint8_t* to) const {
        uint32_t c = 0;
        for (; c + 16 <= in_.channels; c += 16) {
            uint64_t two[2];
            __builtin_memcpy(two, from + c, 16);
            two[0] ^= 0x0101010101010101u * FLIP, two[1] ^= 0x0101010101010101u * FLIP;
            __builtin_memcpy(to + c, two, 16);
        }
        for (; c < in_.channels; ++c) to[c] = from[c] ^ FLIP;
    }

    // Bits to bytes, 0 and 2.
    void spread(const uint8_t* from, uint8_t* to) const {
        uint32_t c = 0;
        for (; c + 8 <= in_.channels; c += 8) {
            const uint64_t each = (from[c / 8] * 0x0101010101010101u) & 0x8040201008040201u;
            const uint64_t bytes = (((each + 0x7f7f7f7f7f7f7f7fu) | each) >> 7 & 0x0101010101010101u) << 1;
            __builtin_memcpy(to + c, &bytes, 8);
        }
        for (; c < in_.channels; ++c) to[c] = uint8_t((from[c / 8] >> c % 8 & 1) * 2);
    }

    const Tensor in_;
    const Window& window_;
    uint32_t next_, columns_;
    int planes_;
    bool words_;
    uint8_t* memory_;
};

}  // namespace
}  // namespace pseg::PSEG_ISA
