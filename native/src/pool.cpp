#include "pool.h"

#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace pseg {
namespace {

// Instructions of small nets take some ten microseconds, and a thread that sleeps as long to be woken: looking for some
// hundred microseconds costs less.
constexpr int LOOKS = 5000;

void rest() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

template <class Ready>
bool looked(Ready ready) {
    for (int i = 0; i < LOOKS; ++i, rest())
        if (ready()) return true;
    return false;
}

}  // namespace

long Pool::this_process() {
#if defined(_WIN32)
    return 0;  // nothing forks there
#else
    return long(getpid());
#endif
}

Pool::Pool(uint32_t parts) {
    threads_.reserve(parts);
    try {
        for (uint32_t part = 1; part < parts; ++part) threads_.emplace_back([this, part] { serve(part); });
    } catch (...) {
        stop();
        throw;
    }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopping_ = true;
        ++generation_;
    }
    begins_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void Pool::run(void (*work)(void*, uint32_t), void* context) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        work_ = work, context_ = context;
        left_ = uint32_t(threads_.size());
        ++generation_;
    }
    begins_.notify_all();
    work(context, 0);
    if (looked([&] { return left_ == 0; })) return;
    std::unique_lock<std::mutex> lock(mutex_);
    ends_.wait(lock, [&] { return left_ == 0; });
}

void Pool::serve(uint32_t part) {
    for (uint64_t seen = 0;;) {
        if (!looked([&] { return generation_ != seen; })) {
            std::unique_lock<std::mutex> lock(mutex_);
            begins_.wait(lock, [&] { return generation_ != seen; });
        }
        {
            // A run is over before the next one begins, so that what is read here is of this run.
            const std::lock_guard<std::mutex> lock(mutex_);
            seen = generation_;
            if (stopping_) return;
        }
        work_(context_, part);
        if (--left_ == 0) {
            const std::lock_guard<std::mutex> lock(mutex_);
            ends_.notify_one();
        }
    }
}

}  // namespace pseg
