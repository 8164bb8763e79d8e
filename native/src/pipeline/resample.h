// The antialiased bilinear filter of src/pocketseg/pipeline/geometry.py, row by row: the same weights, and the same sums
// in the same order.
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
public:
    Resampler() = default;
    Resampler(Shape source, Shape target, uint32_t channels) : Resampler(source, target, channels, {0, target.height}, {0, target.width}) {}
    Resampler(Shape source, Shape target, uint32_t channels, Span rows, Span columns);

    // Bytes that run needs, and lays its tables out in.
    uint64_t scratch() const;

    // give(y, row) writes row y of all channels of the source, channel by channel; it is asked for rows in ascending
    // order, each at most once. take(y, row) gets row y of the result, counted from the window's first.
    template <class Give, class Take>
    void run(uint8_t* scratch, Give give, Take take) const {
        const Tables tables = lay_out(scratch);
        uint32_t next = 0;
        for (uint32_t y = rows_.first; y < rows_.last; ++y) {
            const uint32_t first = down_.first(y);
            if (next < first) next = first;
            for (; next < first + down_.count(); ++next) {
                float* slot = tables.ring + size_t(next % down_.count()) * between_ * channels_;
                if (rows_first_) {
                    give(next, slot);
                } else {
                    give(next, tables.row);
                    across(tables, tables.row, slot);
                }
            }
            down(tables, y, first, rows_first_ ? tables.row : tables.result);
            if (rows_first_) across(tables, tables.row, tables.result);
            take(y - rows_.first, tables.result);
        }
    }

private:
    struct Tables {
        uint32_t* first;              // pixel of each column of the window
        float *across, *down;         // weights of all columns, and of one row
        float *ring, *row, *result;  // rows that the filter reads, one between the filters, one of the result
    };

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
