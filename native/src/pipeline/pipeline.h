// What decides the way of an image to its mask, besides the net: src/pocketseg/pipeline/pipeline.py in C++.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "../program.h"

namespace pseg {

enum class Fit : uint8_t { resize, letterbox, pad, crop, tile };
enum class Normalize : uint8_t { unit_range, min_max, z_score, train_mean_std };
enum class Numbers : uint8_t { unknown, u8, u16, floats };

constexpr uint32_t MAX_IMAGE_CHANNELS = 16;

// Mirrored along columns, along rows.
struct Mirror {
    bool horizontal = false, vertical = false;
};

struct Pipeline {
    uint32_t height = 0, width = 0, channels = 1, multiple = 1;
    std::vector<std::string> classes;  // their names
    Fit fit = Fit::resize;
    bool has_range = false, has_spacing = false;
    double range[2] = {}, spacing[2] = {};
    Normalize normalize = Normalize::unit_range;
    double clip = 0;  // 0: none
    std::vector<float> mean, std;
    Numbers numbers = Numbers::unknown;
    std::vector<Mirror> mirrors;  // beside the image itself
    float threshold = 0.5f, min_peak = 0;
    bool fill_holes = false, largest = false;
    uint64_t min_pixels = 0;

    uint32_t net_height() const { return (height + multiple - 1) / multiple * multiple; }
    uint32_t net_width() const { return (width + multiple - 1) / multiple * multiple; }
    uint32_t runs() const { return uint32_t(mirrors.size()) + 1; }
    // Whether more than the threshold makes a mask.
    bool has_rules() const { return fill_holes || filters(); }
    // Whether components are dropped.
    bool filters() const { return min_peak > 0 || min_pixels > 1 || largest; }
};

// Of the JSON of a whole card, if it has one, and of its member `pipeline` alone. Throws Fault: PSEG_UNSUPPORTED names
// the key that asks for what is not done here, PSEG_DAMAGED what is not valid or not for this net.
std::optional<Pipeline> read_card(const char* text, size_t length, const Program& program);
Pipeline read_pipeline(const char* text, size_t length, const Program& program);

}  // namespace pseg
