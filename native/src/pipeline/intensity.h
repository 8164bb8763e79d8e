// From stored numbers to the numbers a net sees: src/pocketseg/pipeline/intensity.py.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pipeline.h"
#include "pocketseg.h"

namespace pseg {

// Which stored values become 0 and 1.
struct Scale {
    float low, span;
};

size_t bytes_of_pixel(uint32_t type);

// Throws Fault where nothing says what the numbers mean, or f32 cannot hold them.
Scale scale_of(const Pipeline& pipeline, const pseg_image& image);

// Row y of an image as `channels` rows of unit range; `scratch` holds a row of all channels of the image.
void unit_row(const pseg_image& image, const Scale& scale, uint32_t channels, uint32_t y, float* scratch, float* to);

// Normalizes a window of planes (channels, rows, columns) in place, whose rows lie `row` and whose planes lie `plane`
// numbers apart. `sums` holds a number for each of the window.
void normalize(const Pipeline& pipeline, float* planes, uint32_t height, uint32_t width, size_t row, size_t plane,
               double* sums);

// Numbers of planes (channels, rows, columns), evenly spread, for the 0.5th and the 99.5th percentile.
class Sample {
public:
    static constexpr size_t ENOUGH = 4096, MOST = 2 * ENOUGH;

    // `some` has room for MOST numbers.
    Sample(uint32_t channels, uint32_t height, uint32_t width, float* some);
    // Row y of a channel; rows may come in any order.
    void add(uint32_t channel, uint32_t y, const float* row);
    // Once all rows were added.
    void bounds(float found[2]);

private:
    uint32_t height_, width_;
    size_t step_, count_;
    float* some_;
};

// Whether three channels differ anywhere by more than a faint cast; `is_colored` in Python.
bool is_colored(const pseg_image& image);

// e^x of numbers that are 0 or negative, as src/pocketseg/pipeline/arithmetic.py computes it.
void exponential(float* x, size_t count);

// Whether all numbers are.
bool all_finite(const float* values, size_t count);

}  // namespace pseg
