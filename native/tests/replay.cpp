// Opens files, and runs those that are models once: what a sanitizer build is fed with.
//
//     replay SIDE THREADS FILE...      prints FILE STATUS, with the SHA-256 of the logits of those that ran
//
// An arena above 64 MiB is not tried. The arena is allocated as large as the library said and not a byte larger.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../src/sha256.h"
#include "pocketseg.h"

static std::vector<uint8_t> content(const char* name) {
    std::vector<uint8_t> bytes;
    FILE* file = std::fopen(name, "rb");
    if (!file) return bytes;
    uint8_t part[4096];
    size_t count;
    while ((count = std::fread(part, 1, sizeof part, file)) > 0) bytes.insert(bytes.end(), part, part + count);
    std::fclose(file);
    return bytes;
}

static int run(pseg_model* model, uint32_t side, uint32_t threads, char* digest) {
    pseg_facts facts;
    size_t arena_bytes = 0;
    int status = pseg_describe(model, &facts);
    if (status) return status;
    const uint32_t side_of_net = (side + facts.multiple - 1) / facts.multiple * facts.multiple;
    status = pseg_plan(model, side_of_net, side_of_net, threads, &arena_bytes);
    const size_t pixels = size_t(side_of_net) * side_of_net;
    if (status || arena_bytes > size_t(64) << 20 || pixels * (facts.in_channels + facts.out_channels) > size_t(16) << 20) return status;
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

int main(int count, char** names) {
    if (count < 4) return 2;
    for (int i = 3; i < count; ++i) {
        const std::vector<uint8_t> bytes = content(names[i]);
        char digest[65] = "";
        pseg_model* model = nullptr;
        int status = pseg_open(bytes.data(), bytes.size(), &model);
        if (!status) status = run(model, uint32_t(std::atoi(names[1])), uint32_t(std::atoi(names[2])), digest);
        std::printf("%s %d %s\n", names[i], status, digest);
        pseg_close(model);
    }
    return 0;
}
