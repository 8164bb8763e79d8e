/* The least that a Cortex-M7 needs before main: vectors, the floating-point unit, memory. */
#include <stdint.h>

extern uint32_t stack_top[];
int main(void);
void exit(int);
void initialise_monitor_handles(void);
void reset(void);
void go(void);

static void fault(void) {
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static const uintptr_t vectors[16] = {
    (uintptr_t)stack_top, (uintptr_t)reset, (uintptr_t)fault, (uintptr_t)fault,
    (uintptr_t)fault,     (uintptr_t)fault, (uintptr_t)fault,
};

void go(void) {
    initialise_monitor_handles();
    exit(main());
}

/* Copies .data, clears .bss, and fills the stack so that its depth can be seen. */
__attribute__((naked)) void reset(void) {
    __asm volatile(
        "ldr r0,=0xE000ED88\n ldr r1,[r0]\n orr r1,r1,#0xF00000\n str r1,[r0]\n dsb\n isb\n"
        "ldr r0,=data_start\n ldr r1,=data_end\n ldr r2,=data_load\n"
        "1: cmp r0,r1\n bhs 2f\n ldr r3,[r2],#4\n str r3,[r0],#4\n b 1b\n"
        "2: ldr r0,=bss_start\n ldr r1,=bss_end\n movs r3,#0\n"
        "3: cmp r0,r1\n bhs 4f\n str r3,[r0],#4\n b 3b\n"
        "4: ldr r0,=stack_low\n ldr r1,=stack_top\n ldr r3,=0xdeadbeef\n"
        "5: cmp r0,r1\n bhs 6f\n str r3,[r0],#4\n b 5b\n"
        "6: bl go\n b .\n");
}
