#pragma once

#include <cstdint>
#include <cstdio>
#include <vector>

// The bytes of a file; none of one that cannot be read.
static std::vector<uint8_t> content_of(const char* name) {
    std::vector<uint8_t> bytes;
    FILE* file = std::fopen(name, "rb");
    if (!file) return bytes;
    uint8_t part[4096];
    size_t count;
    while ((count = std::fread(part, 1, sizeof part, file)) > 0) bytes.insert(bytes.end(), part, part + count);
    std::fclose(file);
    return bytes;
}
