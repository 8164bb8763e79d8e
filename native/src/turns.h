// Instructions that follow one another are done together, some rows at a time: of what only they see a few rows are kept, in
// memory of the thread that needs them. The file knows nothing of it, and no result changes.
#pragma once

#include <cstdint>
#include <vector>

#include "plan.h"
#include "program.h"

namespace pseg {

// Finds the turns for an image whose shapes are in the plan, and which storages are rings.
void take_turns(const Program& program, Plan& plan);

// The rows of each member's result that are needed for rows `last` of the last one's.
void needed(const Program& program, const Plan& plan, const Turn& turn, Span last, Span* of_members);

// The instruction that reads for one that has a kernel: the one that is done inside of it, if there is one.
const Instruction& reader(const Program& program, const Instruction& it);

}  // namespace pseg
