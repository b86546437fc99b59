/* One array in a small file, read as a section or as cutouts, compared with reading it pixel by pixel.
 *
 * Sources and destinations end, or begin, at an inaccessible page. */
#include <stdlib.h>
#include <string.h>

#include "_native/cutouts.h"
#include "_native/least.h"
#include "_native/section.h"
#include "common.h"
#include "reading.h"

#define MOST_AXES 5
#define MOST_WINDOWS 150
/* bytes of the array, where they are not to be so many */
#define MEDIUM ((int64_t)96 << 10)
#define SMALL ((int64_t)16 << 10)

typedef struct {
    int64_t length, pitch;      /* of the array; pitch in bytes */
    int64_t first, count, step; /* of the section */
} axis;

/* What is read, in both descriptions: ours, and the one that the kernels take. */
typedef struct {
    reading file;
    meaning meaning;
    int64_t width, wanted; /* bytes of a stored and of a wanted pixel */
    int axes;
    axis axis[MOST_AXES];
    int is_cutouts;
    int64_t corners[2 * MOST_WINDOWS];
    uint64_t fill;
    int64_t most; /* bytes of the array, and of what is read */

    tf_conversion conversion;
    tf_section section;
    tf_planes planes;
    tf_windows windows;

    int64_t elements;  /* of the destination */
    guarded to;
    uint8_t *expected;
} job;

/* ---------------------------------------------------------------------------- what to read */

/* Lengths of a few pixels; where it is said so, one axis is longer. */
static void choose_array(input *in, job *j)
{
    const int size = (int)take_within(in, 0, 63);
    int64_t room;
    j->axes = (int)take_within(in, 1, MOST_AXES);
    const int long_axis = j->axes - 1 - (int)take_within(in, 0, j->is_cutouts ? 1 : MOST_AXES - 1);
    j->most = size > 61 ? LARGE : size > 40 ? MEDIUM : SMALL;
    room = j->most / (j->wanted > j->width ? j->wanted : j->width);
    for (int i = 0; i < j->axes; i++) {
        const int64_t most = j->is_cutouts && i < j->axes - 2 ? 8 : 40;
        const int64_t length = i == long_axis ? take_within(in, 1, 1 << 20) : take_within(in, 1, most);
        j->axis[i].length = least(length, room);
        room /= j->axis[i].length;
    }
    int64_t pitch = j->width;
    for (int i = j->axes - 1; i >= 0; i--) {
        j->axis[i].pitch = pitch;
        pitch *= j->axis[i].length;
    }
    if (!j->is_cutouts && j->axes > 1) {
        /* parameters before each of the random groups */
        const int64_t parameters = least(take_within(in, 0, 5), j->most / (j->axis[0].length * j->width));
        j->axis[0].pitch += parameters * j->width;
        pitch += parameters * j->width * j->axis[0].length;
    }
    j->file.start = take_within(in, 0, 3 * 2880);
    /* the file ends with the array, and maybe with a page */
    if (take_within(in, 0, 1))
        j->file.start += (int64_t)(PAGE - (size_t)(j->file.start + pitch) % PAGE) % (int64_t)PAGE;
    j->file.size = j->file.start + pitch;
}

static void choose_section(input *in, job *j)
{
    tf_section_begin(&j->section, j->file.start, j->width);
    j->elements = 1;
    for (int i = 0; i < j->axes; i++) {
        axis *a = &j->axis[i];
        a->first = take_within(in, 0, 3) ? take_within(in, 0, a->length - 1) : 0;
        a->step = take_within(in, 0, 3) ? take_within(in, 1, a->length > 5000 ? 5000 : 5) : 1;
        const int64_t most = (a->length - a->first + a->step - 1) / a->step;
        a->count = take_within(in, 0, 3) ? most : take_within(in, 1, most);
        CHECK(tf_section_add(&j->section, a->first * a->pitch, a->count, a->step * a->pitch) == 0);
        j->elements *= a->count;
    }
    CHECK(tf_section_pixels(&j->section) == j->elements);
}

/* The first axes are planes; an image of one axis is a row. */
static void choose_windows(input *in, job *j)
{
    const int64_t columns = j->axis[j->axes - 1].length, rows = j->axes > 1 ? j->axis[j->axes - 2].length : 1;
    j->planes = (tf_planes){j->file.start, 1, rows, columns};
    for (int i = 0; i < j->axes - 2; i++)
        j->planes.planes *= j->axis[i].length;
    int64_t room = least(j->most, MEDIUM + j->most / 2) / j->wanted / j->planes.planes;
    if (room < 1)
        room = 1;
    j->windows.rows = least(take_within(in, 1, rows + 5), room);
    j->windows.columns = least(take_within(in, 1, columns + 5), room / j->windows.rows);
    j->windows.count = least(take_within(in, 0, MOST_WINDOWS), room / j->windows.rows / j->windows.columns);
    j->fill = take(in, 8);
    for (int64_t i = 0; i < 2 * j->windows.count; i++) {
        const int64_t length = i % 2 ? columns : rows, size = i % 2 ? j->windows.columns : j->windows.rows;
        const int where = (int)take_within(in, 0, 15);
        if (in->left == 0)
            j->corners[i] = (int64_t)(scramble((uint64_t)i) % (uint64_t)length);
        else if (where == 0)
            j->corners[i] = (int64_t)take(in, 8);
        else
            j->corners[i] = take_within(in, where < 5 ? -size - 1 : 0, where < 5 ? length + 1 : length - 1);
    }
    j->windows.corners = j->corners;
    j->windows.fill = &j->fill;
    j->elements = j->windows.count * j->planes.planes * j->windows.rows * j->windows.columns;
}

/* ---------------------------------------------------------------------------- the slow way */

/* The next element of what is expected: the pixel at `offset`. */
static void expect_pixel(job *j, int64_t *done, int64_t offset)
{
    slow_convert(&j->meaning, j->expected + (*done)++ * j->wanted, j->file.bytes + offset);
    if (offset + j->width > j->file.last_byte)
        j->file.last_byte = offset + j->width;
}

static void expect_section(job *j)
{
    int64_t at[MOST_AXES] = {0}, done = 0;
    while (done < j->elements) {
        int64_t offset = j->file.start;
        for (int i = 0; i < j->axes; i++)
            offset += (j->axis[i].first + at[i] * j->axis[i].step) * j->axis[i].pitch;
        expect_pixel(j, &done, offset);
        for (int i = j->axes - 1; i >= 0 && ++at[i] == j->axis[i].count; i--)
            at[i] = 0;
    }
}

static void expect_windows(job *j)
{
    const tf_planes *image = &j->planes;
    const tf_windows *w = &j->windows;
    int64_t done = 0;
    int outside = 0;
    for (int64_t i = 0; i < w->count; i++)
        for (int64_t plane = 0; plane < image->planes; plane++)
            for (int64_t y = 0; y < w->rows; y++)
                for (int64_t x = 0; x < w->columns; x++) {
                    const __int128 row = (__int128)w->corners[2 * i] + y, column = (__int128)w->corners[2 * i + 1] + x;
                    if (row >= 0 && row < image->rows && column >= 0 && column < image->columns) {
                        const int64_t pixel = (plane * image->rows + (int64_t)row) * image->columns + (int64_t)column;
                        expect_pixel(j, &done, image->start + pixel * j->width);
                    } else {
                        memcpy(j->expected + done++ * j->wanted, &j->fill, (size_t)j->wanted);
                        outside = 1;
                    }
                }
    CHECK(tf_windows_reach_outside(image, w) == outside);
}

/* ---------------------------------------------------------------------------- the kernels' way */

static tf_outcome read_it(void *argument, const tf_source *source, int threads)
{
    const job *j = argument;
    mark(&j->to);
    return j->is_cutouts
               ? tf_read_cutouts(source, &j->conversion, &j->planes, &j->windows, j->to.start, threads)
               : tf_read_section(source, &j->conversion, &j->section, j->to.start, threads);
}

static void check_it(const void *argument, int done)
{
    const job *j = argument;
    check_marks(&j->to);
    CHECK(!done || same_elements(&j->meaning, j->to.start, j->expected, (size_t)j->elements));
}

/* In the caller's thread, where nobody guards a mapping. */
static void read_alone(void *argument, const tf_source *source)
{
    const job *j = argument;
    if (j->is_cutouts || source->mapped)
        return;
    tf_reader *reader = malloc(sizeof *reader);
    CHECK(reader);
    mark(&j->to);
    tf_reader_begin(reader, source, &j->conversion);
    CHECK(tf_read_section_alone(reader, &j->section, j->to.start) == 0 && tf_read_waiting(reader) == 0);
    CHECK(reader->outcome.what == TF_DONE);
    check_it(j, 1);
    free(reader->buffer);
    free(reader);
}

/* ---------------------------------------------------------------------------- the file */

/* Words of the input, each many times and not in their order, so that one read from a wrong place is seen. */
static void write_pixels(input *in, const job *j, uint8_t *file)
{
    const int64_t words = (int64_t)in->left / j->width;
    const uint64_t seed = words > 0 ? 0 : take(in, 8);
    for (int64_t i = 0; i < j->file.start; i++)
        file[i] = (uint8_t)scramble((uint64_t)i);
    for (int64_t i = 0; i * j->width < j->file.size - j->file.start; i++) {
        const uint64_t chance = scramble((uint64_t)i + seed);
        const uint8_t *word = words > 0 ? in->at + (int64_t)(chance % (uint64_t)words) * j->width : (uint8_t *)&chance;
        memcpy(file + j->file.start + i * j->width, word, (size_t)j->width);
        if (chance >> 60 == 0)
            file[j->file.start + i * j->width] ^= (uint8_t)(chance >> 32);
    }
}

static void check_array(input *in, job *j)
{
    static arena memory_place, destination_place;
    const int at_end = (int)take_within(in, 0, 1), skip = (int)take_within(in, 0, 512);
    const int64_t cut = take_within(in, 0, 4);
    const guarded memory = guard(&memory_place, (size_t)j->file.size, 0, 1);

    j->to = guard(&destination_place, (size_t)(j->elements * j->wanted), (size_t)skip, at_end);
    write_pixels(in, j, memory.start);
    j->file.bytes = memory.start;
    j->file.is_large = j->most == LARGE;
    j->expected = malloc((size_t)(j->elements * j->wanted) + 1);
    CHECK(j->expected);
    if (j->is_cutouts) {
        expect_windows(j);
    } else {
        expect_section(j);
        CHECK(tf_section_end(&j->section, j->width) == j->file.last_byte);
    }
    check_reading(&j->file, cut);
    free(j->expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size};
    job j;
    memset(&j, 0, sizeof j);
    j.file = (reading){.may_be_warm = 1, .job = &j, .read = read_it, .check = check_it, .also = read_alone};
    j.is_cutouts = (int)take_within(&in, 0, 1);
    j.meaning = take_meaning(&in);
    j.conversion = conversion_for(&j.meaning);
    j.width = (int64_t)tf_width(j.conversion.stored);
    j.wanted = (int64_t)tf_width(j.meaning.wanted);
    choose_array(&in, &j);
    if (j.is_cutouts)
        choose_windows(&in, &j);
    else
        choose_section(&in, &j);
    check_array(&in, &j);
    return 0;
}
