/* Whether a Cortex-M7 computes what the engine computed, what stack it took, and how many instructions (`-icount
   shift=0`: an instruction takes a nanosecond, a tick of the board's timer 40). */
#include <stdio.h>

#include "small.h"

static uint8_t image[SMALL_IMAGE_BYTES], mask[SMALL_MASK_BYTES];
extern uint32_t stack_low[], stack_top[];

int main(void) {
    volatile uint32_t *timer = (volatile uint32_t *)0x40000000; /* control, value, reload */
    const uint32_t *deepest = stack_low;
    uint32_t before, after;
    int failed, i, found = 0;
    timer[2] = timer[1] = 0xffffffffu;
    timer[0] = 1;
    failed = small_check(image, mask);
    before = timer[1];
    failed |= small_segment(image, mask);
    after = timer[1];
    for (i = 0; i < SMALL_MASK_BYTES; ++i) found += mask[i];
    while (*deepest == 0xdeadbeefu) ++deepest;
    printf("%d %d %d %lu\n", failed, found, (int)((stack_top - deepest) * 4), (unsigned long)(before - after) * 40);
    return failed;
}
