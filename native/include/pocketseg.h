/* The engine of pocketseg: runs a packed model (model.pseg) from memory.
 *
 *     pseg_model *model;
 *     size_t arena_bytes;
 *     if (pseg_open(bytes, length, &model) || pseg_plan(model, 256, 256, 1, &arena_bytes))
 *         fail(pseg_error(model));
 *     void *arena = malloc(arena_bytes);
 *     if (pseg_run(model, image, logits, arena, arena_bytes)) fail(pseg_error(model));
 *     pseg_close(model);
 *
 * The library reads no file and keeps no global state. Threads, if more than one is asked for, live from pseg_plan
 * until the model is closed or planned with another number, and belong to their process: after a fork, the child may
 * use and close the models of its parent, and its first pseg_run or pseg_plan of each starts threads of its own. What
 * was being opened, planned or closed by another thread at that moment is lost to the child; what was run needs nothing
 * but another run.
 *
 * Functions never throw. A model may be used by one thread at a time; different models are independent. POCKETSEG_ISA
 * forces the kernels of an instruction set, where they are there; it is read by pseg_open. Opening and planning take a
 * time in proportion to the bytes of the file, whatever it says.
 */
#ifndef POCKETSEG_H
#define POCKETSEG_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define PSEG_API __declspec(dllexport)
#else
#define PSEG_API __attribute__((visibility("default")))
#endif

/* What functions return; 0 is success. */
enum pseg_status {
    PSEG_OK = 0,
    PSEG_NOT_A_MODEL = 1,  /* the bytes are not a packed model */
    PSEG_TOO_NEW = 2,      /* written by a newer version */
    PSEG_DAMAGED = 3,      /* truncated, altered, or inconsistent */
    PSEG_TOO_LARGE = 4,    /* above a limit of this library or of this machine's addresses */
    PSEG_BAD_ARGUMENT = 5, /* a size, a pointer, a number of threads, an arena, or POCKETSEG_ISA */
    PSEG_NO_MEMORY = 6,    /* of the machine, or no more threads */
    PSEG_NOT_FINITE = 7    /* nan or inf in the image, or where a tensor becomes codes */
};

typedef struct pseg_model pseg_model;

/* What a model takes and gives. */
typedef struct pseg_facts {
    uint32_t in_channels;  /* planes of the image */
    uint32_t out_channels; /* planes of logits */
    uint32_t multiple;     /* height and width of the image are multiples of it */
    uint32_t instructions;
} pseg_facts;

/* The newest version of the file format that this library reads; it reads all before it. */
PSEG_API uint32_t pseg_version(void);

/* Reads a model; the bytes may be freed afterwards. On failure *model is still set (unless there was no memory for it,
 * then it is NULL), tells the reason through pseg_error, and must be closed. */
PSEG_API int pseg_open(const void *bytes, size_t length, pseg_model **model);

PSEG_API int pseg_describe(const pseg_model *model, pseg_facts *facts);

/* The instruction set whose kernels were chosen; "" for a model that failed to open. */
PSEG_API const char *pseg_isa(const pseg_model *model);

/* The kernel that runs an instruction, such as "avx512/convolution_codes"; "" for one that is done inside of its
 * neighbor, and for one that is not there. */
PSEG_API const char *pseg_kernel(const pseg_model *model, uint32_t instruction);

/* Names of the kernels that a file may ask for, those for other machines too, from 0 on; "" behind the last. */
PSEG_API const char *pseg_kernel_name(uint32_t number);

/* Prepares for images of height × width and tells how many bytes pseg_run needs. */
PSEG_API int pseg_plan(pseg_model *model, uint32_t height, uint32_t width, uint32_t threads, size_t *arena_bytes);

/* Computes logits (out_channels × height × width) of one image (in_channels × height × width), both f32, row by row and
 * plane by plane. Nothing is allocated (but threads, by the first run after a fork): all work happens in the arena, of
 * which exactly arena_bytes are used, whose content and alignment do not matter. Results do not depend on the number of
 * threads. */
PSEG_API int pseg_run(pseg_model *model, const float *image, float *logits, void *arena, size_t arena_bytes);

/* Why the last call on this model failed; "" if none did. Valid until the next call on it. */
PSEG_API const char *pseg_error(const pseg_model *model);

PSEG_API void pseg_close(pseg_model *model);

#ifdef __cplusplus
}
#endif
#endif
