// Sends files as fuzz_segment takes them through the pipeline: what a sanitizer build is fed with.
//
//     segment FILE...      prints FILE STATUS, with the SHA-256 of the mask, or why there is none
#include "file.h"
#include "segment_bytes.h"

int main(int count, char** names) {
    for (int i = 1; i < count; ++i) {
        const std::vector<uint8_t> bytes = content_of(names[i]);
        std::string said;
        const int status = segment_bytes(bytes.data(), bytes.size(), size_t(64) << 20, &said);
        std::printf("%s %d %s\n", names[i], status, said.c_str());
    }
    return 0;
}
