// Instructions that follow one another are done together, some rows at a time: of what only they see a few rows are kept, in
// memory of the thread that needs them. The file knows nothing of it, and no result changes.
#pragma once

#include <algorithm>
#include <cstdint>

#include "plan.h"
#include "program.h"

namespace pseg {

// Finds the turns for an image whose shapes are in the plan, and which storages are rings.
void take_turns(const Program& program, Plan& plan);

// The rows of each member's result that are needed for rows `last` of the last one's.
void needed(const Program& program, const Plan& plan, const Turn& turn, Span last, Span* of_members);

// What a thread does with rows `all` of the last one's result: each(member, rows that are needed, those not yet done), in this
// order. `done` are the ends of what was done.
template <class Each>
void each_stretch(const Program& program, const Plan& plan, const Turn& turn, Span all, uint32_t (&done)[MOST_MEMBERS], Each each) {
    for (uint32_t y = all.first; y < all.last; y += turn.rows) {
        Span need[MOST_MEMBERS];
        needed(program, plan, turn, {y, std::min(y + turn.rows, all.last)}, need);
        for (uint32_t m = 0; m < turn.members.size(); ++m) {
            each(m, need[m], Span{std::max(need[m].first, done[m]), need[m].last});
            done[m] = std::max(done[m], need[m].last);
        }
    }
}

// The instruction that reads for one that has a kernel: the one that is done inside of it, if there is one.
const Instruction& reader(const Program& program, const Instruction& it);

}  // namespace pseg
