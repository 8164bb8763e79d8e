// Opens files, and runs those that are models once: what a sanitizer build is fed with.
//
//     replay SIDE THREADS FILE...      prints FILE STATUS, with the SHA-256 of the logits of those that ran; why others
//     did not, to stderr
//
// An arena above 64 MiB is not tried.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "file.h"
#include "once.h"

int main(int count, char** names) {
    if (count < 4) return 2;
    for (int i = 3; i < count; ++i) {
        const std::vector<uint8_t> bytes = content_of(names[i]);
        char digest[65] = "";
        pseg_model* model = nullptr;
        int status = pseg_open(bytes.data(), bytes.size(), &model);
        if (!status)
            status =
                run_once(model, uint32_t(std::atoi(names[1])), uint32_t(std::atoi(names[2])), size_t(64) << 20, digest);
        if (status) std::fprintf(stderr, "%s: %s\n", names[i], pseg_error(model));
        std::printf("%s %d %s\n", names[i], status, digest);
        pseg_close(model);
    }
    return 0;
}
