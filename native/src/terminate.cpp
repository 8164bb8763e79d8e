// What std::terminate() calls where libstdc++ is linked in. Its own handler prints the name of the exception, and
// brings 52 KiB to make names readable; no exception leaves this library (pocketseg.cpp), so that there is nothing to
// print.
#include <cstdlib>

namespace __gnu_cxx {
__attribute__((visibility("hidden"))) void __verbose_terminate_handler() { std::abort(); }
}  // namespace __gnu_cxx
