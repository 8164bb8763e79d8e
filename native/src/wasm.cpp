// What a WebAssembly module has in place of exceptions, of which its library knows nothing: what is thrown is kept, and
// the instance stops. Its memory can still be read, and whoever runs it asks what was thrown, and starts another.
#include <cstdlib>
#include <new>
#include <typeinfo>

#include "fault.h"

namespace {

pseg::Fault kept{PSEG_OK, ""};
alignas(16) char thrown[sizeof(pseg::Fault) + 64];

void* memory_of(size_t bytes) {
    void* found = std::malloc(bytes ? bytes : 1);
    if (found) return found;
    kept = pseg::Fault(PSEG_NO_MEMORY, "there is not enough memory");
    __builtin_trap();
}

}  // namespace

extern "C" {

// The status of what stopped the instance, PSEG_OK where that was nothing of the library's; and its text.
__attribute__((visibility("default"))) int pseg_fault_status(void) { return kept.status; }
__attribute__((visibility("default"))) const char* pseg_fault_text(void) { return kept.text; }

void* __cxa_allocate_exception(size_t) noexcept { return thrown; }
void __cxa_free_exception(void*) noexcept {}
[[noreturn]] void __cxa_throw(void* what, std::type_info* type, void (*)(void*)) {
    const bool own = *type == typeid(pseg::Fault);
    // The others are bad_alloc and length_error.
    kept = own ? *static_cast<pseg::Fault*>(what) : pseg::Fault(PSEG_NO_MEMORY, "there is not enough memory");
    __builtin_trap();
}
// Behind a throw, where nothing comes.
void* __cxa_begin_catch(void*) noexcept { __builtin_trap(); }
void __cxa_end_catch() { __builtin_trap(); }

}  // extern "C"

void* operator new(size_t bytes) { return memory_of(bytes); }
void* operator new[](size_t bytes) { return memory_of(bytes); }
void operator delete(void* at) noexcept { std::free(at); }
void operator delete[](void* at) noexcept { std::free(at); }
void operator delete(void* at, size_t) noexcept { std::free(at); }
void operator delete[](void* at, size_t) noexcept { std::free(at); }
