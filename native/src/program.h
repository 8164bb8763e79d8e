// What a file holds, checked and in memory. docs/format.md has the bytes, src/pocketseg/engine/program.py the meaning.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace pseg {

// Limits. A file above one of them is refused before anything is allocated for it.
constexpr uint64_t MAX_FILE_BYTES = uint64_t(1) << 31;
constexpr uint64_t MAX_WEIGHTS = uint64_t(1) << 27;    // numbers of all convolutions together
constexpr uint64_t MAX_CONSTANTS = uint64_t(1) << 24;  // scales, biases and norms of all operations together
constexpr uint64_t MAX_CHANNELS = uint64_t(1) << 22;   // of all tensors together
constexpr uint64_t MAX_BUFFERS = uint64_t(1) << 14;    // each is compared with each when they are given their places
constexpr uint32_t MAX_SIDE = 1u << 15;
constexpr uint64_t MAX_ARENA_BYTES = uint64_t(1) << 34;
constexpr uint32_t MAX_THREADS = 256;
constexpr int MAX_PLANES = 8;
constexpr size_t MAX_NAME_BYTES = 63;  // of a kernel or an ISA
// Sums stay exact in f64, as the references compute them.
constexpr double MAX_SUM = 9007199254740992.0;

enum class Type : uint8_t { f32, u8, s8, s32, bits };
enum class QuantizationKind : uint8_t { none = 0, uniform = 1, powers_of_two = 2, binary_planes = 3 };

struct Quantization {
    QuantizationKind kind = QuantizationKind::none;
    int32_t zero_point = 0, lowest = 0, highest = 0;
    float scale = 1, inverse_scale = 1;
    int i = 0, f = 0;
    int planes = 1;
    float gammas[MAX_PLANES] = {};
    uint8_t zero_planes = 0;  // bit q is the sign of plane q of 0

    Type type() const;
    // The largest |code − zero point|.
    int64_t largest() const;
};

struct Buffer {
    uint32_t channels = 0;
    const Quantization* grid = nullptr;  // null is f32
};

struct View {
    uint16_t buffer = 0, first = 0, channels = 0;
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

    // Gives the memory back, once a kernel has the numbers as it reads them. (Of a vector, = {} would keep it.)
    void release() { f32 = std::vector<float>(), whole = std::vector<int32_t>(); }
};

enum class Kind : uint8_t {
    input,
    output,
    copy,
    convolution,
    transposed,
    max_pool,
    average_pool,
    nearest,
    bilinear,
    pad,
    mean
};
constexpr int KINDS = 11;

enum class StepKind : uint8_t { affine, relu, clip, sigmoid, ternary_tanh, add, multiply, fake_quantize, softmax };
constexpr int STEP_KINDS = 9;

struct Step {
    StepKind kind = StepKind::relu;
    std::vector<float> m, b;  // affine
    float low = 0, high = 0;  // clip
    float beta = 0;           // ternary tanh
    View view;                // add, multiply
    const Quantization* grid = nullptr;
};

// What the file says of one operation; what this machine makes of it is an Operator (operators.h).
struct Instruction {
    Kind kind = Kind::copy;
    std::vector<View> reads, writes;
    std::vector<Step> steps;
    uint32_t channels = 0;  // of what it computes
    Window window = {};
    uint8_t output_padding[2] = {}, factor[2] = {}, align_corners = 0;
    uint32_t groups = 1;
    Weights weights;
    std::vector<float> m, b;  // (weight planes, input planes, channels), (channels)
};

struct Program {
    uint32_t in_channels = 0, out_channels = 0, multiple = 1;
    bool exact = false;  // there are codes somewhere: f32 sums keep their order and roundings
    std::vector<Quantization> grids;
    std::vector<Buffer> buffers;
    std::vector<Instruction> instructions;

    const Quantization* grid(const View& view) const { return buffers[view.buffer].grid; }
    Type type(const View& view) const { return grid(view) ? grid(view)->type() : Type::f32; }
};

// Kernels that the file asks for: those that were the fastest on the machine where it was tuned. The names lie in the
// bytes of the file.
struct KernelHints {
    std::string_view machine;               // the ISA
    std::vector<std::string_view> kernels;  // for each instruction the name of one, or none; empty: for none at all
};

// Whether weights fit 8 bits, and the sums of a convolution over codes 32.
bool fits_in_bytes(const Program& program, const Instruction& it);
// Bytes of one pixel of a buffer; planes of bits begin at 64-bit words.
uint64_t pixel_bytes(const Buffer& buffer);
// Bytes of `count` numbers in one stream of bits; as large as the fields of a file make it, count · bits is below 2^56.
inline uint64_t stream_bytes(uint64_t count, int bits) { return (count * uint64_t(bits) + 7) / 8; }
inline uint64_t plane_bytes(uint32_t channels) { return 8 * ((uint64_t(channels) + 63) / 64); }

}  // namespace pseg
