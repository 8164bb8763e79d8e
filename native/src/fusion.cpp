#include "fusion.h"

namespace pseg {
namespace {

// Rings of a group stay in the cache that a core has for itself.
constexpr uint64_t MAX_RING_BYTES = 768 << 10;
// Rows of the last result that are done at a time, at most: with two or more around them they fill rings of powers
// of two.
constexpr uint32_t ROWS[] = {62, 30, 14, 6, 2, 1};
// A file may have steps without number; those of nets are few.
constexpr size_t MAX_EDGES = 64;
// Of a result, an eighth may be computed twice, because two threads need it.
constexpr uint64_t RECOMPUTED_PART = 8;
// Rows looked at, each by every op and edge of a group, until no more groups are looked for: a small part of a second.
// Nets need a hundredth of it at 2048 × 2048 pixels.
constexpr uint64_t MAX_WORK = uint64_t(1) << 24;

bool has_window(const Instruction& it) {
    return it.kind == Kind::convolution || it.kind == Kind::max_pool || it.kind == Kind::average_pool;
}

// Whether windows of different rows see different rows, and all of them.
bool tiles(const Instruction& it) {
    if (it.kind == Kind::nearest) return false;
    const Window& w = it.window;
    return !has_window(it) || (w.kernel[0] == w.stride[0] && w.dilation[0] == 1 && !w.padding[0] && !w.padding[2]);
}

// The rows of an input that rows of the result are computed from.
Span rows_read(const Instruction& it, Span rows, uint32_t height) {
    int64_t first = rows.first, last = rows.last;
    if (it.kind == Kind::nearest) {
        first /= it.factor[0], last = (last - 1) / it.factor[0] + 1;
    } else if (has_window(it)) {
        const Window& w = it.window;
        first = first * w.stride[0] - w.padding[0];
        last = (last - 1) * w.stride[0] - w.padding[0] + reach(w, 0);
    }
    const auto inside = [&](int64_t row) { return uint32_t(std::clamp<int64_t>(row, 0, height)); };
    return {inside(first), inside(last)};
}

Span union_of(Span a, Span b) {
    if (a.first >= a.last) return b;
    if (b.first >= b.last) return a;
    return {std::min(a.first, b.first), std::max(a.last, b.last)};
}

uint32_t power_of_two(uint32_t least) {
    uint32_t power = 1;
    while (power < least) power *= 2;
    return power;
}

class Finder {
public:
    Finder(const Program& program, const Operators& operators, const Shapes& shapes, uint32_t threads, Fusion& fusion)
        : program_(program),
          operators_(operators),
          shapes_(shapes),
          threads_(threads),
          fusion_(fusion),
          users_(program.buffers.size()) {
        fusion_.rings.resize(program.buffers.size());
        fusion_.offsets.resize(program.buffers.size());
        for (uint32_t i = 0; i < operators.size(); ++i) {
            if (!operators[i].kernel) continue;
            executed_.push_back(i);
            const auto once = [&](std::vector<uint32_t>& users) {
                if (users.empty() || users.back() != i) users.push_back(i);
            };
            each_read(operators[i], [&](const View& view, bool) { once(users_[view.buffer].readers); });
            for (const View& view : operators[i].it->writes) once(users_[view.buffer].writers);
        }
    }

    void find() {
        for (size_t first = 0; first < executed_.size();) {
            size_t count = longest(first);
            while (count > 1 && !form(first, count)) --count;
            if (count <= 1) fusion_.groups.push_back({{executed_[first]}, {}, UINT32_MAX, 0}), count = 1;
            first += count;
        }
    }

private:
    struct Users {
        std::vector<uint32_t> writers, readers;  // each once, in order
    };

    // Calls each(view, whether through the window).
    template <class Each>
    void each_read(const Operator& op, Each each) const {
        for (const View& view : op.reader().reads) each(view, true);
        for (const Step& step : op.it->steps)
            if (has_operand(step)) each(step.view, false);
    }

    uint32_t height(uint32_t i) const { return shapes_.results[i].height; }
    uint32_t height_read(uint32_t i) const {
        const std::vector<View>& reads = operators_[i].reader().reads;
        return reads.empty() ? UINT32_MAX : shapes_.buffers[reads[0].buffer].height;
    }

    // How many may be fused at most: up to one that makes rows fewer, and before one that makes them more.
    size_t longest(size_t first) const {
        size_t count = 0;
        bool only_moved = true;
        for (size_t i = first; i < executed_.size() && count < MAX_FUSED_OPS; ++i) {
            const Instruction& it = *operators_[executed_[i]].it;
            const bool moves = it.kind == Kind::copy || it.kind == Kind::nearest;
            if (!moves && !has_window(it) && it.kind != Kind::input && it.kind != Kind::output) break;
            if (it.kind == Kind::nearest && !only_moved) break;
            only_moved &= moves;
            ++count;
            if (it.kind != Kind::nearest && height(executed_[i]) != height_read(executed_[i]) && it.kind != Kind::input)
                break;
        }
        return count;
    }

    bool is_ring(uint32_t buffer, uint32_t first, uint32_t last) const {
        const Users& of = users_[buffer];
        const auto within = [&](const std::vector<uint32_t>& users) {
            return first <= users.front() && users.back() <= last;
        };
        return !of.readers.empty() && within(of.readers) && within(of.writers);
    }

    // Makes a group of `count` instructions, if they can be one and memory is saved.
    bool form(size_t first, size_t count) {
        FusionGroup group;
        group.ops.assign(executed_.begin() + long(first), executed_.begin() + long(first + count));
        std::vector<uint32_t> rings;
        if (!connect(group, rings)) return false;
        uint64_t whole = 0;
        for (uint32_t buffer : rings) whole += row_bytes(buffer) * shapes_.buffers[buffer].height;
        for (uint32_t rows : ROWS) {
            const uint64_t work = (height(group.ops.back()) / rows + threads_) * (count + group.edges.size());
            if (work > left_) break;
            left_ -= work;
            group.rows = rows;
            if (!place(group, rings) || group.ring_bytes > MAX_RING_BYTES || group.ring_bytes * threads_ > whole)
                continue;
            fusion_.groups.push_back(group);
            return true;
        }
        for (uint32_t buffer : rings) fusion_.rings[buffer] = 0;
        return false;
    }

    // Finds rings and who reads whose. A result has a halo where stripes need rows of it that other stripes need too.
    // What others see as well must be computed once and as a whole: it may have none, or stand at the end.
    bool connect(FusionGroup& group, std::vector<uint32_t>& rings) const {
        const uint32_t begin = group.ops.front(), end = group.ops.back();
        const size_t count = group.ops.size();
        const auto op = [&](uint32_t i) {
            return size_t(std::find(group.ops.begin(), group.ops.end(), i) - group.ops.begin());
        };
        bool halo[MAX_FUSED_OPS] = {}, useful[MAX_FUSED_OPS] = {};
        useful[count - 1] = true;
        for (size_t m = count; m-- > 0;) {
            const Operator& now = operators_[group.ops[m]];
            bool outside = false, same = true;
            for (const View& view : now.it->writes) outside |= !is_ring(view.buffer, begin, end);
            if (!useful[m] || (outside && halo[m] && m + 1 < count)) return false;
            const bool spreads = halo[m] || !tiles(*now.it) || !tiles(now.reader());
            each_read(now, [&](const View& view, bool window) {
                if (group.edges.size() > MAX_EDGES || !is_ring(view.buffer, begin, end)) return;
                same &= window || shapes_.buffers[view.buffer].height == height(group.ops[m]);
                if (std::find(rings.begin(), rings.end(), view.buffer) == rings.end()) rings.push_back(view.buffer);
                for (uint32_t writer : users_[view.buffer].writers) {
                    const size_t from = op(writer);
                    group.edges.push_back({uint8_t(from), uint8_t(m), window});
                    halo[from] |= window ? spreads : halo[m];
                    useful[from] = true;
                }
            });
            if (!same || group.edges.size() > MAX_EDGES) return false;
        }
        return true;
    }

    // Goes through all rows as a run will: how many rows rings need, and what is computed twice. Gives rings their
    // places.
    bool place(FusionGroup& group, const std::vector<uint32_t>& rings) {
        const size_t count = group.ops.size();
        const uint32_t rows = height(group.ops.back());
        std::vector<uint32_t> most(count, 1);
        std::vector<uint64_t> made(count, 0);
        for (uint32_t part = 0; part < threads_; ++part) {
            uint32_t done[MAX_FUSED_OPS] = {};
            for_each_stripe(operators_, shapes_, group, part_of(rows, part, threads_), done,
                            [&](uint32_t m, Span required, Span fresh) {
                                most[m] = std::max(most[m], required.last - required.first);
                                made[m] += fresh.last - std::min(fresh.first, fresh.last);
                            });
        }
        for (size_t m = 0; m < count; ++m)
            if (made[m] > height(group.ops[m]) + height(group.ops[m]) / RECOMPUTED_PART) return false;
        group.ring_bytes = 0;
        for (uint32_t buffer : rings) {
            uint32_t kept = 1;
            for (uint32_t writer : users_[buffer].writers)
                for (size_t m = 0; m < count; ++m)
                    if (group.ops[m] == writer) kept = std::max(kept, most[m]);
            fusion_.rings[buffer] = power_of_two(kept);
            fusion_.offsets[buffer] = size_t(group.ring_bytes);
            group.ring_bytes += align_up(row_bytes(buffer) * fusion_.rings[buffer]);
        }
        return true;
    }

    uint64_t row_bytes(uint32_t buffer) const {
        return pixel_bytes(program_.buffers[buffer]) * shapes_.buffers[buffer].width;
    }

    const Program& program_;
    const Operators& operators_;
    const Shapes& shapes_;
    const uint32_t threads_;
    Fusion& fusion_;
    std::vector<Users> users_;
    std::vector<uint32_t> executed_;
    uint64_t left_ = MAX_WORK;
};

}  // namespace

void required_rows(const Operators& operators, const Shapes& shapes, const FusionGroup& group, Span last,
                   Span (&rows)[MAX_FUSED_OPS]) {
    const size_t count = group.ops.size();
    std::fill(rows, rows + count, Span{0, 0});
    rows[count - 1] = last;
    for (const FusionGroup::Edge& edge : group.edges) {
        const Operator& op = operators[group.ops[edge.to]];
        Span read = rows[edge.to];
        if (edge.window && read.first < read.last) {
            if (op.producer)
                read = rows_read(*op.it, read, shapes.results[size_t(op.producer - operators.data())].height);
            read = rows_read(op.reader(), read, shapes.results[group.ops[edge.from]].height);
        }
        rows[edge.from] = union_of(rows[edge.from], read);
    }
}

void form_fusion_groups(const Program& program, const Operators& operators, const Shapes& shapes, uint32_t threads,
                        Fusion& fusion) {
    Finder(program, operators, shapes, threads, fusion).find();
}

}  // namespace pseg
