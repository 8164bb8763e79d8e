// Errors inside the library; the C interface turns them into codes and messages.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <stdexcept>

#include "pocketseg.h"

namespace pseg {

struct Fault {
    int status;
    char text[160];

    __attribute__((format(printf, 3, 4))) Fault(int status, const char* form, ...) : status(status), text{} {
        va_list values;
        va_start(values, form);
        std::vsnprintf(text, sizeof text, form, values);
        va_end(values);
    }
};

}  // namespace pseg
