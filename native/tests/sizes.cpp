// The sizes that everything is allocated by, one line from stdin at a time, to be compared with whole numbers without
// bounds:
//
//     buffer KIND CHANNELS PLANES HEIGHT WIDTH       bytes of a tensor; KIND is f32, u8, s8, s32 or bits
//     stream COUNT BITS                              bytes of numbers in a stream of bits
//     side KIND IN KERNEL STRIDE DILATION BEFORE AFTER OUTPUT_PADDING      rows of a result; KIND is a number of Kind
//
// An answer is a number; of a side that is no side, "none".
#include <cinttypes>
#include <cstdio>
#include <string>

#include "../src/plan.cpp"

// What plan.cpp needs of its neighbors, which no size comes from.
namespace pseg {
void form_fusion_groups(const Program&, const Operators&, const Shapes&, uint32_t, Fusion&) {}
}  // namespace pseg

int main() {
    using namespace pseg;
    char line[256], kind[16];
    uint64_t n[8];
    while (std::fgets(line, sizeof line, stdin)) {
        if (std::sscanf(line, "buffer %15s %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, kind, n, n + 1, n + 2,
                        n + 3) == 5) {
            Quantization grid;
            const std::string name = kind;
            grid.kind = name == "bits" ? QuantizationKind::binary_planes : QuantizationKind::uniform;
            grid.planes = int(n[1]);
            grid.lowest = name == "u8" ? 0 : name == "s8" ? -128 : -1000;
            grid.highest = name == "u8" ? 255 : name == "s8" ? 127 : 1000;
            const Buffer buffer{uint32_t(n[0]), name == "f32" ? nullptr : &grid};
            std::printf("%" PRIu64 "\n", buffer_bytes(buffer, {uint32_t(n[2]), uint32_t(n[3])}));
        } else if (std::sscanf(line, "stream %" SCNu64 " %" SCNu64, n, n + 1) == 2) {
            std::printf("%" PRIu64 "\n", stream_bytes(n[0], int(n[1])));
        } else if (std::sscanf(line,
                               "side %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                               " %" SCNu64,
                               n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7) == 8) {
            Instruction it;
            it.kind = Kind(n[0]);
            const uint8_t kernel = uint8_t(n[2]), stride = uint8_t(n[3]), dilation = uint8_t(n[4]),
                          before = uint8_t(n[5]), after = uint8_t(n[6]);
            it.window = {{kernel, kernel}, {stride, stride}, {dilation, dilation}, {before, before, after, after}};
            it.output_padding[0] = it.output_padding[1] = uint8_t(n[7]), it.factor[0] = it.factor[1] = stride;
            try {
                std::printf("%u\n", result(it, {uint32_t(n[1]), uint32_t(n[1])}, 0).height);
            } catch (const Fault&) {
                std::puts("none");
            }
        } else {
            return 2;
        }
    }
    return 0;
}
