#include "resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "pieces.h"

namespace pseg {
namespace {

// to += weight · from, or to = weight · from.
void add_row(float* to, const float* from, float weight, size_t count) {
    for (size_t i = 0; i < count; ++i) to[i] += weight * from[i];
}

void set_row(float* to, const float* from, float weight, size_t count) {
    for (size_t i = 0; i < count; ++i) to[i] = weight * from[i];
}

}  // namespace

// Without a change of size each result is its pixel, times one.
Taps::Taps(uint32_t source, uint32_t target) : source_(source), target_(target) {
    scale_ = double(source) / double(target);
    support_ = std::max(scale_, 1.0);
    count_ = source == target ? 1 : uint32_t(std::min(double(source), std::ceil(2 * support_)));
}

uint32_t Taps::first(uint32_t at) const {
    if (source_ == target_) return at;
    const double first = std::floor((double(at) + 0.5) * scale_ - support_ + 0.5);
    return uint32_t(std::min(std::max(first, 0.0), double(source_ - count_)));
}

void Taps::weights(uint32_t at, float* to) const {
    if (source_ == target_) {
        *to = 1;
        return;
    }
    const double center = (double(at) + 0.5) * scale_;
    const uint32_t from = first(at);
    const auto weight = [&](uint32_t tap) {
        return std::max(0.0, 1.0 - std::fabs(double(from + tap) + 0.5 - center) / support_);
    };
    double sum = 0;
    for (uint32_t tap = 0; tap < count_; ++tap) sum += weight(tap);
    for (uint32_t tap = 0; tap < count_; ++tap) to[tap] = float(weight(tap) / sum);
}

Resampler::Resampler(Shape source, Shape target, uint32_t channels, Span rows, Span columns)
    : down_(source.height, target.height),
      across_(source.width, target.width),
      source_(source),
      target_(target),
      channels_(channels),
      rows_(rows),
      columns_(columns),
      rows_first_(target.height <= source.height) {
    between_ = rows_first_ ? source.width : columns.last - columns.first;
}

Resampler::Tables Resampler::tables(uint8_t* scratch, uint64_t* bytes) const {
    Pieces pieces(scratch);
    const uint64_t size = columns_.last - columns_.first;
    Tables found;
    found.first = pieces.take<uint32_t>(size);
    found.across = pieces.take<float>(size * across_.count());
    found.down = pieces.take<float>(down_.count());
    found.ring = pieces.take<float>(uint64_t(down_.count()) * channels_ * between_);
    found.row = pieces.take<float>(uint64_t(channels_) * std::max(source_.width, between_));
    found.result = pieces.take<float>(channels_ * size);
    if (bytes) *bytes = pieces.bytes();
    return found;
}

uint64_t Resampler::scratch() const {
    uint64_t bytes;
    tables(nullptr, &bytes);
    return bytes;
}

Resampler::Tables Resampler::lay_out(uint8_t* scratch) const {
    const Tables found = tables(scratch, nullptr);
    for (uint32_t i = 0; i < columns_.last - columns_.first; ++i) {
        found.first[i] = across_.first(columns_.first + i);
        across_.weights(columns_.first + i, found.across + size_t(i) * across_.count());
    }
    return found;
}

void Resampler::across(const Tables& tables, const float* from, float* to) const {
    const size_t size = columns_.last - columns_.first, taps = across_.count();
    for (uint32_t c = 0; c < channels_; ++c, from += source_.width, to += size) {
        if (source_.width == target_.width) {
            std::memcpy(to, from + columns_.first, sizeof(float) * size);
            continue;
        }
        const float* weights = tables.across;
        for (size_t i = 0; i < size; ++i, weights += taps) {
            const float* in = from + tables.first[i];
            float sum = weights[0] * in[0];
            for (size_t tap = 1; tap < taps; ++tap) sum += weights[tap] * in[tap];
            to[i] = sum;
        }
    }
}

void Resampler::down(const Tables& tables, uint32_t y, uint32_t first, float* to) const {
    const size_t count = size_t(channels_) * between_;
    const uint32_t taps = down_.count();
    const auto row = [&](uint32_t tap) { return tables.ring + size_t((first + tap) % taps) * count; };
    down_.weights(y, tables.down);
    const float* weights = tables.down;
    if (source_.height == target_.height) {
        std::memcpy(to, row(0), sizeof(float) * count);
        return;
    }
    // As many pixels at once as stay close by, tap by tap.
    constexpr size_t AT_ONCE = 1024;
    for (size_t at = 0; at < count; at += AT_ONCE) {
        const size_t some = std::min(AT_ONCE, count - at);
        if (taps == 2) {
            const float *above = row(0) + at, *below = row(1) + at, up = weights[0], low = weights[1];
            float* sums = to + at;
            for (size_t i = 0; i < some; ++i) sums[i] = up * above[i] + low * below[i];
            continue;
        }
        set_row(to + at, row(0) + at, weights[0], some);
        for (uint32_t tap = 1; tap < taps; ++tap) add_row(to + at, row(tap) + at, weights[tap], some);
    }
}

}  // namespace pseg
