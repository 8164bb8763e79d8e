/* Segments an image with a packed model, with nothing but the C library and libpocketseg.
 *
 *     segment_pgm model.pseg image.pgm mask.pgm [MM_OF_A_ROW MM_OF_A_COLUMN]
 *
 * The image is a binary PGM or PPM (P5, P6) of any size, of 8 or 16 bits. Everything between it and the mask is done by
 * the library, as `pocketseg predict` does it. Models that work at a pixel size of their own need the image's. The mask
 * is 255 where the model has one class, else the number of the class.
 */
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

/* The next number of the header; 0 where there is none. Comments run from # to the end of their line. */
static unsigned header_number(FILE *file) {
    unsigned number = 0;
    int c = fgetc(file);
    while (c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '#') {
        if (c == '#')
            while (c != '\n' && c != EOF) c = fgetc(file);
        c = fgetc(file);
    }
    for (; c >= '0' && c <= '9' && number < 100000000; c = fgetc(file)) number = 10 * number + (unsigned)(c - '0');
    return number;
}

/* The pixels of a P5 or P6 file, which the caller frees; NULL where it is none. */
static void *read_image(const char *name, pseg_image *image) {
    FILE *file = fopen(name, "rb");
    unsigned char *bytes = NULL;
    unsigned most;
    size_t count, i;
    int kind;
    if (!file) return NULL;
    if (fgetc(file) != 'P' || ((kind = fgetc(file)) != '5' && kind != '6')) goto end;
    image->channels = kind == '6' ? 3 : 1;
    image->width = header_number(file);
    image->height = header_number(file);
    most = header_number(file);
    if (!image->width || !image->height || (most != 255 && most != 65535)) goto end;
    image->type = most == 255 ? PSEG_U8 : PSEG_U16;
    count = (size_t)image->width * image->height;
    if (count > ((size_t)1 << 30)) goto end;
    count *= image->channels * (most == 255 ? 1u : 2u);
    bytes = malloc(count);
    if (bytes && fread(bytes, 1, count, file) != count) {
        free(bytes);
        bytes = NULL;
    }
    if (bytes && most == 65535) /* the file's byte order is not every machine's */
        for (i = 0; i < count; i += 2) {
            const uint16_t value = (uint16_t)(bytes[i] << 8 | bytes[i + 1]);
            memcpy(bytes + i, &value, 2);
        }
end:
    fclose(file);
    image->pixels = bytes;
    return bytes;
}

static int write_mask(const char *name, const uint8_t *mask, unsigned scale, uint32_t height, uint32_t width) {
    FILE *file = fopen(name, "wb");
    size_t i;
    if (!file) return 1;
    fprintf(file, "P5\n%u %u\n255\n", (unsigned)width, (unsigned)height);
    for (i = 0; i < (size_t)height * width; ++i) fputc((int)(mask[i] * scale), file);
    i = (size_t)ferror(file);
    return fclose(file) != 0 || i;
}

int main(int count, char **names) {
    size_t length = 0, arena_bytes = 0;
    pseg_model *model = NULL;
    pseg_pipeline_facts facts;
    pseg_image image = {NULL, PSEG_U8, 0, 0, 1, 0, {0, 0}};
    void *bytes, *pixels, *arena;
    uint8_t *mask;
    if (count != 4 && count != 6) return fail("usage", "segment_pgm model.pseg image.pgm mask.pgm [ROW_MM COLUMN_MM]");
    if (count == 6) {
        image.spacing_mm[0] = strtod(names[4], NULL);
        image.spacing_mm[1] = strtod(names[5], NULL);
    }
    if (!(bytes = read_file(names[1], &length))) return fail(names[1], "cannot be read");
    if (!(pixels = read_image(names[2], &image)))
        return fail(names[2], "cannot be read as a P5 or P6 file of 8 or 16 bits");
    if (pseg_open(bytes, length, &model)) return fail(names[1], pseg_error(model));
    free(bytes);
    if (pseg_describe_pipeline(model, &facts)) return fail(names[1], pseg_error(model));
    if (pseg_plan_segment(model, &image, 1, &arena_bytes)) return fail(names[2], pseg_error(model));
    arena = malloc(arena_bytes);
    mask = malloc((size_t)image.height * image.width);
    if (!arena || !mask) return fail(names[2], "there is not enough memory");
    if (pseg_segment(model, &image, mask, NULL, NULL, NULL, arena, arena_bytes))
        return fail(names[2], pseg_error(model));
    if (write_mask(names[3], mask, facts.classes == 1 ? 255 : 1, image.height, image.width))
        return fail(names[3], "cannot be written");
    pseg_close(model);
    free(arena);
    free(mask);
    free(pixels);
    return 0;
}
