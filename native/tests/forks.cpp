// What a forked child does with its parent's models, which have threads there: runs, plans and closes them, and forks
// again.
//
//     forks FILE          prints the number of children that found what their parent had; any that waits is ended
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "file.h"
#include "once.h"

static std::string digest_of(pseg_model* model, uint32_t threads) {
    char digest[65] = "";
    const int status = run_once(model, 16, threads, size_t(64) << 20, digest);
    return status ? pseg_error(model) : digest;
}

static pseg_model* opened(const std::vector<uint8_t>& bytes) {
    pseg_model* model = nullptr;
    if (pseg_open(bytes.data(), bytes.size(), &model)) std::abort();
    return model;
}

template <class Work>
static int child(Work work) {
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        _exit(work() ? 0 : 1);
    }
    int status = 0;
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int count, char** names) {
    if (count != 2) return 2;
    const std::vector<uint8_t> bytes = content_of(names[1]);
    pseg_model *model = opened(bytes), *other = opened(bytes);
    const std::string wanted = digest_of(model, 3);
    if (digest_of(other, 2) != wanted) return 1;
    Planned planned(model, 16, 3, 1 << 26);
    int good = 0;
    for (int i = 0; i < 3; ++i) {
        good += child([&] { return planned.run() == wanted; });        // the plan of the parent
        good += child([&] { return digest_of(model, 3) == wanted; });  // planned again, as many threads
        good += child([&] { return digest_of(model, 5) == wanted; });  // another number of them
        good += child([&] { return digest_of(model, 1) == wanted; });  // none
        good += child([&] { return pseg_close(model), pseg_close(other), true; });
        good += child([&] {
            return planned.run() == wanted && (pseg_close(model), true) && digest_of(opened(bytes), 3) == wanted;
        });
        good += child([&] {
            return child([&] { return planned.run() == wanted; }) && planned.run() == wanted &&
                   child([&] { return planned.run() == wanted; });
        });
        if (planned.run() != wanted) return 1;  // and the parent goes on
    }
    std::printf("%d\n", good);
    pseg_close(model), pseg_close(other);
    return 0;
}
