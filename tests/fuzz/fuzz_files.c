/* A few small files, each of them several times, through tf_read_stack, tf_read_cards and tf_gather_rows, and each by
 * itself through tf_read_alone.
 *
 * The input is parameters and then lines, which become cards; see put_file. A file counts as done just where a slow
 * walk through its bytes says so, and what it gave is what that walk finds. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "_native/files.h"
#include "common.h"

#define MOST_FILES 4
#define MOST_PATHS 24 /* from 16 on there are threads */
#define MOST_DATA ((int64_t)24 << 10)
#define MOST_FIELDS 4
#define MOST_BYTES ((int64_t)1 << 20) /* of a destination */

typedef struct {
    text bytes;
    int fd;
    char path[40];
} file;

typedef struct {
    int files, paths, threads;
    file file[MOST_FILES];
    const char *path[MOST_PATHS];
    tf_which which;
} world;

/* The file that a path of the list leads to. */
static const text *bytes_of(const world *w, int64_t i)
{
    return &w->file[i % w->files].bytes;
}

/* ---------------------------------------------------------------------------- the files */

/* Lines up to '|'. '@' and a number stand for so many bytes of data and the padding behind them, '#' for data without
 * padding; any other line is a card. */
static void put_file(text *to, input *in)
{
    while (in->left > 0 && to->size < 65536) {
        if (*in->at != '@' && *in->at != '#' && *in->at != '|') {
            put_card(to, in);
            continue;
        }
        const int what = (int)take(in, 1);
        int64_t n = 0;
        while (in->left > 0) {
            const int digit = (int)take(in, 1);
            if (digit == '\n')
                break;
            if (digit >= '0' && digit <= '9' && n <= MOST_DATA)
                n = 10 * n + digit - '0';
        }
        if (what == '|')
            return;
        for (int64_t i = 0; i < n && i < MOST_DATA; i++) {
            const uint8_t byte = (uint8_t)scramble(to->size + (uint64_t)i);
            put(to, &byte, 1);
        }
        while (what == '@' && to->size % TF_BLOCK)
            put(to, "", 1);
    }
}

static void make_files(world *w, input *in)
{
    w->files = 0;
    do {
        file *f = &w->file[w->files++];
        put_file(&f->bytes, in);
        f->fd = memfd_create("fuzz_files", MFD_CLOEXEC);
        CHECK(f->fd >= 0);
        CHECK(f->bytes.size == 0 || write(f->fd, f->bytes.bytes, f->bytes.size) == (ssize_t)f->bytes.size);
        snprintf(f->path, sizeof f->path, "/proc/self/fd/%d", f->fd);
    } while (w->files < MOST_FILES && in->left > 0);
    for (int i = 0; i < w->paths; i++)
        w->path[i] = w->file[i % w->files].path;
}

static void remove_files(world *w)
{
    for (int i = 0; i < w->files; i++) {
        close(w->file[i].fd);
        free(w->file[i].bytes.bytes);
    }
}

/* ---------------------------------------------------------------------------- a slow walk */

/* Where an HDU is, in memory. */
typedef struct {
    const uint8_t *header;
    tf_header h;
    int64_t data; /* where its data begin */
} hdu;

static int is_wanted(const tf_which *which, int64_t index, const tf_header *h)
{
    if (which->index >= 0)
        return index == which->index;
    if (!which->name)
        return h->data_bytes > 0;
    if (h->name_length != which->name_length || (!which->any_version && h->version != which->version))
        return 0;
    for (int i = 0; i < h->name_length; i++) {
        const char c = h->name[i];
        if ((c >= 'a' && c <= 'z' ? c - 32 : c) != which->name[i])
            return 0;
    }
    return 1;
}

/* 0 where the file does not have it, or some header before it is not ordinary. */
static int find_hdu(const text *bytes, const tf_which *which, hdu *found)
{
    int64_t start = 0;
    for (int64_t i = 0; start < (int64_t)bytes->size; i++) {
        const uint8_t *header = bytes->bytes + start;
        const size_t left = bytes->size - (size_t)start;
        if (tf_scan_header(header, left, i == 0, &found->h) != TF_SCAN_OK || found->h.header_bytes > (int64_t)left)
            return 0;
        found->header = header;
        found->data = start + found->h.header_bytes;
        if (is_wanted(which, i, &found->h))
            return 1;
        start = found->data + (found->h.data_bytes + TF_BLOCK - 1) / TF_BLOCK * TF_BLOCK;
    }
    return 0;
}

static int has_all_data(const text *bytes, const hdu *found)
{
    return found->data + found->h.data_bytes <= (int64_t)bytes->size;
}

static void choose_hdu(input *in, tf_which *which)
{
    static const char *const names[] = {"SCI", "", NULL};
    const int choice = (int)take_within(in, 0, 7), version = (int)take_within(in, 0, 3);
    memset(which, 0, sizeof *which);
    which->index = choice < 4 ? choice : choice == 4 ? 1000000 : -1;
    which->name = names[choice > 4 ? choice - 5 : 0];
    which->name_length = which->name ? (int)strlen(which->name) : 0;
    which->any_version = version == 0;
    which->version = version;
}

static tf_files list_of(const world *w, uint8_t *done)
{
    memset(done, 0x55, (size_t)w->paths);
    return (tf_files){w->paths, w->path, w->which, done};
}

/* ---------------------------------------------------------------------------- images */

typedef struct {
    int64_t first, step, count, pitch;
} axis;

/* Element by element; 0 where the file's image is not one for this stack. */
static int expect_image(const text *bytes, const tf_which *which, const tf_stack *s, const axis *axes, uint8_t *to)
{
    hdu found;
    int64_t at[TF_SCAN_AXES] = {0};
    const int64_t pixels = tf_section_pixels(&s->section);
    if (!find_hdu(bytes, which, &found))
        return 0;
    const meaning m = {found.h.bitpix, found.h.scale, found.h.zero, found.h.has_blank, found.h.blank, s->wanted};
    if (found.h.kind != TF_HDU_IMAGE || found.h.bitpix != s->bitpix || found.h.naxis != s->naxis)
        return 0;
    for (int i = 0; i < s->naxis; i++)
        if (found.h.axes[i] != s->axes[i])
            return 0;
    if ((natural_type(&m) != s->values && !s->any_values) || !has_all_data(bytes, &found))
        return 0;
    /* integers of the other sign have no BLANK that counts here */
    if (conversion_for(&m).has_blank && !is_real_type(m.wanted))
        return 0;
    for (int64_t done = 0; done < pixels; done++) {
        int64_t offset = found.data;
        for (int i = 0; i < s->naxis; i++)
            offset += (axes[i].first + at[i] * axes[i].step) * axes[i].pitch;
        slow_convert(&m, to + done * (int64_t)tf_width(m.wanted), bytes->bytes + offset);
        for (int i = s->naxis - 1; i >= 0 && ++at[i] == axes[i].count; i--)
            at[i] = 0;
    }
    return 1;
}

static void check_stack(const world *w, input *in)
{
    static arena place;
    hdu like;
    axis axes[TF_SCAN_AXES];
    uint8_t done[MOST_PATHS];
    tf_stack s;
    memset(&s, 0, sizeof s);
    if (!find_hdu(bytes_of(w, take_within(in, 0, w->files - 1)), &w->which, &like) || like.h.naxis == 0)
        return;
    const meaning m = {like.h.bitpix, like.h.scale, like.h.zero, like.h.has_blank, like.h.blank, TF_F64};
    const int64_t width = abs(like.h.bitpix) / 8;
    s.bitpix = like.h.bitpix;
    s.naxis = like.h.naxis;
    s.axes = like.h.axes;
    s.values = natural_type(&m);
    s.wanted = take_within(in, 0, 3) ? (tf_type)take_within(in, 0, TF_TYPES - 1) : s.values;
    s.any_values = (int)take_within(in, 0, 1);

    int64_t room = MOST_BYTES / w->paths / 8, pitch = width;
    tf_section_begin(&s.section, 0, width);
    for (int i = s.naxis - 1; i >= 0; i--) {
        axis *a = &axes[i];
        const int64_t length = s.axes[s.naxis - 1 - i]; /* the last axis is NAXIS1 */
        if (length == 0 || __builtin_mul_overflow(pitch, length, &a->pitch))
            return;
        const int64_t near = length < 65536 ? length : 65536;
        a->first = take_within(in, 0, 1) ? take_within(in, 0, near - 1) : 0;
        a->step = take_within(in, 0, 1) ? take_within(in, 1, 3) : 1;
        a->count = (length - a->first + a->step - 1) / a->step;
        if (a->count > room)
            a->count = room;
        room /= a->count;
        a->pitch = pitch;
        pitch *= length;
    }
    for (int i = 0; i < s.naxis; i++)
        CHECK(tf_section_add(&s.section, axes[i].first * axes[i].pitch, axes[i].count,
                             axes[i].step * axes[i].pitch) == 0);

    const size_t size = (size_t)tf_section_pixels(&s.section) * tf_width(s.wanted);
    const guarded to = guard(&place, (size_t)w->paths * size, 0, 1);
    uint8_t *expected = malloc(size);
    CHECK(expected);
    mark(&to);
    s.to = to.start;
    const tf_files list = list_of(w, done);
    tf_read_stack(&list, &s, w->threads);
    check_marks(&to);
    const meaning any = {like.h.bitpix, 2, 0, 0, 0, s.wanted}; /* NaNs are as good as each other */
    for (int64_t i = 0; i < w->paths; i++) {
        const int good = expect_image(bytes_of(w, i), &w->which, &s, axes, expected);
        CHECK(done[i] == good);
        if (good)
            CHECK(same_elements(&any, to.start + (size_t)i * size, expected, size / tf_width(s.wanted)));
    }
    free(expected);
}

/* Each file by itself. */
static void check_alone(const world *w)
{
    static arena place;
    for (int i = 0; i < w->files; i++) {
        const text *bytes = bytes_of(w, i);
        hdu found;
        tf_alone alone;
        meaning m;
        const int good = find_hdu(bytes, &w->which, &found) && found.h.kind == TF_HDU_IMAGE && found.h.data_bytes > 0 &&
                         found.h.data_bytes < TF_SMALL_JOB && has_all_data(bytes, &found);
        for (int closed = 1; closed >= 0; closed--) {
            CHECK((tf_open_alone(&alone, w->file[i].path, &w->which) == 0) == good);
            if (good && closed)
                tf_close_alone(&alone);
        }
        if (!good)
            continue;
        m = (meaning){found.h.bitpix, found.h.scale, found.h.zero, found.h.has_blank, found.h.blank, TF_F64};
        m.wanted = natural_type(&m);
        const int64_t stored = abs(m.bitpix) / 8, wanted = (int64_t)tf_width(m.wanted), n = found.h.data_bytes / stored;
        const guarded to = guard(&place, (size_t)(n * wanted), 0, 1);
        mark(&to);
        CHECK(tf_read_alone(&alone, to.start) == TF_FILE_DONE);
        check_marks(&to);
        for (int64_t k = 0; k < n; k++) {
            uint8_t element[8];
            slow_convert(&m, element, bytes->bytes + found.data + k * stored);
            CHECK(same_elements(&m, to.start + k * wanted, element, 1));
        }
    }
}

/* ---------------------------------------------------------------------------- keywords */

static int is_end(const uint8_t *card)
{
    return memcmp(card, "END     ", 8) == 0;
}

/* The first card of a keyword, END included; NULL where there is none. */
static const uint8_t *find_card(const uint8_t *at, const char *keyword)
{
    while (memcmp(at, keyword, 8) != 0 && !is_end(at))
        at += TF_CARD;
    return memcmp(at, keyword, 8) == 0 ? at : NULL;
}

static void check_cards(const world *w)
{
    static const char names[] = "BITPIX  EXTNAME NAXIS1  HIERARCHEND     NOTTHERE";
    enum { KEYWORDS = sizeof names / 8 };
    static arena place;
    uint8_t done[MOST_PATHS];
    const guarded cards = guard(&place, (size_t)w->paths * KEYWORDS * TF_CARD, 0, 1);
    mark(&cards);
    const tf_files list = list_of(w, done);
    tf_read_cards(&list, KEYWORDS, (const uint8_t *)names, cards.start, w->threads);
    check_marks(&cards);
    for (int64_t i = 0; i < w->paths; i++) {
        hdu found;
        const uint8_t *card[KEYWORDS] = {0};
        int good = find_hdu(bytes_of(w, i), &w->which, &found) && !found.h.compressed;
        if (good && found.h.kind == TF_HDU_BINTABLE && find_card(found.header, "ZTABLE  "))
            good = 0; /* what stands there is not the header of the plain table */
        for (int k = 0; good && k < KEYWORDS; k++) {
            const uint8_t *end = found.header + found.h.header_bytes;
            card[k] = find_card(found.header, names + 8 * k);
            if (card[k] && card[k] + TF_CARD < end && memcmp(card[k] + TF_CARD, "CONTINUE", 8) == 0)
                good = 0;
        }
        CHECK(done[i] == good);
        for (int k = 0; good && k < KEYWORDS; k++) {
            const uint8_t *got = cards.start + (i * KEYWORDS + k) * TF_CARD;
            CHECK(card[k] ? memcmp(got, card[k], TF_CARD) == 0 : got[0] == 0);
        }
    }
}

/* ---------------------------------------------------------------------------- rows of tables */

static int lays_out(const uint8_t *card)
{
    static const char *const prefixes[] = {"TFIEL", "TFORM", "TTYPE", "TSCAL", "TZERO", "TNULL", "TDIM", "ZTABLE  "};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (memcmp(card, prefixes[i], strlen(prefixes[i])) == 0)
            return 1;
    return 0;
}

/* The cards of a header that lay a table out, one after the other. */
static text layout_of(const uint8_t *header)
{
    text cards = {0};
    for (; !is_end(header); header += TF_CARD)
        if (lays_out(header))
            put(&cards, header, TF_CARD);
    return cards;
}

/* What the standard asks of one (FITS standard 4.0, section 7.3.1), as far as it matters where the rows are. */
static int is_table(const tf_header *h)
{
    return h->kind == TF_HDU_BINTABLE && h->bitpix == 8 && h->naxis == 2 && h->gcount == 1;
}

static int is_same_layout(const uint8_t *a, const uint8_t *b)
{
    text x = layout_of(a), y = layout_of(b);
    const int same = x.size == y.size && (x.size == 0 || memcmp(x.bytes, y.bytes, x.size) == 0);
    free(x.bytes);
    free(y.bytes);
    return same;
}

typedef struct {
    tf_field field;
    meaning meaning;
    guarded to;
} column;

static void choose_column(input *in, column *c, arena *place, int64_t row_bytes, int64_t places)
{
    static const int bitpix[] = {8, 16, 32, 64, -32, -64};
    memset(&c->field, 0, sizeof c->field);
    c->meaning = (meaning){bitpix[take_within(in, 0, 5)], 1, 0, 0, 0, TF_U8};
    const int64_t width = abs(c->meaning.bitpix) / 8;
    if (width > row_bytes)
        c->meaning.bitpix = 8;
    c->meaning.wanted = take_within(in, 0, 1) ? (tf_type)take_within(in, 0, TF_TYPES - 1) : natural_type(&c->meaning);
    c->field.conversion = conversion_for(&c->meaning);
    const int64_t stored = (int64_t)tf_width(c->field.conversion.stored);
    const int64_t room = row_bytes / stored < 64 ? row_bytes / stored : 64;
    c->field.count = take_within(in, 0, room);
    c->field.offset = take_within(in, 0, row_bytes - c->field.count * stored);
    c->to = guard(place, (size_t)(places * c->field.count) * tf_width(c->meaning.wanted), 0, 1);
    c->field.to = c->to.start;
    mark(&c->to);
}

static void check_rows(const world *w, input *in)
{
    static arena place[MOST_FIELDS];
    enum { ROWS = 3 };
    column columns[MOST_FIELDS];
    tf_field fields[MOST_FIELDS];
    int64_t first[MOST_PATHS + 1] = {0}, rows[MOST_PATHS * ROWS], places[MOST_PATHS * ROWS];
    uint8_t done[MOST_PATHS];
    hdu like;

    if (!find_hdu(bytes_of(w, take_within(in, 0, w->files - 1)), &w->which, &like) || !is_table(&like.h) ||
        like.h.axes[0] < 1 || like.h.axes[0] > MOST_DATA)
        return;
    for (int i = 0; i < w->paths; i++)
        first[i + 1] = first[i] + take_within(in, 0, ROWS);
    const int64_t asked = first[w->paths];
    for (int64_t k = 0; k < asked; k++) {
        rows[k] = take_within(in, -3, 3);
        places[k] = asked - 1 - k; /* no two threads write to one place */
    }
    tf_gathering g = {like.header,
                      (size_t)like.h.header_bytes,
                      like.h.axes[0],
                      (int)take_within(in, 0, MOST_FIELDS),
                      fields,
                      first,
                      rows,
                      places};
    for (int k = 0; k < g.fields; k++) {
        choose_column(in, &columns[k], &place[k], g.row_bytes, asked);
        fields[k] = columns[k].field;
    }
    const tf_files list = list_of(w, done);
    tf_gather_rows(&list, &g, w->threads);

    for (int64_t i = 0; i < w->paths; i++) {
        hdu found;
        const text *bytes = bytes_of(w, i);
        int good = find_hdu(bytes, &w->which, &found) && is_table(&found.h) && found.h.axes[0] == g.row_bytes &&
                   is_same_layout(like.header, found.header) && has_all_data(bytes, &found);
        for (int64_t k = first[i]; good && k < first[i + 1]; k++)
            good = rows[k] < 0 ? rows[k] + found.h.axes[1] >= 0 : rows[k] < found.h.axes[1];
        CHECK(done[i] == good);
        for (int64_t k = first[i]; good && k < first[i + 1]; k++) {
            const int64_t row = rows[k] < 0 ? rows[k] + found.h.axes[1] : rows[k];
            CHECK((row + 1) * g.row_bytes <= found.h.data_bytes);
            for (int c = 0; c < g.fields; c++) {
                const int64_t count = fields[c].count, stored = (int64_t)tf_width(fields[c].conversion.stored);
                for (int64_t n = 0; n < count; n++) {
                    uint8_t element[8];
                    const size_t wanted = tf_width(columns[c].meaning.wanted);
                    slow_convert(&columns[c].meaning, element,
                                 bytes->bytes + found.data + row * g.row_bytes + fields[c].offset + n * stored);
                    CHECK(same_elements(&columns[c].meaning,
                                        fields[c].to + (size_t)(places[k] * count + n) * wanted, element, 1));
                }
            }
        }
    }
    for (int k = 0; k < g.fields; k++)
        check_marks(&columns[k].to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    world w;
    input in = {data, size < 40 ? size : 40}, lines = {data + in.left, size - in.left};
    memset(&w, 0, sizeof w);
    choose_hdu(&in, &w.which);
    w.threads = (int)take_within(&in, 1, 3);
    w.paths = (int)(take_within(&in, 0, 3) ? take_within(&in, 1, 6) : take_within(&in, 0, MOST_PATHS));
    make_files(&w, &lines);
    check_cards(&w);
    check_alone(&w);
    if (w.paths > 0) {
        check_stack(&w, &in);
        check_rows(&w, &in);
    }
    remove_files(&w);
    return 0;
}
