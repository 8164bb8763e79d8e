// What libFuzzer feeds: any bytes as an image and a card.
#include "segment_bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    segment_bytes(data, size, size_t(4) << 20, nullptr);
    return 0;
}
