// Runs a model once, on a small image of a stated generator, in an arena as large as the library said and not a byte larger.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../src/sha256.h"
#include "pocketseg.h"

// The digest of the logits goes to `digest`, 65 characters. A larger arena than `most_bytes` is not tried.
static int run_once(pseg_model* model, uint32_t side, uint32_t threads, size_t most_bytes, char* digest) {
    pseg_facts facts;
    size_t arena_bytes = 0;
    int status = pseg_describe(model, &facts);
    if (status) return status;
    const uint32_t side_of_net = (side + facts.multiple - 1) / facts.multiple * facts.multiple;
    status = pseg_plan(model, side_of_net, side_of_net, threads, &arena_bytes);
    const size_t pixels = size_t(side_of_net) * side_of_net;
    if (status || arena_bytes > most_bytes || 4 * pixels * (facts.in_channels + facts.out_channels) > most_bytes) return status;
    std::vector<float> image(pixels * facts.in_channels), logits(pixels * facts.out_channels);
    uint32_t state = 1;
    for (float& value : image) {
        state = state * 1664525u + 1013904223u;
        value = float(state >> 16) / 16384.0f - 2;
    }
    void* arena = std::malloc(arena_bytes);
    std::memset(arena, 0xaa, arena_bytes);
    status = pseg_run(model, image.data(), logits.data(), arena, arena_bytes);
    std::free(arena);
    pseg::Sha256 sum;
    sum.add(reinterpret_cast<const uint8_t*>(logits.data()), 4 * logits.size());
    const auto bytes = sum.digest();
    for (size_t i = 0; i < bytes.size() && !status; ++i) std::snprintf(digest + 2 * i, 3, "%02x", bytes[i]);
    return status;
}
