#include "rules.h"

#include <algorithm>
#include <cstring>

#include "../shapes.h"

namespace pseg {
namespace {

// A horizontal run of pixels; the first run of a component stands for all of them.
struct Run {
    uint32_t row, first, last;  // columns first … last − 1
    uint32_t parent;
    uint32_t pixels;  // of the component, from here on of those that stand for one
    float peak;
    bool marked;
};

uint64_t most_runs(uint32_t height, uint32_t width) { return uint64_t(height) * ((uint64_t(width) + 1) / 2); }

uint32_t root_of(Run* runs, uint32_t run) {
    while (runs[run].parent != run) run = runs[run].parent = runs[runs[run].parent].parent;
    return run;
}

void join(Run* runs, uint32_t a, uint32_t b) {
    a = root_of(runs, a), b = root_of(runs, b);
    runs[std::max(a, b)].parent = std::min(a, b);
}

// Runs of a value, in reading order, joined where they touch: also at corners, where `reach` is 1.
uint32_t find_runs(const uint8_t* pixels, uint32_t height, uint32_t width, uint8_t value, uint32_t reach, Run* runs) {
    uint32_t count = 0, above = 0;
    for (uint32_t y = 0; y < height; ++y, pixels += width) {
        const uint32_t row = count;
        const uint8_t *at = pixels, *end = pixels + width;
        while (at < end) {
            at = static_cast<const uint8_t*>(std::memchr(at, value, size_t(end - at)));
            if (!at) break;
            const uint8_t* stop = static_cast<const uint8_t*>(std::memchr(at, value ^ 1, size_t(end - at)));
            if (!stop) stop = end;
            runs[count] = {y, uint32_t(at - pixels), uint32_t(stop - pixels), count, 0, 0, false};
            ++count, at = stop;
        }
        uint32_t upper = above;
        for (uint32_t run = row; run < count; ++run) {
            while (upper < row && runs[upper].last + reach <= runs[run].first) ++upper;
            // The last one that touches may touch the next run too.
            for (uint32_t other = upper; other < row && runs[other].first < runs[run].last + reach; ++other)
                join(runs, run, other);
        }
        above = row;
    }
    return count;
}

// Fills what is 0 and is not joined with the border.
void fill_holes(uint8_t* pixels, uint32_t height, uint32_t width, Run* runs) {
    const uint32_t count = find_runs(pixels, height, width, 0, 0, runs);
    for (uint32_t i = 0; i < count; ++i) {
        const Run& run = runs[i];
        if (run.row == 0 || run.row + 1 == height || run.first == 0 || run.last == width)
            runs[root_of(runs, i)].marked = true;
    }
    for (uint32_t i = 0; i < count; ++i)
        if (!runs[root_of(runs, i)].marked)
            std::memset(pixels + size_t(runs[i].row) * width + runs[i].first, 1, runs[i].last - runs[i].first);
}

// Leaves the components that the rules keep. The probability of a pixel is at `peaks`, `classes` numbers apart.
void filter(const Pipeline& pipeline, uint8_t* pixels, const float* peaks, size_t classes, uint32_t height,
            uint32_t width, Run* runs) {
    const uint32_t count = find_runs(pixels, height, width, 1, 1, runs);
    for (uint32_t i = 0; i < count; ++i) {
        Run& whole = runs[root_of(runs, i)];
        whole.pixels += runs[i].last - runs[i].first;
        if (pipeline.min_peak <= 0) continue;
        const float* row = peaks + size_t(runs[i].row) * width * classes;
        for (uint32_t x = runs[i].first; x < runs[i].last; ++x) whole.peak = std::max(whole.peak, row[x * classes]);
    }
    Run* largest = nullptr;
    for (uint32_t i = 0; i < count; ++i) {
        Run& run = runs[i];
        if (run.parent != i) continue;
        run.marked = run.pixels >= pipeline.min_pixels && run.peak >= pipeline.min_peak;
        if (!pipeline.largest || !run.marked) continue;
        if (largest && largest->pixels >= run.pixels) {
            run.marked = false;
        } else {
            if (largest) largest->marked = false;
            largest = &run;
        }
    }
    for (uint32_t i = 0; i < count; ++i)
        if (!runs[root_of(runs, i)].marked)
            std::memset(pixels + size_t(runs[i].row) * width + runs[i].first, 0, runs[i].last - runs[i].first);
}

}  // namespace

uint64_t rules_scratch(uint32_t height, uint32_t width) {
    return align_up(most_runs(height, width) * sizeof(Run)) + align_up(uint64_t(height) * width);
}

void apply_rules(const Pipeline& pipeline, const uint8_t* winner, const float* probabilities, uint32_t height,
                 uint32_t width, uint8_t* scratch, uint8_t* mask) {
    Run* runs = reinterpret_cast<Run*>(scratch);
    uint8_t* own = scratch + align_up(most_runs(height, width) * sizeof(Run));
    const size_t pixels = size_t(height) * width, classes = pipeline.classes.size();
    std::memset(mask, 0, pixels);
    for (size_t index = 1; index <= classes; ++index) {
        for (size_t i = 0; i < pixels; ++i) own[i] = winner[i] == index;
        if (pipeline.fill_holes) fill_holes(own, height, width, runs);
        if (pipeline.filters())
            filter(pipeline, own, probabilities + (probabilities ? index - 1 : 0), classes, height, width, runs);
        // Holes are filled where there is background; another class inside keeps its pixels.
        for (size_t i = 0; i < pixels; ++i) {
            const bool takes = own[i] & ((winner[i] == index) | (winner[i] == 0));
            mask[i] = takes ? uint8_t(index) : mask[i];
        }
    }
}

}  // namespace pseg
