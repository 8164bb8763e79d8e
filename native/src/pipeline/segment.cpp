#include "segment.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../fault.h"
#include "intensity.h"
#include "pieces.h"
#include "rules.h"

namespace pseg {
namespace {

// Those of the Python pipeline: of an image at the model's pixel size, and of what a filter goes through.
constexpr double MAX_PIXELS = 144e6, MAX_WEIGHTS = 536870912;
constexpr uint64_t MAX_IMAGE_PIXELS = uint64_t(1) << 31;

uint64_t pixels_of(Shape shape) { return uint64_t(shape.height) * shape.width; }

bool same(Shape a, Shape b) { return a.height == b.height && a.width == b.width; }

void check_image(const Pipeline& pipeline, const pseg_image& image) {
    if (image.type > PSEG_F32) throw Fault(PSEG_BAD_ARGUMENT, "an image of an unknown type");
    if (image.planar > 1) throw Fault(PSEG_BAD_ARGUMENT, "planar is 0 or 1");
    if (!image.height || !image.width || !image.channels || image.channels > MAX_IMAGE_CHANNELS)
        throw Fault(PSEG_BAD_ARGUMENT, "an image of %u×%u pixels and %u channels", image.height, image.width,
                    image.channels);
    if (uint64_t(image.height) * image.width >= MAX_IMAGE_PIXELS)
        throw Fault(PSEG_TOO_LARGE, "an image of %u×%u pixels is too large", image.height, image.width);
    if (image.channels != 1 && image.channels != pipeline.channels && !(image.channels == 3 && pipeline.channels == 1))
        throw Fault(PSEG_BAD_IMAGE, "the image has %u channels and the net takes %u", image.channels,
                    pipeline.channels);
    const double* spacing = image.spacing_mm;
    const bool unknown = spacing[0] == 0 && spacing[1] == 0;
    if (!unknown && !(spacing[0] > 0 && spacing[1] > 0 && std::isfinite(spacing[0]) && std::isfinite(spacing[1])))
        throw Fault(PSEG_BAD_ARGUMENT, "a pixel size of %g × %g mm", spacing[0], spacing[1]);
    if (unknown && pipeline.has_spacing)
        throw Fault(PSEG_BAD_IMAGE, "the image's pixel size is not known, but the model works at %g × %g mm",
                    pipeline.spacing[0], pipeline.spacing[1]);
}

// To the nearest whole number, to the even one of two.
double rounded(double value) {
    const double below = std::floor(value), rest = value - below;
    if (rest != 0.5) return rest < 0.5 ? below : below + 1;
    return std::fmod(below, 2) == 0 ? below : below + 1;
}

uint32_t scaled(uint32_t length, double factor) { return uint32_t(std::max(1.0, rounded(double(length) * factor))); }

// Offset on the grid, and the part of the image that it holds; an odd pixel goes to the end.
Span centered(uint32_t have, uint32_t want, uint32_t& offset) {
    const uint32_t start = have > want ? (have - want) / 2 : 0;
    offset = want > have ? (want - have) / 2 : 0;
    return {start, start + std::min(have, want)};
}

Placement place_of(const Pipeline& pipeline, const pseg_image& image) {
    Placement place;
    place.source = {image.height, image.width};
    double scale[2] = {1, 1};
    if (pipeline.has_spacing) {
        double sides[2];
        for (int i = 0; i < 2; ++i) {
            scale[i] = image.spacing_mm[i] / pipeline.spacing[i];
            sides[i] = double(i ? image.width : image.height) * scale[i];
        }
        if (!(sides[0] * sides[1] <= MAX_PIXELS) || std::max(sides[0], sides[1]) > MAX_PIXELS)
            throw Fault(PSEG_BAD_IMAGE, "the image would have %.3g × %.3g pixels of the model's %g × %g mm", sides[0],
                        sides[1], pipeline.spacing[0], pipeline.spacing[1]);
    }
    const Shape size{pipeline.height, pipeline.width};
    if (pipeline.fit == Fit::letterbox)
        scale[0] = scale[1] =
            std::min(double(size.height) / double(image.height), double(size.width) / double(image.width));
    place.inner = {scaled(image.height, scale[0]), scaled(image.width, scale[1])};
    if (pipeline.fit == Fit::resize) place.inner = size;
    if (pipeline.fit == Fit::pad && (place.inner.height > size.height || place.inner.width > size.width))
        throw Fault(PSEG_BAD_IMAGE, "the image is %u×%u pixels, more than the %u×%u it is padded to",
                    place.inner.height, place.inner.width, size.height, size.width);
    const double most = std::max(double(image.height) * place.inner.height, double(image.width) * place.inner.width);
    if (!same(place.source, place.inner) && most > MAX_WEIGHTS)
        throw Fault(PSEG_BAD_IMAGE, "the image is too long to make %u×%u pixels of %u×%u", place.inner.height,
                    place.inner.width, image.height, image.width);
    place.grid = pipeline.fit == Fit::tile ? place.inner : size;
    place.rows = centered(place.inner.height, place.grid.height, place.top);
    place.columns = centered(place.inner.width, place.grid.width, place.left);
    return place;
}

// How many tiles cover a length, a quarter or more of each in common with the next.
uint32_t tiles_along(uint32_t length, uint32_t tile) {
    if (length <= tile) return 1;
    const uint32_t step = std::max(1u, tile * 3 / 4);
    return (length - tile + step - 1) / step + 1;
}

uint32_t tile_start(uint32_t at, uint32_t count, uint32_t length, uint32_t tile) {
    if (count == 1) return 0;
    if (at + 1 == count) return length - tile;
    return uint32_t(rounded(double(at) * (double(length - tile) / double(count - 1))));
}

float blending_ramp(uint32_t at, uint32_t length) { return float(std::min(at + 1, length - at)) / float(length); }

// Sees one image through.
class Work {
public:
    Work(const Pipeline& pipeline, const SegmentPlan& plan, const pseg_image& image, const Outside& outside,
         const SegmentMemory& memory)
        : pipeline_(pipeline), plan_(plan), image_(image), outside_(outside), memory_(memory) {}

    // The class of each pixel of the image, and probabilities where there is a place for them. Rows are pulled: those
    // of the image by tiles, those of tiles by the image's grid.
    Seen run(uint8_t* winner, float* probabilities) {
        const Placement& place = plan_.place;
        const uint32_t height = place.rows.last - place.rows.first, columns = place.columns.last - place.columns.first;
        const Scale scale = scale_of(pipeline_, image_);
        Sample sample(pipeline_.channels, height, columns, memory_.sample);
        uint32_t prepared = 0, tiles = 0, complete = 0;  // rows, rows of tiles, rows that no further tile adds to
        auto source = plan_.prepare.rows(memory_.prepare, [&](uint32_t y, float* to) {
            unit_row(image_, scale, pipeline_.channels, y, memory_.converted, to);
        });
        const auto prepare = [&](uint32_t end) {
            for (; prepared < end; ++prepared) {
                const float* row = source.next();
                for (uint32_t c = 0; c < pipeline_.channels; ++c, row += columns) {
                    sample.add(c, prepared, row);
                    std::memcpy(planes(c, place.top + prepared) + place.left, row, sizeof(float) * columns);
                }
                if (streams()) normalize_window(prepared, 1);
            }
        };
        if (!streams()) {
            if (height != place.grid.height || columns != place.grid.width)
                std::memset(memory_.planes, 0, sizeof(float) * size_t(pixels_of(place.grid)) * pipeline_.channels);
            prepare(height);
            normalize_window(0, height);
        }
        const auto look_at_tiles = [&] {
            const uint32_t top = tile_start(tiles++, plan_.down, place.grid.height, plan_.tile.height);
            if (streams()) prepare(top + plan_.tile.height);
            blend(top);
            complete = tiles < plan_.down ? tile_start(tiles, plan_.down, place.grid.height, plan_.tile.height)
                                          : place.grid.height;
        };
        const size_t width = image_.width, inner = place.inner.width, count = classes();
        auto restored = plan_.restore.rows(memory_.restore, [&](uint32_t y, float* to) {
            const bool inside = y >= place.rows.first && y < place.rows.last;
            const uint32_t at = place.top + y - place.rows.first;
            while (inside && at >= complete) look_at_tiles();
            for (size_t k = 0; k < count; ++k, to += inner) {
                if (!inside || columns != inner) std::memset(to, 0, sizeof(float) * inner);
                if (inside) found(uint32_t(k), at, to + place.columns.first, columns);
            }
        });
        for (uint32_t y = 0; y < image_.height; ++y) {
            const float* rows = restored.next();
            choose(rows, winner + y * width);
            if (!probabilities) continue;
            float* to = probabilities + y * width * count;
            for (size_t k = 0; k < count; ++k)
                for (size_t x = 0; x < width; ++x) to[x * count + k] = rows[k * width + x];
        }
        while (tiles < plan_.down) look_at_tiles();
        progress();
        Seen seen;
        seen.colored = is_colored(image_);
        sample.bounds(seen.bounds);
        return seen;
    }

private:
    size_t classes() const { return pipeline_.classes.size(); }

    void progress() {
        outside_.progress(outside_.context, done_, plan_.down * plan_.across * pipeline_.runs());
        ++done_;
    }

    // Whether rows are normalized one by one; else all of them have to be there.
    bool streams() const { return plan_.held != plan_.place.grid.height; }

    // A row of the net's grid.
    float* planes(uint32_t channel, uint32_t y) const {
        return memory_.planes + (size_t(channel) * plan_.held + y % plan_.held) * plan_.place.grid.width;
    }

    // Row y of a class, and of the weights behind the last one.
    float* sums(size_t k, uint32_t y) const {
        const size_t held = plan_.tile.height, at = y % held;
        return (k < classes() ? memory_.found + k * held * plan_.place.grid.width : memory_.weight) +
               at * plan_.place.grid.width;
    }

    void normalize_window(uint32_t first, uint32_t rows) const {
        const Placement& place = plan_.place;
        const size_t width = place.grid.width;
        normalize(pipeline_, planes(0, place.top + first) + place.left, rows, place.columns.last - place.columns.first,
                  width, plan_.held * width, reinterpret_cast<double*>(memory_.scratch));
    }

    bool is_one_tile() const { return plan_.down * plan_.across == 1; }

    // Row y of a class, once all tiles are in it.
    void found(uint32_t k, uint32_t y, float* to, size_t count) const {
        const size_t left = plan_.place.left;
        if (is_one_tile()) {
            const float* row = memory_.view + (size_t(k) * plan_.tile.height + y) * plan_.tile.width + left;
            std::memcpy(to, row, sizeof(float) * count);
            return;
        }
        const float *row = sums(k, y) + left, *weights = sums(classes(), y) + left;
        for (size_t x = 0; x < count; ++x) to[x] = row[x] / weights[x];
    }

    // A row of tiles.
    void blend(uint32_t top) {
        if (is_one_tile()) return look(0, 0);
        const Shape grid = plan_.place.grid, tile = plan_.tile;
        for (uint32_t y = begun_; y < top + tile.height; ++y)
            for (size_t k = 0; k <= classes(); ++k) std::memset(sums(k, y), 0, sizeof(float) * grid.width);
        begun_ = top + tile.height;
        for (uint32_t i = 0; i < plan_.across; ++i) {
            const uint32_t left = tile_start(i, plan_.across, grid.width, tile.width);
            look(top, left);
            add(top, left);
        }
    }

    // The mean of a tile's mirror images, in memory_.view.
    void look(uint32_t top, uint32_t left) {
        see(top, left, {});
        for (const Mirror& mirror : pipeline_.mirrors) see(top, left, mirror);
        if (pipeline_.mirrors.empty()) return;
        const float runs = float(pipeline_.runs());
        for (size_t i = 0; i < pixels_of(plan_.tile) * classes(); ++i) memory_.view[i] /= runs;
    }

    void see(uint32_t top, uint32_t left, Mirror mirror) {
        const Shape net = plan_.net, tile = plan_.tile;
        progress();
        for (uint32_t c = 0; c < pipeline_.channels; ++c) {
            float* to = memory_.input + c * size_t(pixels_of(net));
            for (uint32_t y = 0; y < net.height; ++y, to += net.width) {
                // Past its end, a tile's last row and column are repeated.
                const uint32_t inside = std::min(y, tile.height - 1);
                const float* row = planes(c, top + (mirror.vertical ? tile.height - 1 - inside : inside)) + left;
                if (mirror.horizontal)
                    std::reverse_copy(row, row + tile.width, to);
                else
                    std::memcpy(to, row, sizeof(float) * tile.width);
                std::fill(to + tile.width, to + net.width, to[tile.width - 1]);
            }
        }
        check_finite(memory_.input, pipeline_.channels * size_t(pixels_of(net)));
        outside_.run(outside_.context, memory_.input, memory_.logits, memory_.scratch);
        const size_t logits = classes() == 1 ? 1 : classes() + 1;
        check_finite(memory_.logits, logits * size_t(pixels_of(net)));
        float* values = reinterpret_cast<float*>(memory_.scratch);
        for (uint32_t y = 0; y < tile.height; ++y) {
            const float* row = memory_.logits + size_t(y) * net.width;
            const uint32_t to = mirror.vertical ? tile.height - 1 - y : y;
            if (logits == 1)
                sigmoid(row, values);
            else
                softmax(row, logits, values);
            for (size_t k = 0; k < classes(); ++k)
                put(values + (logits == 1 ? 0 : k + 1) * tile.width, mirror,
                    memory_.view + k * size_t(pixels_of(tile)) + size_t(to) * tile.width);
        }
    }

    // A row of probabilities of a view to where it belongs: the first view's as they are, those of others added.
    void put(const float* from, Mirror mirror, float* to) const {
        const size_t width = plan_.tile.width;
        if (!mirror.horizontal && !mirror.vertical)
            std::memcpy(to, from, sizeof(float) * width);
        else if (mirror.horizontal)
            for (size_t x = 0; x < width; ++x) to[x] += from[width - 1 - x];
        else
            for (size_t x = 0; x < width; ++x) to[x] += from[x];
    }

    void check_finite(const float* values, size_t count) const {
        if (!all_finite(values, count)) throw Fault(PSEG_NOT_FINITE, "the image makes the net give nan or inf");
    }

    void sigmoid(const float* logits, float* out) const {
        const size_t width = plan_.tile.width;
        for (size_t x = 0; x < width; ++x) out[x] = -std::fabs(logits[x]);
        exponential(out, width);
        for (size_t x = 0; x < width; ++x) out[x] = (logits[x] >= 0 ? 1.0f : out[x]) / (1.0f + out[x]);
    }

    // Of `count` rows, which lie a plane apart; `out` gets one behind the other.
    void softmax(const float* logits, size_t count, float* out) const {
        const size_t width = plan_.tile.width, plane = size_t(pixels_of(plan_.net));
        float *most = out + count * width, *sum = most + width;
        std::memcpy(most, logits, sizeof(float) * width);
        for (size_t k = 1; k < count; ++k)
            for (size_t x = 0; x < width; ++x) most[x] = std::max(most[x], logits[k * plane + x]);
        for (size_t k = 0; k < count; ++k)
            for (size_t x = 0; x < width; ++x) out[k * width + x] = logits[k * plane + x] - most[x];
        exponential(out, count * width);
        std::memcpy(sum, out, sizeof(float) * width);
        for (size_t k = 1; k < count; ++k)
            for (size_t x = 0; x < width; ++x) sum[x] += out[k * width + x];
        for (size_t k = 0; k < count; ++k)
            for (size_t x = 0; x < width; ++x) out[k * width + x] /= sum[x];
    }

    // A tile, with weights that fall to its border.
    void add(uint32_t top, uint32_t left) {
        const Shape tile = plan_.tile;
        float* across = reinterpret_cast<float*>(memory_.scratch);
        for (uint32_t x = 0; x < tile.width; ++x) across[x] = blending_ramp(x, tile.width);
        for (uint32_t y = 0; y < tile.height; ++y) {
            const float down = blending_ramp(y, tile.height);
            for (size_t k = 0; k <= classes(); ++k) {
                float* to = sums(k, top + y) + left;
                const float* from = memory_.view + k * size_t(pixels_of(tile)) + size_t(y) * tile.width;
                if (k == classes())
                    for (uint32_t x = 0; x < tile.width; ++x) to[x] += std::min(down, across[x]);
                else
                    for (uint32_t x = 0; x < tile.width; ++x) to[x] += from[x] * std::min(down, across[x]);
            }
        }
    }

    void choose(const float* rows, uint8_t* winner) const {
        const size_t width = image_.width, count = classes();
        if (count == 1) {
            for (size_t x = 0; x < width; ++x) winner[x] = rows[x] >= pipeline_.threshold;
            return;
        }
        for (size_t x = 0; x < width; ++x) {
            float sum = rows[x];
            for (size_t k = 1; k < count; ++k) sum += rows[k * width + x];
            float most = 1.0f - sum;
            uint8_t best = 0;
            for (size_t k = 0; k < count; ++k)
                if (rows[k * width + x] > most) most = rows[k * width + x], best = uint8_t(k + 1);
            winner[x] = best;
        }
    }

    const Pipeline& pipeline_;
    const SegmentPlan& plan_;
    const pseg_image& image_;
    const Outside& outside_;
    const SegmentMemory& memory_;
    uint32_t done_ = 0, begun_ = 0;  // runs of the net; rows that tiles were added to
};

}  // namespace

SegmentMemory SegmentPlan::memory(const Pipeline& pipeline, uint8_t* arena, uint64_t* bytes) const {
    const uint64_t classes = pipeline.classes.size(), pixels = uint64_t(image.height) * image.width;
    const uint64_t window = uint64_t(place.rows.last - place.rows.first) * (place.columns.last - place.columns.first);
    const uint64_t passing = down * across > 1 ? uint64_t(tile.height) * place.grid.width : 0;
    Pieces pieces(arena);
    SegmentMemory memory;
    memory.planes = pieces.take<float>(uint64_t(held) * place.grid.width * pipeline.channels);
    memory.found = pieces.take<float>(passing * classes);
    memory.weight = pieces.take<float>(passing);
    memory.probabilities = pieces.take<float>(pipeline.min_peak > 0 ? pixels * classes : 0);
    memory.winner = pieces.take<uint8_t>(pipeline.has_rules() ? pixels : 0);
    memory.input = pieces.take<float>(pixels_of(net) * pipeline.channels);
    memory.logits = pieces.take<float>(pixels_of(net) * (classes + 1));
    memory.view = pieces.take<float>(pixels_of(tile) * classes);
    memory.sample = pieces.take<float>(Sample::MOST);
    memory.converted = pieces.take<float>(uint64_t(image.width) * image.channels);
    memory.prepare = pieces.take<uint8_t>(prepare.scratch());
    memory.restore = pieces.take<uint8_t>(restore.scratch());
    const uint64_t steps[] = {
        pipeline.normalize == Normalize::z_score ? 8 * window * pipeline.channels : 0,
        net_bytes,
        4 * uint64_t(tile.width) * (classes + 3),
        pipeline.has_rules() ? rules_scratch(image.height, image.width) : 0,
    };
    memory.scratch = pieces.take<uint8_t>(*std::max_element(std::begin(steps), std::end(steps)));
    if (bytes) *bytes = pieces.bytes();
    return memory;
}

SegmentPlan plan_segment(const Pipeline& pipeline, const pseg_image& image, uint64_t net_bytes) {
    check_image(pipeline, image);
    SegmentPlan plan;
    plan.image = image;
    plan.place = place_of(pipeline, image);
    const Placement& place = plan.place;
    plan.net = {pipeline.net_height(), pipeline.net_width()};
    plan.tile = {std::min(pipeline.height, place.grid.height), std::min(pipeline.width, place.grid.width)};
    plan.down = tiles_along(place.grid.height, pipeline.height);
    plan.across = tiles_along(place.grid.width, pipeline.width);
    const bool by_image = pipeline.normalize == Normalize::min_max || pipeline.normalize == Normalize::z_score;
    plan.held = pipeline.fit == Fit::tile && !by_image ? plan.tile.height : place.grid.height;
    plan.prepare = Resampler(place.source, place.inner, pipeline.channels, place.rows, place.columns);
    plan.restore = Resampler(place.inner, place.source, uint32_t(pipeline.classes.size()));
    plan.net_bytes = net_bytes;
    uint64_t bytes;
    plan.memory(pipeline, nullptr, &bytes);
    bytes += ALIGNMENT - 1;
    if (bytes > MAX_ARENA_BYTES || bytes > std::numeric_limits<size_t>::max())
        throw Fault(PSEG_TOO_LARGE, "an image of %u×%u needs %llu bytes: too much", image.height, image.width,
                    (unsigned long long)bytes);
    plan.arena_bytes = bytes;
    return plan;
}

Seen segment(const Pipeline& pipeline, const SegmentPlan& plan, const pseg_image& image, uint8_t* mask,
             float* probabilities, const Outside& outside, uint8_t* arena) {
    const SegmentMemory memory = plan.memory(pipeline, arena, nullptr);
    Work work(pipeline, plan, image, outside, memory);
    if (!probabilities) probabilities = pipeline.min_peak > 0 ? memory.probabilities : nullptr;
    const Seen seen = work.run(pipeline.has_rules() ? memory.winner : mask, probabilities);
    if (pipeline.has_rules())
        apply_rules(pipeline, memory.winner, probabilities, image.height, image.width, memory.scratch, mask);
    return seen;
}

}  // namespace pseg
