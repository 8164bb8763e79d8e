// What a file holds, checked and in memory. docs/format.md has the bytes, src/pocketseg/engine/program.py the meaning.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pseg {

// Limits. A file above one of them is refused before anything is allocated for it.
constexpr uint64_t MOST_FILE_BYTES = uint64_t(1) << 31;
constexpr uint64_t MOST_WEIGHTS = uint64_t(1) << 27;   // numbers of all convolutions together
constexpr uint64_t MOST_CONSTANTS = uint64_t(1) << 24;  // scales, biases and norms of all operations together
constexpr uint64_t MOST_CHANNELS = uint64_t(1) << 22;  // of all tensors together
constexpr uint64_t MOST_STORAGES = uint64_t(1) << 14;  // each is compared with each when they are given their places
constexpr uint32_t MOST_SIDE = 1u << 15;
constexpr uint64_t MOST_ARENA_BYTES = uint64_t(1) << 34;
constexpr uint32_t MOST_THREADS = 256;
constexpr int MOST_PLANES = 8;
constexpr size_t MOST_NAME_BYTES = 63;  // of a kernel or a set
// Sums stay exact in f64, as the references compute them.
constexpr double LARGEST_SUM = 9007199254740992.0;

enum class Type : uint8_t { f32, u8, s8, s32, bits };
enum class GridKind : uint8_t { none = 0, uniform = 1, powers = 2, signs = 3 };

struct Grid {
    GridKind kind = GridKind::none;
    int32_t zero_point = 0, lowest = 0, highest = 0;
    float scale = 1, inverse_scale = 1;
    int i = 0, f = 0;
    int planes = 1;
    float gammas[MOST_PLANES] = {};
    uint8_t zero_planes = 0;  // bit q is the sign of plane q of 0

    Type type() const;
    // The largest |code − zero point|.
    int64_t largest() const;
};

struct Storage {
    uint32_t channels = 0;
    const Grid* grid = nullptr;  // null is f32
};

struct View {
    uint16_t storage = 0, first = 0, channels = 0;
};

struct Window {
    uint8_t kernel[2], stride[2], dilation[2], padding[4];  // height, width; above, left, below, right
};

enum class WeightKind : uint8_t { f32, bf16, integers, powers, signs };

// Numbers of a convolution, (planes, out channels, height, width, channels of a group). One of the vectors is filled.
struct Weights {
    WeightKind kind = WeightKind::f32;
    uint32_t planes = 1;
    std::vector<float> f32;
    std::vector<int32_t> whole;
    double largest_sum = 0;  // Σ |w| of the output channel where it is largest, any plane
};

enum class Kind : uint8_t { input, output, copy, convolution, transposed, max_pool, average_pool, nearest, bilinear, pad, mean };
constexpr int KINDS = 11;

enum class StepKind : uint8_t { affine, relu, clip, sigmoid, ternary_tanh, add, multiply, snap, softmax };
constexpr int STEP_KINDS = 9;

struct Step {
    StepKind kind = StepKind::relu;
    std::vector<float> m, b;  // affine
    float low = 0, high = 0;  // clip
    float beta = 0;           // ternary tanh
    View view;                // add, multiply
    const Grid* grid = nullptr;
};

struct Kernel;

struct Instruction {
    Kind kind = Kind::copy;
    std::vector<View> reads, writes;
    std::vector<Step> steps;
    uint32_t channels = 0;  // of what it computes
    Window window = {};
    uint8_t grown[2] = {}, factor[2] = {}, corners = 0;
    uint32_t groups = 1;
    Weights weights;
    std::vector<float> m, b;  // (weight planes, input planes, channels), (channels)
    // Chosen at load: the kernel, and the weights as it wants them.
    // One that is done inside of the next has no kernel; the next one knows it.
    const Kernel* kernel = nullptr;
    std::vector<uint8_t> packed;
    bool alone = false;  // the file asked for its kernel
    uint32_t inside = UINT32_MAX;
};

struct Program {
    uint32_t in_channels = 0, out_channels = 0, multiple = 1;
    bool exact = false;  // there are codes somewhere: f32 sums keep their order and roundings
    std::vector<Grid> grids;
    std::vector<Storage> storages;
    std::vector<Instruction> instructions;

    const Grid* grid(const View& view) const { return storages[view.storage].grid; }
    Type type(const View& view) const { return grid(view) ? grid(view)->type() : Type::f32; }
};

// Bytes of one pixel of a storage; planes of bits begin at 64-bit words.
uint64_t pixel_bytes(const Storage& storage);
// Bytes of `count` numbers in one stream of bits; as large as the fields of a file make it, count · bits is below 2^56.
inline uint64_t stream_bytes(uint64_t count, int bits) { return (count * uint64_t(bits) + 7) / 8; }
inline uint64_t plane_bytes(uint32_t channels) { return 8 * ((uint64_t(channels) + 63) / 64); }

}  // namespace pseg
