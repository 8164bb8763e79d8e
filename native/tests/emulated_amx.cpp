#include "emulated_amx.h"

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../src/tiles.h"

bool pseg::tiles_are_granted() { return true; }

namespace emulated_amx {
namespace {

constexpr int TILES = 8, ROWS = 16, COLUMNS = 64;

void check(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "emulated AMX: %s\n", what);
    std::abort();
}

struct Tile {
    uint32_t rows, columns;  // columns: bytes of a row
    uint8_t bytes[ROWS][COLUMNS];
};

struct State {
    bool configured = false;
    Tile tiles[TILES] = {};

    ~State() { check(!configured, "a thread ends without having released its tiles"); }

    Tile& tile(int i) {
        check(configured, "#UD: tiles are not configured");
        check(i >= 0 && i < TILES && tiles[i].rows && tiles[i].columns, "#UD: a tile that the configuration lacks");
        return tiles[i];
    }
};

thread_local State state;

// Tells tests that the kernels for AMX ran, and how much they did.
struct Count {
    std::atomic<uint64_t> products{0};
    ~Count() { std::fprintf(stderr, "emulated AMX: %llu products of tiles\n", static_cast<unsigned long long>(products)); }
} count;

}  // namespace

void configure(const void* memory) {
    uint8_t bytes[64];
    std::memcpy(bytes, memory, sizeof bytes);
    check(bytes[0] == 1, "#GP: another palette than 1");  // 0 would release
    check(bytes[1] == 0, "a start row: no kernel goes on where an interrupt left it");
    for (int i = 2; i < 16; ++i) check(bytes[i] == 0, "#GP: reserved bytes");
    for (int i = 0; i < 16; ++i) {
        const uint32_t columns = bytes[16 + 2 * i] + 256u * bytes[17 + 2 * i], rows = bytes[48 + i];
        check(i < TILES || (columns == 0 && rows == 0), "#GP: more tiles than there are");
        check(columns <= COLUMNS && rows <= ROWS, "#GP: a tile that is too large");
        check((columns == 0) == (rows == 0), "#GP: a tile without rows or columns");
        if (i < TILES) state.tiles[i] = {rows, columns, {}};
    }
    state.configured = true;
}

void release() {
    state.configured = false;
    for (Tile& tile : state.tiles) tile = {};
}

void load(int i, const void* base, size_t stride) {
    Tile& tile = state.tile(i);
    std::memset(tile.bytes, 0, sizeof tile.bytes);
    for (uint32_t row = 0; row < tile.rows; ++row) std::memcpy(tile.bytes[row], static_cast<const uint8_t*>(base) + row * stride, tile.columns);
}

void store(int i, void* base, size_t stride) {
    const Tile& tile = state.tile(i);
    for (uint32_t row = 0; row < tile.rows; ++row) std::memcpy(static_cast<uint8_t*>(base) + row * stride, tile.bytes[row], tile.columns);
}

// It touches nothing but tiles: sanitizers would make it slow.
__attribute__((no_sanitize("address"), no_sanitize("undefined"))) void multiply_unsigned_signed(int i, int j, int k) {
    check(i != j && i != k && j != k, "#UD: the same tile twice");
    Tile &sums = state.tile(i), &a = state.tile(j), &b = state.tile(k);
    check(sums.columns % 4 == 0 && a.columns % 4 == 0 && b.columns % 4 == 0, "#UD: a part of a number");
    check(sums.rows == a.rows && a.columns / 4 == b.rows && sums.columns == b.columns, "#UD: tiles that do not fit together");
    for (uint32_t row = 0; row < sums.rows; ++row)
        for (uint32_t column = 0; column < sums.columns / 4; ++column) {
            uint32_t sum;  // modulo 2³²
            std::memcpy(&sum, sums.bytes[row] + 4 * column, 4);
            for (uint32_t quad = 0; quad < b.rows; ++quad)
                for (uint32_t byte = 0; byte < 4; ++byte)
                    sum += uint32_t(int32_t(a.bytes[row][4 * quad + byte]) * int8_t(b.bytes[quad][4 * column + byte]));
            std::memcpy(sums.bytes[row] + 4 * column, &sum, 4);
        }
    for (uint32_t row = sums.rows; row < ROWS; ++row) std::memset(sums.bytes[row], 0, COLUMNS);
    ++count.products;
}

}  // namespace emulated_amx
