#include "plan.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "fault.h"
#include "kernels.h"

namespace pseg {
namespace {

// Rows (side 0) or columns (side 1) of a result.
int64_t extent(const Instruction& it, int64_t in, int side) {
    const Window& w = it.window;
    const int64_t reached = reach(w, side);
    const int64_t padding = int64_t(w.padding[side]) + w.padding[side + 2];
    switch (it.kind) {
        case Kind::convolution:
        case Kind::max_pool:
        case Kind::average_pool:
            return in + padding < reached ? 0 : (in + padding - reached) / w.stride[side] + 1;
        case Kind::transposed:
            return (in - 1) * w.stride[side] + reached - padding + it.output_padding[side];
        case Kind::nearest:
        case Kind::bilinear:
            return in * it.factor[side];
        case Kind::pad:
            return in + padding;
        case Kind::mean:
            return 1;
        default:
            return in;
    }
}

Shape result(const Instruction& it, Shape in, size_t index) {
    const int64_t sides[2] = {extent(it, in.height, 0), extent(it, in.width, 1)};
    for (int64_t side : sides)
        if (side < 1 || side > int64_t(MAX_SIDE))
            throw Fault(PSEG_BAD_ARGUMENT, "instruction %zu would have a side of %lld", index, (long long)side);
    return {uint32_t(sides[0]), uint32_t(sides[1])};
}

bool fits(Shape whole, Shape other) {
    return (whole.height == other.height && whole.width == other.width) || (other.height == 1 && other.width == 1);
}

uint64_t buffer_bytes(const Buffer& buffer, Shape shape) {
    // At most 2^15 · 2^15 · 2^16 · 4 · planes: no overflow.
    return align_up(pixel_bytes(buffer) * shape.height * shape.width);
}

// One buffer in time, counted in fusion groups, and in memory.
struct Block {
    size_t buffer, first, last;
    uint64_t bytes, offset;
};

// Largest first, each at the lowest place that is free for as long as it lives. Returns the end of the highest.
uint64_t place_blocks(std::vector<Block>& blocks) {
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
        upward.insert(std::upper_bound(upward.begin(), upward.end(), &block,
                                       [](const Block* a, const Block* b) { return a->offset < b->offset; }),
                      &block);
        end = std::max(end, block.offset + block.bytes);
    }
    return end;
}

void check_arguments(const Program& program, uint32_t height, uint32_t width, uint32_t threads) {
    if (threads < 1 || threads > MAX_THREADS)
        throw Fault(PSEG_BAD_ARGUMENT, "%u threads: 1 to %u are possible", threads, MAX_THREADS);
    if (height < 1 || width < 1 || height > MAX_SIDE || width > MAX_SIDE)
        throw Fault(PSEG_BAD_ARGUMENT, "an image of %u×%u: sides are 1 to %u", height, width, MAX_SIDE);
    if (height % program.multiple || width % program.multiple)
        throw Fault(PSEG_BAD_ARGUMENT, "an image of %u×%u: this net needs multiples of %u", height, width,
                    program.multiple);
}

// Shapes of all results, and of the buffers they are put into.
Shapes infer_shapes(const Program& program, uint32_t height, uint32_t width) {
    Shapes shapes;
    shapes.buffers.resize(program.buffers.size());
    for (size_t i = 0; i < program.instructions.size(); ++i) {
        const Instruction& it = program.instructions[i];
        const Shape in = it.reads.empty() ? Shape{height, width} : shapes.buffers[it.reads[0].buffer];
        const Shape out = result(it, in, i);
        shapes.results.push_back(out);
        for (const Step& step : it.steps)
            if (has_operand(step) && !fits(out, shapes.buffers[step.view.buffer]))
                throw Fault(PSEG_DAMAGED, "the file is damaged: instruction %zu brings tensors of two sizes together",
                            i);
        for (const View& view : it.writes) {
            Shape& shape = shapes.buffers[view.buffer];
            if (shape.height && (shape.height != out.height || shape.width != out.width))
                throw Fault(PSEG_DAMAGED, "the file is damaged: instruction %zu puts tensors of two sizes together", i);
            shape = out;
        }
    }
    return shapes;
}

// Bytes that a thread needs for a group.
uint64_t group_bytes(const Program& program, const Operators& operators, const Shapes& shapes,
                     const FusionGroup& group) {
    uint64_t most = 0;
    for (uint32_t i : group.ops) {
        const Operator& op = operators[i];
        const std::vector<View>& reads = op.reader().reads;
        const Shape in = reads.empty() ? shapes.results[i] : shapes.buffers[reads[0].buffer];
        most = std::max(most, op.kernel->scratch(program, op, in, shapes.results[i]));
    }
    return group.ring_bytes + most;
}

// Buffers that are not rings, from the group that first writes them to the last one that reads them.
std::vector<Block> blocks_of(const Program& program, const Operators& operators, const Plan& plan) {
    std::vector<Block> blocks;
    std::vector<size_t> block_of(program.buffers.size(), SIZE_MAX);
    for (size_t now = 0; now < plan.fusion.groups.size(); ++now)
        for (uint32_t i : plan.fusion.groups[now].ops) {
            const Operator& op = operators[i];
            const auto used = [&](const View& view) {
                if (block_of[view.buffer] != SIZE_MAX) blocks[block_of[view.buffer]].last = now;
            };
            for (const View& view : op.reader().reads) used(view);
            for (const Step& step : op.it->steps) used(step.view);
            for (const View& view : op.it->writes) {
                if (plan.fusion.rings[view.buffer]) continue;
                if (block_of[view.buffer] == SIZE_MAX) {
                    block_of[view.buffer] = blocks.size();
                    const Shape shape = plan.shapes.buffers[view.buffer];
                    blocks.push_back({view.buffer, now, now, buffer_bytes(program.buffers[view.buffer], shape), 0});
                }
                used(view);
            }
        }
    return blocks;
}

}  // namespace

Plan make_plan(const Program& program, const Operators& operators, uint32_t height, uint32_t width, uint32_t threads) {
    check_arguments(program, height, width, threads);
    Plan plan;
    plan.threads = threads;
    plan.shapes = infer_shapes(program, height, width);
    const Shape last = plan.shapes.results.back();
    if (last.height != height || last.width != width)
        throw Fault(PSEG_DAMAGED, "the file is damaged: logits of %u×%u for an image of %u×%u", last.height, last.width,
                    height, width);
    form_fusion_groups(program, operators, plan.shapes, threads, plan.fusion);
    plan.offsets.resize(program.buffers.size());
    std::vector<Block> blocks = blocks_of(program, operators, plan);
    const uint64_t tensors = place_blocks(blocks);
    for (const Block& block : blocks) plan.offsets[block.buffer] = size_t(block.offset);
    uint64_t scratch = 0;
    for (const FusionGroup& group : plan.fusion.groups)
        scratch = std::max(scratch, group_bytes(program, operators, plan.shapes, group));
    scratch = align_up(scratch);
    const uint64_t total = tensors + threads * scratch + ALIGNMENT - 1;
    if (total > MAX_ARENA_BYTES || total > std::numeric_limits<size_t>::max())
        throw Fault(PSEG_TOO_LARGE, "an image of %u×%u needs %llu bytes: too much", height, width,
                    (unsigned long long)total);
    plan.scratch_offset = size_t(tensors), plan.scratch_bytes = size_t(scratch), plan.arena_bytes = size_t(total);
    return plan;
}

}  // namespace pseg
