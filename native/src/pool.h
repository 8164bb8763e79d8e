// A few threads that wait for work: parts of one instruction at a time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace pseg {

class Pool {
public:
    // Threads live in the process that made them: after a fork, the child has the pool's memory and none of its
    // threads. There it can neither be run nor be destroyed, which would wait for them for ever, and is to be
    // abandoned.
    bool is_of_this_process() const { return process_ == this_process(); }

    // The calling thread does part 0 of everything, `parts` − 1 threads the others.
    explicit Pool(uint32_t parts);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    // Calls work(context, part) for every part and returns when all are done. It must not throw.
    void run(void (*work)(void*, uint32_t), void* context);

private:
    static long this_process();
    void serve(uint32_t part);
    void stop();

    const long process_ = this_process();

    std::vector<std::thread> threads_;
    std::mutex mutex_;
    std::condition_variable begins_, ends_;
    std::atomic<uint64_t> generation_{0};
    std::atomic<uint32_t> left_{0};
    bool stopping_ = false;
    void (*work_)(void*, uint32_t) = nullptr;
    void* context_ = nullptr;
};

}  // namespace pseg
