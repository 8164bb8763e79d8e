// Each allocation of opening, planning and running fails in turn, of a net and of the pipeline around it: alone, and
// with all behind it. Segmenting allocates nothing.
//
//     no_memory THREADS FILE      prints how many there are; fails where it was another failure than PSEG_NO_MEMORY, or
//                                 memory is left
#include <atomic>
#include <cerrno>
#include <cstddef>

#include "file.h"
#include "once.h"

extern "C" void* __libc_malloc(size_t);
extern "C" void __libc_free(void*);

static std::atomic<long> counted, failing{-1}, held;
static bool onward;

extern "C" void* malloc(size_t size) {
    if (failing >= 0) {
        ++counted;
        if (counted == failing || (onward && counted > failing)) {
            errno = ENOMEM;
            return nullptr;
        }
        ++held;
    }
    return __libc_malloc(size);
}

extern "C" void free(void* memory) {
    if (failing >= 0 && memory) --held;
    __libc_free(memory);
}

struct Run {
    int opened = -1, planned = -1, ran = -1, chosen = -1, prepared = -1, segmented = -1;
    long allocated = 0;  // while it segmented

    int code() const {
        for (const int each : {opened, planned, ran, chosen, prepared, segmented})
            if (each) return each;
        return 0;
    }
};

static const char CARD[] =
    "{\"size\": [32, 32], \"multiple\": 4, \"fit\": \"tile\", \"normalization\": {\"kind\": \"z-score\"}, \"tta\": "
    "[\"vertical\"], \"postprocess\": {\"fill_holes\": true, \"min_peak\": 0.1, \"keep\": \"largest\"}}";

static Run tried(const std::vector<uint8_t>& bytes, uint32_t threads, const float* image, float* logits, void* arena,
                 uint8_t* mask) {
    Run run;
    pseg_model* model = nullptr;
    size_t size = 0;
    run.opened = pseg_open(bytes.data(), bytes.size(), &model);
    if (!run.opened) run.planned = pseg_plan(model, 32, 32, threads, &size);
    if (!run.planned) run.ran = pseg_run(model, image, logits, arena, size);
    pseg_image large = {logits, PSEG_U8, 50, 40, 1, 0, {0, 0}};
    if (!run.ran) run.chosen = pseg_use_pipeline(model, CARD, sizeof CARD - 1);
    if (!run.chosen) run.prepared = pseg_plan_segment(model, &large, threads, &size);
    const long before = counted;
    if (!run.prepared) run.segmented = pseg_segment(model, &large, mask, nullptr, nullptr, nullptr, arena, size);
    run.allocated = counted - before;
    pseg_close(model);
    return run;
}

int main(int count, char** names) {
    if (count != 3) return 2;
    const uint32_t threads = uint32_t(std::atoi(names[1]));
    const std::vector<uint8_t> bytes = content_of(names[2]);
    std::vector<float> image(32 * 32), logits(32 * 32 * 4);
    std::vector<uint8_t> arena(size_t(64) << 20), mask(50 * 40);
    for (const bool all : {false, true}) {
        onward = all;
        for (long k = 1;; ++k) {
            counted = 0, held = 0, failing = k;
            const Run run = tried(bytes, threads, image.data(), logits.data(), arena.data(), mask.data());
            failing = -1;
            if (held) return std::printf("allocation %ld: %ld pieces are left\n", k, held.load()), 1;
            if (run.allocated) return std::printf("%ld allocations while it segments\n", run.allocated), 1;
            if (counted < k) {
                if (run.code()) return std::printf("code %d\n", run.code()), 1;
                std::printf("%ld\n", counted.load());
                break;
            }
            const int code = run.code();
            // The standard library does without some of its own.
            if (code && code != PSEG_NO_MEMORY) return std::printf("allocation %ld: code %d\n", k, code), 1;
        }
    }
    return 0;
}
