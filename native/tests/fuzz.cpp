// What libFuzzer feeds: any bytes as a file, with the digest put right, since nothing damaged would come past it. What
// opens is planned for images small and large, and run where that is little work: a run takes what the net asks for,
// and no net is too slow to be one.
#include <vector>

#include "../src/kernels.h"
#include "../src/plan.h"
#include "../src/reader.h"
#include "once.h"

namespace {

constexpr uint32_t SIDE = 8;
constexpr uint64_t MAX_WORK = uint64_t(1) << 22;
constexpr size_t MAX_BYTES = size_t(4) << 20;

// Products and steps of a run, about.
uint64_t work(const pseg::Program& program, const pseg::Plan& plan) {
    uint64_t sum = 0;
    for (size_t i = 0; i < program.instructions.size(); ++i) {
        const pseg::Instruction& it = program.instructions[i];
        const pseg::Shape shape = plan.shapes.results[i];
        uint64_t each = 1 + it.steps.size() + it.writes.size() + uint64_t(it.window.kernel[0]) * it.window.kernel[1];
        if (!it.reads.empty() && it.window.kernel[0])
            each *= (it.reads[0].channels / it.groups + 1) * uint64_t(it.weights.planes) * pseg::MAX_PLANES;
        sum += each * it.channels * shape.height * shape.width;
        if (sum > MAX_WORK) break;
    }
    return sum;
}

}  // namespace

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
    if (!pseg_open(file.data(), file.size(), &model)) {
        pseg_facts facts;
        size_t arena_bytes;
        pseg_describe(model, &facts);
        for (uint32_t times : {1u, 7u, 256u})
            pseg_plan(model, times * facts.multiple, times * facts.multiple, 2, &arena_bytes);
        const uint32_t side = (SIDE + facts.multiple - 1) / facts.multiple * facts.multiple;
        if (!pseg_plan(model, side, side, 1, &arena_bytes) && arena_bytes <= MAX_BYTES) {
            pseg::ModelFile read = pseg::read_model(file.data(), file.size());
            const pseg::Operators operators = pseg::choose_kernels(read.program, read.hints, pseg::chosen_isa());
            if (work(read.program, pseg::make_plan(read.program, operators, side, side, 1)) <= MAX_WORK)
                run_once(model, SIDE, 1, MAX_BYTES, digest);
        }
    }
    pseg_close(model);
    return 0;
}
