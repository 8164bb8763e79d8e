// Runs a model once, on a small image of a stated generator, in an arena as large as the library said and not a byte
// larger.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../src/sha256.h"
#include "pocketseg.h"

// A model that is planned, its image, and its memory. A larger arena than `most_bytes` is not tried.
struct Planned {
    Planned(pseg_model* model, uint32_t side, uint32_t threads, size_t most_bytes) : model(model) {
        pseg_facts facts;
        status = pseg_describe(model, &facts);
        if (status) return;
        const uint32_t side_of_net = (side + facts.multiple - 1) / facts.multiple * facts.multiple;
        status = pseg_plan(model, side_of_net, side_of_net, threads, &arena_bytes);
        const size_t pixels = size_t(side_of_net) * side_of_net;
        if (status || arena_bytes > most_bytes || 4 * pixels * (facts.in_channels + facts.out_channels) > most_bytes)
            return;
        image.resize(pixels * facts.in_channels), logits.resize(pixels * facts.out_channels);
        uint32_t state = 1;
        for (float& value : image) {
            state = state * 1664525u + 1013904223u;
            value = float(state >> 16) / 16384.0f - 2;
        }
        tried = true;
    }

    // The digest of the logits; of what was not tried or failed, nothing.
    std::string run() {
        if (!tried) return "";
        void* arena = std::malloc(arena_bytes);
        std::memset(arena, 0xaa, arena_bytes);
        status = pseg_run(model, image.data(), logits.data(), arena, arena_bytes);
        std::free(arena);
        if (status) return "";
        pseg::Sha256 sum;
        sum.add(reinterpret_cast<const uint8_t*>(logits.data()), 4 * logits.size());
        char digest[65];
        size_t at = 0;
        for (uint8_t byte : sum.digest()) at += size_t(std::snprintf(digest + at, 3, "%02x", byte));
        return digest;
    }

    pseg_model* model;
    int status = 0;
    size_t arena_bytes = 0;
    std::vector<float> image, logits;
    bool tried = false;
};

// The digest of the logits goes to `digest`, 65 characters, where there are any.
static int run_once(pseg_model* model, uint32_t side, uint32_t threads, size_t most_bytes, char* digest) {
    Planned planned(model, side, threads, most_bytes);
    const std::string found = planned.run();
    if (!found.empty()) std::memcpy(digest, found.c_str(), found.size() + 1);
    return planned.status;
}
