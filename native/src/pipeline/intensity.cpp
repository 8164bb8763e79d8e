#include "intensity.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../fault.h"

namespace pseg {
namespace {

constexpr double MIN_STD = 1e-6, CAST = 0.05;

template <class T>
struct Ends {
    T low, high;
};

template <class T>
Ends<T> ends_of(const T* values, size_t count) {
    Ends<T> found{values[0], values[0]};
    for (size_t i = 0; i < count; ++i) {
        found.low = values[i] < found.low ? values[i] : found.low;
        found.high = values[i] > found.high ? values[i] : found.high;
    }
    return found;
}

struct Extremes {
    double low, high;
};

size_t numbers_of(const pseg_image& image) { return size_t(image.height) * image.width * image.channels; }

// What `of` makes of the pixels, as the numbers that they are.
template <class Of>
auto by_type(const pseg_image& image, Of of) {
    switch (image.type) {
        case PSEG_U8:
            return of(static_cast<const uint8_t*>(image.pixels));
        case PSEG_U16:
            return of(static_cast<const uint16_t*>(image.pixels));
        case PSEG_I16:
            return of(static_cast<const int16_t*>(image.pixels));
        default:
            return of(static_cast<const float*>(image.pixels));
    }
}

Extremes extremes(const pseg_image& image) {
    return by_type(image, [&](const auto* values) {
        const auto found = ends_of(values, numbers_of(image));
        return Extremes{double(found.low), double(found.high)};
    });
}

// The values that become 0 and 1 where none are declared; `_scale` in Python.
Extremes own_scale(const Pipeline& pipeline, const pseg_image& image) {
    if (image.type == PSEG_U8) return {0, 255};
    if (image.type == PSEG_U16) return {0, 65535};
    const Extremes found = extremes(image);
    const bool whole = image.type == PSEG_I16;
    const double top = pipeline.numbers == Numbers::u8 ? 255 : pipeline.numbers == Numbers::u16 ? 65535 : 0;
    if (top > 0 && found.low >= 0 && found.high <= top) return {0, found.high <= 1 && !whole ? 1 : top};
    if (!whole || pipeline.numbers == Numbers::floats) return found;
    throw Fault(PSEG_BAD_IMAGE, "the image holds i16 from %g to %g, and the model does not say what they mean",
                found.low, found.high);
}

template <class T>
void convert(const T* from, size_t step, size_t count, const Scale& scale, float* to) {
    const float low = scale.low, span = scale.span;
    if (step == 1)
        for (size_t i = 0; i < count; ++i) to[i] = (float(from[i]) - low) / span;
    else
        for (size_t i = 0; i < count; ++i) to[i] = (float(from[i * step]) - low) / span;
}

template <class T>
void convert_rows(const pseg_image& image, const Scale& scale, uint32_t y, float* to) {
    const T* pixels = static_cast<const T*>(image.pixels);
    const size_t width = image.width, channels = image.channels;
    for (size_t c = 0; c < channels; ++c) {
        if (image.planar)
            convert(pixels + (c * image.height + y) * width, 1, width, scale, to + c * width);
        else
            convert(pixels + y * width * channels + c, channels, width, scale, to + c * width);
    }
}

// The second half is added to the first until one is left; `total` in Python.
double total(double* left, size_t count) {
    while (count > 1) {
        const size_t half = (count + 1) / 2;
        for (size_t i = half; i < count; ++i) left[i - half] += left[i];
        count = half;
    }
    return left[0];
}

}  // namespace

size_t bytes_of_pixel(uint32_t type) { return type == PSEG_U8 ? 1 : type == PSEG_F32 ? 4 : 2; }

bool all_finite(const float* values, size_t count) {
    // Of a number that is none, the difference to itself is none either.
    int others = 0;
    for (size_t i = 0; i < count; ++i) others |= !(values[i] - values[i] == 0.0f);
    return !others;
}

Scale scale_of(const Pipeline& pipeline, const pseg_image& image) {
    if (image.type == PSEG_F32 && !all_finite(static_cast<const float*>(image.pixels), numbers_of(image)))
        throw Fault(PSEG_BAD_IMAGE, "the image holds nan or inf");
    const Extremes ends =
        pipeline.has_range ? Extremes{pipeline.range[0], pipeline.range[1]} : own_scale(pipeline, image);
    Scale scale{float(ends.low), 1};
    const float span = float(ends.high - ends.low);
    bool good = true;
    if (ends.high > ends.low) good = span > 0 && std::isfinite(span), scale.span = span;
    // Subtracting and dividing keep the order: where the ends are numbers, all are.
    if (good && (image.type == PSEG_F32 || pipeline.has_range)) {
        const Extremes found = extremes(image);
        for (const double end : {found.low, found.high}) good &= std::isfinite((float(end) - scale.low) / scale.span);
    }
    if (!good) throw Fault(PSEG_BAD_IMAGE, "the image holds values that f32 cannot tell apart or hold");
    return scale;
}

void unit_row(const pseg_image& image, const Scale& scale, uint32_t channels, uint32_t y, float* scratch, float* to) {
    float* rows = image.channels == channels ? to : scratch;
    switch (image.type) {
        case PSEG_U8:
            convert_rows<uint8_t>(image, scale, y, rows);
            break;
        case PSEG_U16:
            convert_rows<uint16_t>(image, scale, y, rows);
            break;
        case PSEG_I16:
            convert_rows<int16_t>(image, scale, y, rows);
            break;
        default:
            convert_rows<float>(image, scale, y, rows);
    }
    if (rows == to) return;
    const size_t width = image.width;
    if (image.channels == 1) {
        for (uint32_t c = 0; c < channels; ++c) std::memcpy(to + c * width, rows, sizeof(float) * width);
        return;
    }
    // ITU-R BT.601.
    for (size_t x = 0; x < width; ++x)
        to[x] = (0.299f * rows[x] + 0.587f * rows[width + x]) + 0.114f * rows[2 * width + x];
}

void normalize(const Pipeline& pipeline, float* planes, uint32_t height, uint32_t width, size_t row, size_t plane,
               double* sums) {
    const auto each_row = [&](auto work) {
        for (uint32_t c = 0; c < pipeline.channels; ++c)
            for (uint32_t y = 0; y < height; ++y) work(c, planes + c * plane + y * row);
    };
    switch (pipeline.normalize) {
        case Normalize::unit_range:
            return;
        case Normalize::min_max: {
            Ends<float> ends{planes[0], planes[0]};
            each_row([&](uint32_t, const float* values) {
                const Ends<float> found = ends_of(values, width);
                ends = {std::min(ends.low, found.low), std::max(ends.high, found.high)};
            });
            const float low = ends.low, span = float(std::max(double(ends.high) - double(ends.low), MIN_STD));
            return each_row([&](uint32_t, float* values) {
                for (uint32_t x = 0; x < width; ++x) values[x] = (values[x] - low) / span;
            });
        }
        case Normalize::z_score: {
            const size_t count = size_t(pipeline.channels) * height * width;
            double* at = sums;
            each_row([&](uint32_t, const float* values) {
                for (uint32_t x = 0; x < width; ++x) *at++ = double(values[x]);
            });
            const double mean = total(sums, count) / double(count);
            at = sums;
            each_row([&](uint32_t, const float* values) {
                for (uint32_t x = 0; x < width; ++x) {
                    const double away = double(values[x]) - mean;
                    *at++ = away * away;
                }
            });
            const double std = std::max(std::sqrt(total(sums, count) / double(count)), MIN_STD);
            const double most = pipeline.clip > 0 ? pipeline.clip : HUGE_VAL;
            return each_row([&](uint32_t, float* values) {
                for (uint32_t x = 0; x < width; ++x)
                    values[x] = float(std::min(std::max((double(values[x]) - mean) / std, -most), most));
            });
        }
        case Normalize::train_mean_std:
            return each_row([&](uint32_t c, float* values) {
                const float mean = pipeline.mean[c], std = pipeline.std[c];
                for (uint32_t x = 0; x < width; ++x) values[x] = (values[x] - mean) / std;
            });
    }
}

Sample::Sample(uint32_t channels, uint32_t height, uint32_t width, float* some)
    : height_(height), width_(width), some_(some) {
    const size_t all = size_t(channels) * height * width;
    step_ = std::max<size_t>(1, all / ENOUGH);
    count_ = (all + step_ - 1) / step_;
}

void Sample::add(uint32_t channel, uint32_t y, const float* row) {
    const size_t first = (size_t(channel) * height_ + y) * width_;
    for (size_t i = (first + step_ - 1) / step_; i * step_ < first + width_; ++i) some_[i] = row[i * step_ - first];
}

void Sample::bounds(float found[2]) {
    // Between two of them in proportion.
    const double places[2] = {0.005 * double(count_ - 1), 0.995 * double(count_ - 1)};
    for (int i = 0; i < 2; ++i) {
        const size_t below = size_t(places[i]);
        float* end = some_ + count_;
        std::nth_element(some_, some_ + below, end);
        const float low = some_[below], high = below + 1 < count_ ? *std::min_element(some_ + below + 1, end) : low;
        found[i] = float(double(low) + (double(high) - double(low)) * (places[i] - double(below)));
    }
}

bool is_colored(const pseg_image& image) {
    if (image.channels != 3) return false;
    const size_t pixels = size_t(image.height) * image.width;
    const size_t step = image.planar ? 1 : 3, apart = image.planar ? pixels : 1;  // of pixels, of their channels
    const Extremes ends = extremes(image);
    const float limit = float(CAST * (ends.high - ends.low));
    return by_type(image, [&](const auto* values) {
        for (size_t i = 0; i < pixels; ++i, values += step) {
            const auto [low, high] = std::minmax({values[0], values[apart], values[2 * apart]});
            if (float(high) - float(low) > limit) return true;
        }
        return false;
    });
}

void exponential(float* x, size_t count) {
    constexpr float LOWEST = -87.0f, ROUND = 12582912.0f;  // 1.5 · 2²³: adding it leaves a whole number, as rint does
    for (size_t i = 0; i < count; ++i) {
        const float inside = x[i] > LOWEST ? x[i] : LOWEST;
        const float whole = (inside * 1.44269504f + ROUND) - ROUND;
        const float rest = (inside - whole * 0.693359375f) - whole * -2.12194440e-4f;
        float series = 1.9875691500e-4f;
        series = series * rest + 1.3981999507e-3f;
        series = series * rest + 8.3334519073e-3f;
        series = series * rest + 4.1665795894e-2f;
        series = series * rest + 1.6666665459e-1f;
        series = series * rest + 5.0000001201e-1f;
        series = series * (rest * rest) + rest + 1.0f;
        const uint32_t bits = uint32_t(int32_t(whole) + 127) << 23;
        float power;
        std::memcpy(&power, &bits, sizeof power);
        x[i] = x[i] < LOWEST ? 0.0f : series * power;
    }
}

}  // namespace pseg
