/* Segments a gray image with a packed model, with nothing but the C library and libpocketseg.
 *
 *     segment_pgm model.pseg image.pgm mask.pgm
 *
 * The image is an 8-bit binary PGM (P5) of the size that the model was made for: this example does not resize. It takes
 * models of one channel and one class that are normalized by fixed numbers (`normalize.kind` unit-range or
 * train-mean-std), and refuses others. What it needs to know stands in the model's card. The mask is 255 where the
 * probability reaches the model's threshold; rules for connected components are left to `pocketseg predict`, which does
 * all of the pipeline.
 */
#include <math.h>
#include <pocketseg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *where, const char *what) {
    fprintf(stderr, "segment_pgm: %s: %s\n", where, what);
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

/* What the card (JSON, docs/format.md) says of the way from gray values to a mask. */
struct pipeline {
    char normalization[32];
    double mean, std, threshold, min_pixels, min_peak;
    unsigned height, width; /* 0 where the card does not say */
    int plain;              /* neither a window of intensities nor a pixel size is asked for */
};

/* What follows "key": in the text, brackets and quotes left out; NULL where there is no such key. */
static const char *after(const char *text, const char *key) {
    char quoted[40];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    text = text ? strstr(text, quoted) : NULL;
    return text ? text + strlen(quoted) + strspn(text + strlen(quoted), " [\"") : NULL;
}

static double number(const char *text, const char *key, double otherwise) {
    const char *found = after(text, key);
    return found ? strtod(found, NULL) : otherwise;
}

static int is_null(const char *text, const char *key) {
    const char *found = after(text, key);
    return !found || strncmp(found, "null", 4) == 0;
}

/* The bytes are those of a model that was opened: their lengths are right. */
static int read_card(const unsigned char *bytes, struct pipeline *out) {
    uint64_t length = 0;
    const char *pipeline, *kind;
    char *card;
    int i;
    for (i = 0; i < 8; ++i) length |= (uint64_t)bytes[24 + i] << 8 * i;
    if (!(card = malloc((size_t)length + 1))) return 1;
    memcpy(card, bytes + 80, (size_t)length);
    card[length] = 0;
    pipeline = after(card, "pipeline");
    kind = after(after(pipeline, "normalization"), "kind");
    if (!kind || sscanf(kind, "%31[^\"]", out->normalization) != 1) strcpy(out->normalization, "unit-range");
    out->mean = number(pipeline, "mean", 0);
    out->std = number(pipeline, "std", 1);
    out->threshold = number(pipeline, "threshold", 0.5);
    out->min_pixels = number(pipeline, "min_pixels", 0);
    out->min_peak = number(pipeline, "min_peak", 0);
    out->plain = is_null(pipeline, "intensity_range") && is_null(pipeline, "spacing_mm") &&
                 !after(pipeline, "paint_out_calipers") && !after(pipeline, "tta");
    out->height = out->width = 0;
    if (after(pipeline, "size")) sscanf(after(pipeline, "size"), "%u, %u", &out->height, &out->width);
    free(card);
    return 0;
}

/* Gray values of a P5 file with a maximum of 255, as numbers from 0 to 1. */
static float *read_pgm(const char *name, unsigned *height, unsigned *width) {
    FILE *file = fopen(name, "rb");
    unsigned most;
    size_t i, count;
    unsigned char *gray;
    float *image = NULL;
    if (!file) return NULL;
    if (fscanf(file, "P5 %u %u %u", width, height, &most) == 3 && most == 255 && fgetc(file) != EOF && *width > 0 &&
        *height > 0 && *width <= 32768 && *height <= 32768) {
        count = (size_t)*width * *height;
        gray = malloc(count);
        image = malloc(count * sizeof *image);
        if (gray && image && fread(gray, 1, count, file) == count) {
            for (i = 0; i < count; ++i) image[i] = (float)gray[i] / 255.0f;
        } else {
            free(image);
            image = NULL;
        }
        free(gray);
    }
    fclose(file);
    return image;
}

static int write_mask(const char *name, const float *logits, double least, unsigned height, unsigned width) {
    FILE *file = fopen(name, "wb");
    size_t i;
    if (!file) return 1;
    fprintf(file, "P5\n%u %u\n255\n", width, height);
    for (i = 0; i < (size_t)height * width; ++i) fputc(logits[i] >= least ? 255 : 0, file);
    return fclose(file) != 0;
}

int main(int count, char **names) {
    size_t i, length = 0, arena_bytes = 0;
    unsigned height = 0, width = 0;
    char what[120];
    pseg_model *model = NULL;
    pseg_facts facts;
    struct pipeline pipeline;
    void *bytes, *arena;
    float *image, *logits;
    if (count != 4) return fail("usage", "segment_pgm model.pseg image.pgm mask.pgm");
    if (!(bytes = read_file(names[1], &length))) return fail(names[1], "cannot be read");
    if (!(image = read_pgm(names[2], &height, &width))) return fail(names[2], "cannot be read as an 8-bit P5 file");
    if (pseg_open(bytes, length, &model)) return fail(names[1], pseg_error(model));
    pseg_describe(model, &facts);
    if (facts.in_channels != 1 || facts.out_channels != 1) return fail(names[1], "has several channels or classes");
    if (read_card(bytes, &pipeline)) return fail(names[1], "there is not enough memory");
    free(bytes);
    if (!pipeline.plain ||
        (strcmp(pipeline.normalization, "unit-range") && strcmp(pipeline.normalization, "train-mean-std")))
        return fail(names[1], "prepares images in a way that this example lacks: use pocketseg predict");
    if (pipeline.height && (pipeline.height != height || pipeline.width != width)) {
        snprintf(what, sizeof what, "has %ux%u pixels, the model is made for %ux%u", height, width, pipeline.height,
                 pipeline.width);
        return fail(names[2], what);
    }
    if (pipeline.min_pixels > 0 || pipeline.min_peak > 0)
        fprintf(stderr, "segment_pgm: %s: its rules for connected components are not applied here\n", names[1]);
    if (!strcmp(pipeline.normalization, "train-mean-std"))
        for (i = 0; i < (size_t)height * width; ++i) image[i] = (image[i] - (float)pipeline.mean) / (float)pipeline.std;
    if (pseg_plan(model, height, width, 1, &arena_bytes)) return fail(names[2], pseg_error(model));
    arena = malloc(arena_bytes);
    logits = malloc((size_t)height * width * sizeof *logits);
    if (!arena || !logits) return fail(names[2], "there is not enough memory");
    if (pseg_run(model, image, logits, arena, arena_bytes)) return fail(names[2], pseg_error(model));
    if (write_mask(names[3], logits, log(pipeline.threshold / (1 - pipeline.threshold)), height, width))
        return fail(names[3], "cannot be written");
    pseg_close(model);
    free(arena);
    free(logits);
    free(image);
    return 0;
}
