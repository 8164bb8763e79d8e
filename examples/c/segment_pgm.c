/* Segments a grey image with a packed model, with nothing but the C library and libpocketseg.
 *
 *     segment_pgm model.pseg image.pgm mask.pgm
 *
 * The image is an 8-bit binary PGM (P5) that already has the size the model was made for: this example does not resize.
 * It takes a model of one channel and one class whose normalisation is unit-range, that is 0 … 255 becomes 0 … 1;
 * `pocketseg predict` does all of the pipeline. The mask is 255 where the logit is at least 0, that is probability 0.5.
 */
#include <pocketseg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what) {
    fprintf(stderr, "segment_pgm: %s\n", what);
    return 1;
}

static void *read_file(const char *name, size_t *length) {
    FILE *file = fopen(name, "rb");
    char *bytes = NULL;
    long size;
    if (!file) return NULL;
    if (fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) > 0 && fseek(file, 0, SEEK_SET) == 0) {
        bytes = malloc((size_t)size);
        if (bytes && fread(bytes, 1, (size_t)size, file) != (size_t)size) {
            free(bytes);
            bytes = NULL;
        }
        *length = (size_t)size;
    }
    fclose(file);
    return bytes;
}

/* Grey values of a P5 file with a maximum of 255, as numbers from 0 to 1. */
static float *read_pgm(const char *name, unsigned *height, unsigned *width) {
    FILE *file = fopen(name, "rb");
    unsigned most;
    size_t i, count;
    unsigned char *grey;
    float *image = NULL;
    if (!file) return NULL;
    if (fscanf(file, "P5 %u %u %u", width, height, &most) == 3 && most == 255 && fgetc(file) != EOF && *width > 0 &&
        *height > 0 && *width <= 32768 && *height <= 32768) {
        count = (size_t)*width * *height;
        grey = malloc(count);
        image = malloc(count * sizeof *image);
        if (grey && image && fread(grey, 1, count, file) == count) {
            for (i = 0; i < count; ++i) image[i] = (float)grey[i] / 255.0f;
        } else {
            free(image);
            image = NULL;
        }
        free(grey);
    }
    fclose(file);
    return image;
}

static int write_mask(const char *name, const float *logits, unsigned height, unsigned width) {
    FILE *file = fopen(name, "wb");
    size_t i;
    if (!file) return 1;
    fprintf(file, "P5\n%u %u\n255\n", width, height);
    for (i = 0; i < (size_t)height * width; ++i) fputc(logits[i] >= 0 ? 255 : 0, file);
    return fclose(file) != 0;
}

int main(int count, char **names) {
    size_t length = 0, arena_bytes = 0;
    unsigned height = 0, width = 0;
    pseg_model *model = NULL;
    pseg_facts facts;
    void *bytes, *arena;
    float *image, *logits;
    if (count != 4) return fail("give model.pseg, image.pgm and the mask to write");
    if (!(bytes = read_file(names[1], &length))) return fail("the model cannot be read");
    if (!(image = read_pgm(names[2], &height, &width))) return fail("the image cannot be read as an 8-bit P5 file");
    if (pseg_open(bytes, length, &model)) return fail(pseg_error(model));
    free(bytes);
    pseg_describe(model, &facts);
    if (facts.in_channels != 1 || facts.out_channels != 1) return fail("the model has several channels or classes");
    if (pseg_plan(model, height, width, 1, &arena_bytes)) return fail(pseg_error(model));
    arena = malloc(arena_bytes);
    logits = malloc((size_t)height * width * sizeof *logits);
    if (!arena || !logits) return fail("there is not enough memory");
    if (pseg_run(model, image, logits, arena, arena_bytes)) return fail(pseg_error(model));
    if (write_mask(names[3], logits, height, width)) return fail("the mask cannot be written");
    pseg_close(model);
    free(arena);
    free(logits);
    free(image);
    return 0;
}
