// Many threads, each with a model of its own that has threads as well.
//
//     crowd THREADS TIMES FILE      prints the digest that all of them found, each time
#include <string>
#include <thread>

#include "file.h"
#include "once.h"

int main(int count, char** names) {
    if (count != 4) return 2;
    const std::vector<uint8_t> bytes = content_of(names[3]);
    const int times = std::atoi(names[2]);
    std::vector<std::string> found(size_t(std::atoi(names[1])));
    std::vector<std::thread> threads;
    for (std::string& mine : found)
        threads.emplace_back([&] {
            for (int i = 0; i < times; ++i) {
                pseg_model* model = nullptr;
                char digest[65] = "";
                if (!pseg_open(bytes.data(), bytes.size(), &model)) run_once(model, 16, 2, size_t(64) << 20, digest);
                pseg_close(model);
                if (i && mine != digest)
                    mine = "differs";
                else
                    mine = digest;
            }
        });
    for (std::thread& thread : threads) thread.join();
    for (const std::string& each : found)
        if (each != found[0] || each.size() != 64) return 1;
    std::puts(found[0].c_str());
    return 0;
}
