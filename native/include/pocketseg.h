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

#if defined(_WIN32) && defined(POCKETSEG_BUILDS_DLL)
#define PSEG_API __declspec(dllexport)
#elif defined(_WIN32)
#define PSEG_API
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
    PSEG_NOT_FINITE = 7,   /* nan or inf in the image, or where a tensor becomes codes */
    PSEG_UNSUPPORTED = 8,  /* the model's pipeline asks for what pseg_segment does not do; the text names the key */
    PSEG_BAD_IMAGE = 9,    /* an image that the model's pipeline has no rule for */
    PSEG_CANCELLED = 10    /* the callback of pseg_segment asked for it */
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

/* ---- From an image to a mask ----
 *
 * The whole pipeline of a model, as its card (docs/format.md) says it: intensities, channels, normalization, fit,
 * tiles, mirror images, probabilities, threshold, rules for components. The NumPy pipeline of the Python package is its
 * specification, and masks are equal to it byte for byte.
 *
 *     pseg_image image = {pixels, PSEG_U8, height, width, 1, 0, {0, 0}};
 *     if (pseg_plan_segment(model, &image, 1, &arena_bytes)) fail(pseg_error(model));
 *     void *arena = malloc(arena_bytes);
 *     if (pseg_segment(model, &image, mask, NULL, NULL, NULL, arena, arena_bytes)) fail(pseg_error(model));
 */

/* The newest version of the functions below; 1 is the first. Later versions only add functions. */
PSEG_API uint32_t pseg_pipeline_version(void);

/* Types of pixels. */
enum pseg_type { PSEG_U8 = 0, PSEG_U16 = 1, PSEG_I16 = 2, PSEG_F32 = 3 };

/* Pixels row by row without gaps, in this machine's byte order, aligned as their type is. */
typedef struct pseg_image {
    const void *pixels;
    uint32_t type;                    /* pseg_type */
    uint32_t height, width, channels; /* 1 to 16 channels */
    uint32_t planar;                  /* 0: the channels of a pixel lie side by side; 1: plane by plane */
    double spacing_mm[2];             /* size of a pixel, of rows and of columns; 0, 0: not known */
} pseg_image;

/* What the pipeline of a model is for. */
typedef struct pseg_pipeline_facts {
    uint32_t height, width; /* of what the net sees */
    uint32_t channels;      /* of an image as the net sees it */
    uint32_t classes;       /* besides the background; a mask holds 0 to classes */
    uint32_t runs;          /* of the net for an image, or for a tile of it */
    uint32_t tiles;         /* 1: images of any size are covered by tiles of height × width */
    double spacing_mm[2];   /* pixel size that the model works at and that images need; 0, 0: none */
} pseg_pipeline_facts;

/* PSEG_UNSUPPORTED where the card asks for what is not done here, PSEG_DAMAGED where it holds no valid pipeline; the
 * functions above do not mind. */
PSEG_API int pseg_describe_pipeline(pseg_model *model, pseg_pipeline_facts *facts);

/* The name of a class, from 1 on, in UTF-8; "" of one that is not there. */
PSEG_API const char *pseg_class_name(const pseg_model *model, uint32_t index);

/* Takes another pipeline than the card's, from the same JSON (UTF-8): another threshold, mirror images. */
PSEG_API int pseg_use_pipeline(pseg_model *model, const char *json, size_t length);

/* Prepares for images of the size, type and pixel size of this one, whose pixels are not looked at and may be NULL, and
 * tells how many bytes pseg_segment needs. It takes the place of pseg_plan: one of the two is in force. */
PSEG_API int pseg_plan_segment(pseg_model *model, const pseg_image *image, uint32_t threads, size_t *arena_bytes);

/* Called before each run of the net, and once at the end with done == of; what is not 0 ends the work. */
typedef int (*pseg_progress)(void *context, uint32_t done, uint32_t of);

/* Segments an image as pseg_plan_segment was given it. `mask` gets height × width class indices. `probabilities` may be
 * NULL; else it gets height × width × classes f32 from 0 to 1, the classes of a pixel side by side. `progress` may be
 * NULL. Nothing is allocated, as in pseg_run. Results do not depend on threads, ISA or byte addresses; after a failure
 * both results are undefined. */
PSEG_API int pseg_segment(pseg_model *model, const pseg_image *image, uint8_t *mask, float *probabilities,
                          pseg_progress progress, void *context, void *arena, size_t arena_bytes);

/* Between which intensities (0 and 1 are the full scale) nearly all of the last image lay that was segmented, its 0.5th
 * and 99.5th percentile; and whether it was colored, by more than a faint cast. What the model was trained on stands in
 * its card. */
PSEG_API int pseg_seen(const pseg_model *model, float bounds[2], uint32_t *colored);

/* Why the last call on this model failed; "" if none did. Valid until the next call on it. */
PSEG_API const char *pseg_error(const pseg_model *model);

PSEG_API void pseg_close(pseg_model *model);

#ifdef __cplusplus
}
#endif
#endif
