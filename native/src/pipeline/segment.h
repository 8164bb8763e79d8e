// From an image to a mask: what pipeline.py and geometry.py of src/pocketseg/pipeline do, in memory of one arena.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../shapes.h"
#include "pipeline.h"
#include "pocketseg.h"
#include "resample.h"

namespace pseg {

// How an image comes to the net's grid: resampled to `inner`, of which a window lies at (top, left) of `grid`.
struct Placement {
    Shape source, inner, grid;
    Span rows, columns;
    uint32_t top = 0, left = 0;
};

// Where results lie between the steps, in the arena. What the net sees and finds on its grid passes by: of rows there
// are as many as a tile has, each in the place of one before it. What only one step needs shares `scratch`.
struct SegmentMemory {
    float *planes, *found, *weight;  // what the net sees, probabilities, and what tiles weigh
    float* probabilities;            // on the image's grid, where rules look at them
    uint8_t* winner;                 // the class of each pixel before the rules
    float *input, *logits, *view;    // of one run of the net, and the mean of its views
    float *converted, *sample;       // a row of the image, and numbers of all rows
    uint8_t *prepare, *restore, *scratch;
};

struct SegmentPlan {
    pseg_image image = {};  // what was planned for
    Placement place;
    Shape net, tile;
    uint32_t down = 0, across = 0;  // tiles
    uint32_t held = 0;              // rows of planes
    Resampler prepare, restore;
    uint64_t net_bytes = 0, arena_bytes = 0;  // arena_bytes 0: nothing is planned

    SegmentMemory memory(const Pipeline& pipeline, uint8_t* arena, uint64_t* bytes) const;
};

// Throws Fault where the image does not fit the pipeline or the memory. `net_bytes` is what a run of the net needs.
SegmentPlan plan_segment(const Pipeline& pipeline, const pseg_image& image, uint64_t net_bytes);

// What is asked of the outside: a run of the net, and whether to go on.
struct Outside {
    void* context;
    void (*run)(void* context, const float* input, float* logits, uint8_t* scratch);
    void (*progress)(void* context, uint32_t done, uint32_t of);  // throws to end the work
};

struct Seen {
    float bounds[2] = {0, 0};
    bool colored = false;
};

Seen segment(const Pipeline& pipeline, const SegmentPlan& plan, const pseg_image& image, uint8_t* mask,
             float* probabilities, const Outside& outside, uint8_t* arena);

}  // namespace pseg
