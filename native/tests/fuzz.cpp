// What libFuzzer feeds: any bytes as a file, with the digest put right, since nothing damaged would come past it.
#include <vector>

#include "once.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr size_t DIGEST = 48, BODY = 80;
    std::vector<uint8_t> file(data, data + size);
    if (size >= BODY) {
        pseg::Sha256 sum;
        sum.add(file.data(), DIGEST);
        sum.add(file.data() + BODY, size - BODY);
        const auto digest = sum.digest();
        std::memcpy(file.data() + DIGEST, digest.data(), digest.size());
    }
    pseg_model* model = nullptr;
    char digest[65];
    if (!pseg_open(file.data(), file.size(), &model)) run_once(model, 8, 1, size_t(4) << 20, digest);
    pseg_close(model);
    return 0;
}
