// The C interface of the pipeline.
#include "../model.h"
#include "intensity.h"

namespace {

using namespace pseg;

constexpr uint32_t PIPELINE_VERSION = 1;

void check_pipeline(const pseg_model& model) {
    check(model.open, "the model was not opened");
    if (model.pipeline_fault.status) throw model.pipeline_fault;
}

// Whether memory that was planned for one image is right for another.
bool alike(const pseg_image& a, const pseg_image& b) {
    return a.type == b.type && a.height == b.height && a.width == b.width && a.channels == b.channels &&
           a.planar == b.planar && a.spacing_mm[0] == b.spacing_mm[0] && a.spacing_mm[1] == b.spacing_mm[1];
}

struct Caller {
    pseg_model& model;
    pseg_progress progress;
    void* context;
};

void run(void* context, const float* input, float* logits, uint8_t* scratch) {
    run_net(static_cast<Caller*>(context)->model, input, logits, scratch);
}

void tell(void* context, uint32_t done, uint32_t of) {
    const Caller& caller = *static_cast<Caller*>(context);
    if (caller.progress && caller.progress(caller.context, done, of)) throw Fault(PSEG_CANCELLED, "it was cancelled");
}

}  // namespace

void pseg::read_pipeline_of(pseg_model& model, std::string_view card) {
    try {
        std::optional<Pipeline> found = read_card(card.data(), card.size(), model.program);
        if (found)
            model.pipeline = std::move(*found);
        else
            model.pipeline_fault = Fault(PSEG_DAMAGED, "the card holds no pipeline");
    } catch (const Fault& fault) {
        model.pipeline_fault = fault;
    }
}

extern "C" {

uint32_t pseg_pipeline_version(void) { return PIPELINE_VERSION; }

int pseg_describe_pipeline(pseg_model* model, pseg_pipeline_facts* facts) {
    if (!model) return PSEG_BAD_ARGUMENT;
    return guarded(model, [&] {
        check_pipeline(*model);
        check(facts != nullptr, "there is no place for the facts");
        const Pipeline& it = model->pipeline;
        *facts = {it.height,
                  it.width,
                  it.channels,
                  uint32_t(it.classes.size()),
                  it.runs(),
                  it.fit == Fit::tile,
                  {it.spacing[0], it.spacing[1]}};
    });
}

const char* pseg_class_name(const pseg_model* model, uint32_t index) {
    if (!model || !model->open || model->pipeline_fault.status || !index || index > model->pipeline.classes.size())
        return "";
    return model->pipeline.classes[index - 1].c_str();
}

int pseg_use_pipeline(pseg_model* model, const char* json, size_t length) {
    if (!model) return PSEG_BAD_ARGUMENT;
    return guarded(model, [&] {
        check(model->open, "the model was not opened");
        check(json != nullptr, "there is no text");
        model->segment_plan = {};
        model->pipeline = read_pipeline(json, length, model->program);
        model->pipeline_fault.status = PSEG_OK;
    });
}

int pseg_plan_segment(pseg_model* model, const pseg_image* image, uint32_t threads, size_t* arena_bytes) {
    if (!model) return PSEG_BAD_ARGUMENT;
    return guarded(model, [&] {
        check_pipeline(*model);
        check(image && arena_bytes, "there is no image, or no place for the number of bytes");
        const Pipeline& pipeline = model->pipeline;
        model->plan = {}, model->segment_plan = {};
        Plan plan = make_plan(model->program, model->operators, pipeline.net_height(), pipeline.net_width(), threads);
        SegmentPlan segment_plan = plan_segment(pipeline, *image, plan.arena_bytes);
        make_pool(*model, threads);
        model->plan = std::move(plan), model->segment_plan = segment_plan;
        *arena_bytes = size_t(segment_plan.arena_bytes);
    });
}

int pseg_segment(pseg_model* model, const pseg_image* image, uint8_t* mask, float* probabilities,
                 pseg_progress progress, void* context, void* arena, size_t arena_bytes) {
    if (!model) return PSEG_BAD_ARGUMENT;
    return guarded(model, [&] {
        check_pipeline(*model);
        check(model->segment_plan.arena_bytes != 0, "pseg_plan_segment comes first");
        check(image && image->pixels && mask && arena, "there is no image, no place for a mask, or no arena");
        check(alike(*image, model->segment_plan.image), "the image is not like the one that was planned for");
        check(arena_bytes >= model->segment_plan.arena_bytes, "the arena is smaller than pseg_plan_segment said");
        check(reinterpret_cast<uintptr_t>(image->pixels) % bytes_of_pixel(image->type) == 0,
              "the pixels are not aligned as their type is");
        make_pool(*model, model->plan.threads);
        Caller caller{*model, progress, context};
        const Outside outside{&caller, run, tell};
        model->seen =
            segment(model->pipeline, model->segment_plan, *image, mask, probabilities, outside, aligned(arena));
    });
}

int pseg_seen(const pseg_model* model, float bounds[2], uint32_t* colored) {
    if (!model || !bounds || !colored) return PSEG_BAD_ARGUMENT;
    bounds[0] = model->seen.bounds[0], bounds[1] = model->seen.bounds[1], *colored = model->seen.colored;
    return PSEG_OK;
}

}  // extern "C"
