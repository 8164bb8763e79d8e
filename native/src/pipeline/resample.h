// The antialiased bilinear filter of src/pocketseg/pipeline/geometry.py, row by row: the same weights, and the same
// sums in the same order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../shapes.h"

namespace pseg {

// How `target` pixels are made of `source` pixels, along one side.
class Taps {
public:
    Taps() = default;
    Taps(uint32_t source, uint32_t target);

    uint32_t count() const { return count_; }
    uint32_t source() const { return source_; }
    // The first pixel that a result is made of.
    uint32_t first(uint32_t at) const;
    // The weights of a result, `count` of them.
    void weights(uint32_t at, float* to) const;

private:
    uint32_t source_ = 0, target_ = 0, count_ = 0;
    double scale_ = 1, support_ = 1;
};

// Resamples planes (channels, rows, columns), of which only rows of a window of the result are made.
class Resampler {
    struct Tables {
        uint32_t* first;             // pixel of each column of the window
        float *across, *down;        // weights of all columns, and of one row
        float *ring, *row, *result;  // rows that the filter reads, one between the filters, one of the result
    };

public:
    Resampler() = default;
    Resampler(Shape source, Shape target, uint32_t channels)
        : Resampler(source, target, channels, {0, target.height}, {0, target.width}) {}
    Resampler(Shape source, Shape target, uint32_t channels, Span rows, Span columns);

    // Bytes that rows need for themselves.
    uint64_t scratch() const;

    // Rows of the result, one after the other. give(y, row) writes row y of all channels of the source, channel by
    // channel; it is asked for rows in ascending order, each at most once.
    template <class Give>
    class Rows {
    public:
        Rows(const Resampler& of, uint8_t* scratch, Give give) : of_(of), tables_(of.lay_out(scratch)), give_(give) {}

        // The next row of the window, all channels; it stays until the one after it is asked for.
        const float* next() {
            const uint32_t y = of_.rows_.first + done_++, first = of_.down_.first(y), taps = of_.down_.count();
            if (given_ < first) given_ = first;
            for (; given_ < first + taps; ++given_) {
                float* slot = tables_.ring + size_t(given_ % taps) * of_.between_ * of_.channels_;
                if (of_.rows_first_) {
                    give_(given_, slot);
                } else {
                    give_(given_, tables_.row);
                    of_.across(tables_, tables_.row, slot);
                }
            }
            of_.down(tables_, y, first, of_.rows_first_ ? tables_.row : tables_.result);
            if (of_.rows_first_) of_.across(tables_, tables_.row, tables_.result);
            return tables_.result;
        }

    private:
        const Resampler& of_;
        const Tables tables_;
        Give give_;
        uint32_t done_ = 0, given_ = 0;
    };

    template <class Give>
    Rows<Give> rows(uint8_t* scratch, Give give) const {
        return Rows<Give>(*this, scratch, give);
    }

private:
    Tables tables(uint8_t* scratch, uint64_t* bytes) const;
    Tables lay_out(uint8_t* scratch) const;
    void across(const Tables& tables, const float* from, float* to) const;
    void down(const Tables& tables, uint32_t y, uint32_t first, float* to) const;

    Taps down_, across_;
    Shape source_, target_;
    uint32_t channels_ = 0, between_ = 0;  // columns of a row between the two filters
    Span rows_, columns_;
    bool rows_first_ = true;
};

}  // namespace pseg
