// Any bytes as an image and a card, sent through pseg_segment in memory of exactly the stated sizes.
//
//     channels of the net, type, channels of the image, planar, spacing in tenths of a millimeter (rows, columns),
//     threads, when to cancel (0: never)              a byte each
//     height, width, length of the card               u16 each
//     the card, and pixels: those that are missing are 0
#pragma once

#include <algorithm>
#include <cstdio>
#include <memory>
#include <vector>

#include "identity.h"
#include "pocketseg.h"

struct Cancel {
    uint32_t after;
    bool done;
};

static int count_down(void* context, uint32_t done, uint32_t of) {
    Cancel& cancel = *static_cast<Cancel*>(context);
    if (done > of || cancel.done) __builtin_trap();
    cancel.done = cancel.after && done + 1 >= cancel.after;
    return cancel.done;
}

// The status of what did not work, else of the mask; what is wrong with the result ends the process.
static int segment_bytes(const uint8_t* data, size_t size, size_t most_bytes, std::string* said) {
    constexpr size_t HEAD = 14;
    if (size < HEAD) return -1;
    const auto u16 = [&](size_t at) { return uint32_t(data[at] | data[at + 1] << 8); };
    const size_t card_bytes = std::min<size_t>(u16(12), size - HEAD);
    const std::string card(reinterpret_cast<const char*>(data) + HEAD, card_bytes);
    const std::vector<uint8_t> file = identity_net(uint16_t(data[0] % 16 + 1), card);
    std::unique_ptr<pseg_model, void (*)(pseg_model*)> model(nullptr, pseg_close);
    pseg_model* opened = nullptr;
    int status = pseg_open(file.data(), file.size(), &opened);
    model.reset(opened);
    if (status) __builtin_trap();  // whatever the card says
    const auto ended = [&](int with) {
        if (said) *said = pseg_error(opened);
        if (with && !*pseg_error(opened)) __builtin_trap();
        return with;
    };
    pseg_pipeline_facts facts;
    if ((status = pseg_describe_pipeline(opened, &facts))) return ended(status);
    pseg_image image = {
        nullptr, data[1] % 5u, u16(8), u16(10), data[2] % 18u, data[3] % 3u, {data[4] / 10.0, data[5] / 10.0}};
    size_t arena_bytes = 0;
    if ((status = pseg_plan_segment(opened, &image, data[6] % 4, &arena_bytes))) return ended(status);
    const size_t pixels = size_t(image.height) * image.width;
    const size_t bytes = pixels * image.channels * (image.type == PSEG_U8 ? 1 : image.type == PSEG_F32 ? 4 : 2);
    if (arena_bytes > most_bytes || bytes > most_bytes || pixels * facts.classes * 4 > most_bytes) return -1;
    // Tiny tiles of a large image are as many runs.
    if (facts.tiles && uint64_t(pixels) * facts.runs / (facts.height * facts.width) > 4096) return -1;
    std::unique_ptr<uint8_t[]> stored(new uint8_t[bytes]()), mask(new uint8_t[pixels]), arena(new uint8_t[arena_bytes]);
    std::unique_ptr<float[]> probabilities(new float[pixels * facts.classes]);
    std::memcpy(stored.get(), data + HEAD + card_bytes, std::min(bytes, size - HEAD - card_bytes));
    std::memset(arena.get(), 0xaa, arena_bytes);
    image.pixels = stored.get();
    Cancel cancel{data[7], false};
    status =
        pseg_segment(opened, &image, mask.get(), probabilities.get(), count_down, &cancel, arena.get(), arena_bytes);
    if (cancel.done != (status == PSEG_CANCELLED)) __builtin_trap();
    if (status) return ended(status);
    for (size_t i = 0; i < pixels; ++i)
        if (mask[i] > facts.classes) __builtin_trap();
    for (size_t i = 0; i < pixels * facts.classes; ++i)
        if (!(probabilities[i] >= 0 && probabilities[i] <= 1.001f)) __builtin_trap();
    // Once more, without probabilities, in another arena: the same mask.
    std::unique_ptr<uint8_t[]> again(new uint8_t[pixels]), other(new uint8_t[arena_bytes + 1]);
    std::memset(other.get(), 0x55, arena_bytes + 1);
    status = pseg_segment(opened, &image, again.get(), nullptr, nullptr, nullptr, other.get() + 1, arena_bytes);
    if (status || std::memcmp(mask.get(), again.get(), pixels)) __builtin_trap();
    if (said) {
        pseg::Sha256 sum;
        sum.add(mask.get(), pixels);
        for (const uint8_t byte : sum.digest()) {
            char two[3];
            std::snprintf(two, sizeof two, "%02x", byte);
            *said += two;
        }
    }
    return PSEG_OK;
}
