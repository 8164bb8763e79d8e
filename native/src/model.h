// What is behind pseg_model, and what the functions of the C interface share.
#pragma once

#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string_view>
#include <system_error>

#include "fault.h"
#include "kernels.h"
#include "pipeline/pipeline.h"
#include "pipeline/segment.h"
#include "reader.h"
#if defined(POCKETSEG_THREADS)
#include "pool.h"
#endif

struct pseg_model {
    ~pseg_model() { leave_pool(); }

    // The threads of another process are not there to be waited for: the few hundred bytes that were theirs are left
    // behind.
    void leave_pool() {
#if defined(POCKETSEG_THREADS)
        if (pool && !pool->is_of_this_process()) (void)pool.release();
        pool.reset();
#endif
    }

    pseg::Program program;      // what the file says
    pseg::Operators operators;  // what this machine chose for it
    pseg::Plan plan;
    pseg::Isa isa = pseg::Isa::scalar;
    bool open = false;
#if defined(POCKETSEG_THREADS)
    std::unique_ptr<pseg::Pool> pool;
    uint32_t pool_parts = 1;
#endif
    pseg::Pipeline pipeline;
    pseg::Fault pipeline_fault{PSEG_OK, "%s", ""};  // why there is none
    pseg::SegmentPlan segment_plan;
    pseg::Seen seen;
    char error[sizeof(pseg::Fault::text)] = "";
};

namespace pseg {

inline int report(pseg_model* model, int status, const char* text) {
    std::snprintf(model->error, sizeof model->error, "%s", text);
    return status;
}

// Runs a piece of work; what it throws becomes a code and a message.
template <class Work>
int guarded(pseg_model* model, Work work) {
    try {
        model->error[0] = 0;
        work();
        return PSEG_OK;
    } catch (const Fault& fault) {
        return report(model, fault.status, fault.text);
    } catch (const std::bad_alloc&) {
        return report(model, PSEG_NO_MEMORY, "there is not enough memory");
    } catch (const std::system_error&) {
        return report(model, PSEG_NO_MEMORY, "the threads cannot be started");
    } catch (const std::length_error&) {
        return report(model, PSEG_NO_MEMORY, "there is not enough memory");
    } catch (...) {
        return report(model, PSEG_DAMAGED, "an unknown fault");
    }
}

inline void check(bool good, const char* what) {
    if (!good) throw Fault(PSEG_BAD_ARGUMENT, "%s", what);
}

inline uint8_t* aligned(void* arena) {
    const size_t skip = (ALIGNMENT - reinterpret_cast<uintptr_t>(arena) % ALIGNMENT) % ALIGNMENT;
    return static_cast<uint8_t*>(arena) + skip;
}

// Runs the net as it is planned.
void run_net(pseg_model& model, const float* image, float* logits, uint8_t* arena);

// The threads that a plan needs; those that are there stay where their number does, and their process.
void make_pool(pseg_model& model, uint32_t threads);

// The pipeline of a card; a card without a valid one leaves a fault that functions of the pipeline tell.
void read_pipeline_of(pseg_model& model, std::string_view card);

}  // namespace pseg
