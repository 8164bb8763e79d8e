#include "plan.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "fault.h"
#include "kernels.h"
#include "turns.h"

namespace pseg {
namespace {

// Rows (side 0) or columns (side 1) of a result.
int64_t extent(const Instruction& it, int64_t in, int side) {
    const Window& w = it.window;
    const int64_t reach = int64_t(w.dilation[side]) * (w.kernel[side] - 1) + 1;
    const int64_t around = int64_t(w.padding[side]) + w.padding[side + 2];
    switch (it.kind) {
        case Kind::convolution:
        case Kind::max_pool:
        case Kind::average_pool:
            return in + around < reach ? 0 : (in + around - reach) / w.stride[side] + 1;
        case Kind::transposed:
            return (in - 1) * w.stride[side] + reach - around + it.grown[side];
        case Kind::nearest:
        case Kind::bilinear:
            return in * it.factor[side];
        case Kind::pad:
            return in + around;
        case Kind::mean:
            return 1;
        default:
            return in;
    }
}

Shape result(const Instruction& it, Shape in, size_t index) {
    const int64_t sides[2] = {extent(it, in.height, 0), extent(it, in.width, 1)};
    for (int64_t side : sides)
        if (side < 1 || side > int64_t(MOST_SIDE))
            throw Fault(PSEG_BAD_ARGUMENT, "instruction %zu would have a side of %lld", index, (long long)side);
    return {uint32_t(sides[0]), uint32_t(sides[1])};
}

bool fits(Shape whole, Shape other) {
    return (whole.height == other.height && whole.width == other.width) || (other.height == 1 && other.width == 1);
}

uint64_t storage_bytes(const Storage& storage, Shape shape) {
    // At most 2^15 · 2^15 · 2^16 · 4 · planes: no overflow.
    const uint64_t bytes = pixel_bytes(storage) * shape.height * shape.width;
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

// One storage in time (turns) and memory.
struct Block {
    size_t storage, first, last;
    uint64_t bytes, offset;
};

// Largest first, each at the lowest place that is free for as long as it lives. Returns the end of the highest.
uint64_t placed(std::vector<Block>& blocks) {
    std::stable_sort(blocks.begin(), blocks.end(), [](const Block& a, const Block& b) { return a.bytes > b.bytes; });
    uint64_t end = 0;
    std::vector<const Block*> upward;  // what has its place, the lowest first
    upward.reserve(blocks.size());
    for (Block& block : blocks) {
        block.offset = 0;
        for (const Block* other : upward) {
            if (other->last < block.first || block.last < other->first) continue;
            if (block.offset + block.bytes <= other->offset) break;
            block.offset = std::max(block.offset, other->offset + other->bytes);
        }
        upward.insert(std::upper_bound(upward.begin(), upward.end(), &block, [](const Block* a, const Block* b) { return a->offset < b->offset; }), &block);
        end = std::max(end, block.offset + block.bytes);
    }
    return end;
}

void check_arguments(const Program& program, uint32_t height, uint32_t width, uint32_t threads) {
    if (threads < 1 || threads > MOST_THREADS) throw Fault(PSEG_BAD_ARGUMENT, "%u threads: 1 to %u are possible", threads, MOST_THREADS);
    if (height < 1 || width < 1 || height > MOST_SIDE || width > MOST_SIDE)
        throw Fault(PSEG_BAD_ARGUMENT, "an image of %u×%u: sides are 1 to %u", height, width, MOST_SIDE);
    if (height % program.multiple || width % program.multiple)
        throw Fault(PSEG_BAD_ARGUMENT, "an image of %u×%u: this net needs multiples of %u", height, width, program.multiple);
}

// Shapes of all results, and of the storages they are put into.
void measure(const Program& program, uint32_t height, uint32_t width, Plan& plan) {
    plan.storages.resize(program.storages.size());
    for (size_t i = 0; i < program.instructions.size(); ++i) {
        const Instruction& it = program.instructions[i];
        const Shape in = it.reads.empty() ? Shape{height, width} : plan.storages[it.reads[0].storage];
        const Shape out = result(it, in, i);
        plan.results.push_back(out);
        for (const Step& step : it.steps)
            if ((step.kind == StepKind::add || step.kind == StepKind::multiply) && !fits(out, plan.storages[step.view.storage]))
                throw Fault(PSEG_DAMAGED, "the file is damaged: instruction %zu brings tensors of two sizes together", i);
        for (const View& view : it.writes) {
            Shape& shape = plan.storages[view.storage];
            if (shape.height && (shape.height != out.height || shape.width != out.width))
                throw Fault(PSEG_DAMAGED, "the file is damaged: instruction %zu puts tensors of two sizes together", i);
            shape = out;
        }
    }
}

// Bytes that a thread needs for a turn.
uint64_t turn_bytes(const Program& program, const Plan& plan, const Turn& turn) {
    uint64_t most = 0;
    for (uint32_t i : turn.members) {
        const Instruction& it = program.instructions[i];
        const Instruction& first = reader(program, it);
        const Shape in = first.reads.empty() ? plan.results[i] : plan.storages[first.reads[0].storage];
        most = std::max(most, it.kernel->scratch(program, it, in, plan.results[i]));
    }
    return turn.ring_bytes + most;
}

// Storages that are no rings, from the turn that first writes them to the last one that reads them.
std::vector<Block> blocks_of(const Program& program, const Plan& plan) {
    std::vector<Block> blocks;
    std::vector<size_t> block_of(program.storages.size(), SIZE_MAX);
    for (size_t t = 0; t < plan.turns.size(); ++t)
        for (uint32_t i : plan.turns[t].members) {
            const Instruction& it = program.instructions[i];
            const auto used = [&](const View& view) {
                if (block_of[view.storage] != SIZE_MAX) blocks[block_of[view.storage]].last = t;
            };
            for (const View& view : reader(program, it).reads) used(view);
            for (const Step& step : it.steps) used(step.view);
            for (const View& view : it.writes) {
                if (plan.rings[view.storage]) continue;
                if (block_of[view.storage] == SIZE_MAX) {
                    block_of[view.storage] = blocks.size();
                    blocks.push_back({view.storage, t, t, storage_bytes(program.storages[view.storage], plan.storages[view.storage]), 0});
                }
                used(view);
            }
        }
    return blocks;
}

}  // namespace

Plan planned(const Program& program, uint32_t height, uint32_t width, uint32_t threads) {
    check_arguments(program, height, width, threads);
    Plan plan;
    plan.threads = threads;
    plan.rings.resize(program.storages.size());
    plan.offsets.resize(program.storages.size());
    measure(program, height, width, plan);
    const Shape last = plan.results.back();
    if (last.height != height || last.width != width)
        throw Fault(PSEG_DAMAGED, "the file is damaged: logits of %u×%u for an image of %u×%u", last.height, last.width, height, width);
    take_turns(program, plan);
    std::vector<Block> blocks = blocks_of(program, plan);
    const uint64_t tensors = placed(blocks);
    for (const Block& block : blocks) plan.offsets[block.storage] = size_t(block.offset);
    uint64_t scratch = 0;
    for (const Turn& turn : plan.turns) scratch = std::max(scratch, turn_bytes(program, plan, turn));
    scratch = (scratch + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    const uint64_t total = tensors + threads * scratch + ALIGNMENT - 1;
    if (total > MOST_ARENA_BYTES || total > std::numeric_limits<size_t>::max())
        throw Fault(PSEG_TOO_LARGE, "an image of %u×%u needs %llu bytes: too much", height, width, (unsigned long long)total);
    plan.scratch_offset = size_t(tensors), plan.scratch_bytes = size_t(scratch), plan.arena_bytes = size_t(total);
    return plan;
}

}  // namespace pseg
