// The C interface: arguments are checked, and no exception passes.
#include "pocketseg.h"

#include <atomic>
#include <new>

#include "model.h"

namespace {

using namespace pseg;

// One group, in parts of the rows of its last result.
struct Work {
    const Frame& frame;
    const Operators& operators;
    const FusionGroup& group;
    std::atomic<uint32_t> failed;  // an instruction where a value is not finite
};

void do_rows(Work& work, const Frame& frame, uint32_t op, Span rows) {
    if (rows.first >= rows.last) return;
    const uint32_t i = work.group.ops[op];
    const Operator& now = work.operators[i];
    uint8_t* scratch = frame.rings + work.group.ring_bytes;
    Job job{frame, now, *now.it, frame.plan.shapes.results[i], rows.first, rows.last, scratch, true};
    now.kernel->run(job);
    if (!job.finite) work.failed = i;
}

void do_part(void* context, uint32_t part) {
    Work& work = *static_cast<Work*>(context);
    const Plan& plan = work.frame.plan;
    const FusionGroup& group = work.group;
    Frame frame = work.frame;
    frame.rings = frame.arena + plan.scratch_offset + part * plan.scratch_bytes;
    const uint32_t count = uint32_t(group.ops.size());
    const Span all = part_of(plan.shapes.results[group.ops.back()].height, part, plan.threads);
    if (count == 1) return do_rows(work, frame, 0, all);
    uint32_t done[MAX_FUSED_OPS] = {};
    for_each_stripe(work.operators, plan.shapes, group, all, done,
                    [&](uint32_t op, Span, Span fresh) { do_rows(work, frame, op, fresh); });
    // Rows that no window saw, of what others see as well.
    if (part + 1 < plan.threads) return;
    for (uint32_t op = 0; op < count; ++op)
        do_rows(work, frame, op, {done[op], plan.shapes.results[group.ops[op]].height});
}

}  // namespace

void pseg::run_net(pseg_model& model, const float* image, float* logits, uint8_t* arena) {
    const Frame frame{model.program, model.plan, arena, nullptr, image, logits};
    for (const FusionGroup& group : model.plan.fusion.groups) {
        Work work{frame, model.operators, group, {UINT32_MAX}};
#if defined(POCKETSEG_THREADS)
        if (model.pool)
            model.pool->run(do_part, &work);
        else
#endif
            for (uint32_t part = 0; part < model.plan.threads; ++part) do_part(&work, part);
        const uint32_t failed = work.failed;
        if (failed == UINT32_MAX) continue;
        throw Fault(PSEG_NOT_FINITE, "instruction %u (%s): a value is nan or inf", failed,
                    model.operators[failed].kernel->name);
    }
}

void pseg::make_pool(pseg_model& model, uint32_t threads) {
#if defined(POCKETSEG_THREADS)
    if (model.pool && model.pool_parts == threads && model.pool->is_of_this_process()) return;
    model.leave_pool();
    if (threads > 1) model.pool = std::make_unique<Pool>(threads);
    model.pool_parts = threads;
#else
    (void)model, (void)threads;
#endif
}

extern "C" {

uint32_t pseg_version(void) { return FORMAT_VERSION; }

int pseg_open(const void* bytes, size_t length, pseg_model** model) {
    if (!model) return PSEG_BAD_ARGUMENT;
    *model = new (std::nothrow) pseg_model;
    if (!*model) return PSEG_NO_MEMORY;
    return guarded(*model, [&] {
        check(bytes != nullptr, "there are no bytes");
        (*model)->isa = chosen_isa();
        ModelFile file = read_model(static_cast<const uint8_t*>(bytes), length);
        (*model)->program = std::move(file.program);
        (*model)->operators = choose_kernels((*model)->program, file.hints, (*model)->isa);
        read_pipeline_of(**model, file.card);
        (*model)->open = true;
    });
}

int pseg_describe(const pseg_model* model, pseg_facts* facts) {
    if (!model || !facts || !model->open) return PSEG_BAD_ARGUMENT;
    const Program& program = model->program;
    *facts = {program.in_channels, program.out_channels, program.multiple, uint32_t(program.instructions.size())};
    return PSEG_OK;
}

const char* pseg_isa(const pseg_model* model) { return model && model->open ? isa_name(model->isa) : ""; }

const char* pseg_kernel(const pseg_model* model, uint32_t instruction) {
    if (!model || !model->open || instruction >= model->operators.size()) return "";
    const Kernel* kernel = model->operators[instruction].kernel;
    return kernel ? kernel->name : "";
}

const char* pseg_kernel_name(uint32_t number) {
    const Kernel* kernel = kernel_at(number);
    return kernel ? kernel->name : "";
}

int pseg_plan(pseg_model* model, uint32_t height, uint32_t width, uint32_t threads, size_t* arena_bytes) {
    if (!model) return PSEG_BAD_ARGUMENT;
    return guarded(model, [&] {
        check(model->open, "the model was not opened");
        check(arena_bytes != nullptr, "there is no place for the number of bytes");
        model->plan = {}, model->segment_plan = {};
        Plan plan = make_plan(model->program, model->operators, height, width, threads);
        make_pool(*model, threads);
        model->plan = std::move(plan);
        *arena_bytes = model->plan.arena_bytes;
    });
}

int pseg_run(pseg_model* model, const float* image, float* logits, void* arena, size_t arena_bytes) {
    if (!model) return PSEG_BAD_ARGUMENT;
    return guarded(model, [&] {
        check(model->plan.arena_bytes != 0, "pseg_plan comes first");
        check(image && logits && arena, "there is no image, no place for logits, or no arena");
        check(arena_bytes >= model->plan.arena_bytes, "the arena is smaller than pseg_plan said");
        make_pool(*model, model->plan.threads);
        run_net(*model, image, logits, aligned(arena));
    });
}

const char* pseg_error(const pseg_model* model) { return model ? model->error : "there is no model"; }

void pseg_close(pseg_model* model) { delete model; }

}  // extern "C"
