// Operators that follow one another are fused, depth first: a thread computes a stripe of some rows of the last result,
// and of each result before it the rows that the stripe needs. Of a tensor that only they see, a rolling buffer of a
// few rows is kept (a ring), in memory of the thread. The file knows nothing of it, and no result changes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "operators.h"
#include "program.h"
#include "shapes.h"

namespace pseg {

constexpr size_t MAX_FUSED_OPS = 16;

// Operators that are fused, or one alone.
struct FusionGroup {
    // Operator `to` needs the result of `from`; `window`: the rows that its window sees, else the same rows.
    struct Edge {
        uint8_t from, to;
        bool window;
    };
    std::vector<uint32_t> ops;  // numbers of operators, in order
    std::vector<Edge> edges;    // in the order of their readers, the last one first
    uint32_t rows = 0;          // of a stripe
    uint64_t ring_bytes = 0;    // of one thread
};

struct Fusion {
    std::vector<FusionGroup> groups;
    std::vector<uint32_t> rings;  // rows that are kept of each buffer, a power of two; 0: it is not a ring
    std::vector<size_t> offsets;  // of each ring in the memory of a thread
};

// `fusion` is new.
void form_fusion_groups(const Program& program, const Operators& operators, const Shapes& shapes, uint32_t threads,
                        Fusion& fusion);

// The rows of each op's result that are required for rows `last` of the last one's.
void required_rows(const Operators& operators, const Shapes& shapes, const FusionGroup& group, Span last,
                   Span (&rows)[MAX_FUSED_OPS]);

// Goes through rows `all` of the last op's result, a stripe at a time. For each stripe and op: each(op, rows that are
// required, those of them that are not yet done). `done`: for each op, the end of what is done.
template <class Each>
void for_each_stripe(const Operators& operators, const Shapes& shapes, const FusionGroup& group, Span all,
                     uint32_t (&done)[MAX_FUSED_OPS], Each each) {
    for (uint32_t y = all.first; y < all.last; y += group.rows) {
        Span required[MAX_FUSED_OPS];
        required_rows(operators, shapes, group, {y, std::min(y + group.rows, all.last)}, required);
        for (uint32_t op = 0; op < group.ops.size(); ++op) {
            each(op, required[op], Span{std::max(required[op].first, done[op]), required[op].last});
            done[op] = std::max(done[op], required[op].last);
        }
    }
}

}  // namespace pseg
