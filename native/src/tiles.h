// Whether matrix tiles (AMX) can be used: by the processor, and by this process.
#pragma once

namespace pseg {

// Asks Linux for the 8 KiB of state that a thread's tiles take, for all threads; it may be asked again.
bool tiles_are_granted();

}  // namespace pseg
