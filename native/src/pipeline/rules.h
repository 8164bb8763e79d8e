// From the class of each pixel to a mask: src/pocketseg/pipeline/postprocess.py and components.py.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pipeline.h"

namespace pseg {

// Bytes that apply_rules needs for an image of this size.
uint64_t rules_scratch(uint32_t height, uint32_t width);

// `winner` holds the most probable class of each pixel, `probabilities` (height, width, classes) may be null where no
// peak is asked for.
void apply_rules(const Pipeline& pipeline, const uint8_t* winner, const float* probabilities, uint32_t height,
                 uint32_t width, uint8_t* scratch, uint8_t* mask);

}  // namespace pseg
