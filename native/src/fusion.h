// Instructions that follow one another are done together, some rows at a time: of what only they see a few rows are
// kept, in memory of the thread that needs them. The file knows nothing of it, and no result changes.
#pragma once

#include <algorithm>
#include <cstdint>

#include "plan.h"
#include "program.h"

namespace pseg {

// Finds the fusion_groups for an image whose shapes are in the plan, and which buffers are rings.
void form_fusion_groups(const Program& program, Plan& plan);

// The rows of each op's result that are required_rows for rows `last` of the last one's.
void required_rows(const Program& program, const Plan& plan, const FusionGroup& group, Span last, Span* of_ops);

// What a thread does with rows `all` of the last one's result: each(op, rows that are required_rows, those not yet
// done), in this order. `done` are the ends of what was done.
template <class Each>
void for_each_stripe(const Program& program, const Plan& plan, const FusionGroup& group, Span all,
                     uint32_t (&done)[MAX_FUSED_OPS], Each each) {
    for (uint32_t y = all.first; y < all.last; y += group.rows) {
        Span need[MAX_FUSED_OPS];
        required_rows(program, plan, group, {y, std::min(y + group.rows, all.last)}, need);
        for (uint32_t m = 0; m < group.ops.size(); ++m) {
            each(m, need[m], Span{std::max(need[m].first, done[m]), need[m].last});
            done[m] = std::max(done[m], need[m].last);
        }
    }
}

// The instruction that reads for one that has a kernel: the one that is done inside of it, if there is one.
const Instruction& reader(const Program& program, const Instruction& it);

}  // namespace pseg
