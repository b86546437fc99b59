#define _GNU_SOURCE
#include "files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "least.h"

/* small files are read whole at once */
#define WHOLE_FILE ((size_t)16384)
/* a longer header is left to others */
#define LONGEST_HEADER ((size_t)1 << 22)
/* fewer files are not worth a thread */
#define FILES_PER_THREAD 8

int tf_head_fetch(tf_head *head, int64_t start, size_t ask)
{
    if (ask > head->capacity) {
        uint8_t *more = realloc(head->bytes, ask);
        if (!more) {
            errno = ENOMEM;
            return -1;
        }
        head->bytes = more;
        head->capacity = ask;
    }
    head->at = start;
    head->have = 0;
    while (head->have < ask) {
        const ssize_t got =
            pread(head->fd, head->bytes + head->have, ask - head->have, start + (int64_t)head->have);
        if (got > 0)
            head->have += (size_t)got;
        else if (got == 0 || errno != EINTR)
            return got == 0 ? 0 : -1;
    }
    return 0;
}

const uint8_t *tf_head_bytes(const tf_head *head, int64_t start)
{
    return head->bytes + (start - head->at);
}

void tf_head_free(tf_head *head)
{
    free(head->bytes);
    head->bytes = NULL;
    head->capacity = head->have = 0;
}

tf_place tf_scan_at(tf_head *head, int64_t start, int primary, size_t ask, tf_header *header)
{
    for (;;) {
        const int64_t end = head->at + (int64_t)head->have;
        const size_t have = start >= head->at && start < end ? (size_t)(end - start) : 0;
        if (have > 0) {
            const tf_scan_result found = tf_scan_header(tf_head_bytes(head, start), have, primary, header);
            if (found == TF_SCAN_OK && (size_t)header->header_bytes <= have)
                return TF_AT_HDU;
            if (found == TF_SCAN_ODD || have >= LONGEST_HEADER)
                return TF_AT_ODD;
            if (head->at == start && have < ask)
                return TF_AT_ODD; /* the file ends within its header */
        } else if (head->at == start && head->have == 0 && head->bytes) {
            return TF_AT_END;
        }
        if (have >= ask)
            ask = 4 * have;
        if (tf_head_fetch(head, start, ask) != 0) {
            head->at = -1; /* nothing is known: no end either */
            return TF_AT_TROUBLE;
        }
    }
}

int tf_is_named(const tf_header *header, const tf_which *which)
{
    if (header->name_length != which->name_length || !(which->any_version || header->version == which->version))
        return 0;
    for (int i = 0; i < which->name_length; i++) {
        const char c = header->name[i];
        if ((c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c) != which->name[i])
            return 0;
    }
    return 1;
}

static int is_wanted(const tf_header *header, int64_t index, const tf_which *which)
{
    if (which->index >= 0)
        return index == which->index;
    return which->name ? tf_is_named(header, which) : header->data_bytes > 0;
}

/* Opens a file and goes to its HDU: where that starts, or -1 where it could not be found here. */
static int64_t go_to(tf_head *head, const char *path, const tf_which *which, size_t ask, tf_header *header)
{
    int64_t start = 0;
    tf_file_kind kind;
    head->at = -1;
    head->have = 0;
    head->fd = tf_open(path);
    if (head->fd < 0 || tf_identify(head->fd, &head->identity, &kind) != 0 || kind != TF_REGULAR)
        return -1;
    for (int64_t i = 0; tf_scan_at(head, start, i == 0, i == 0 ? ask : TF_FIRST_READ, header) == TF_AT_HDU; i++) {
        if (is_wanted(header, i, which))
            return start;
        start += header->header_bytes + (header->data_bytes + TF_BLOCK - 1) / TF_BLOCK * TF_BLOCK;
    }
    return -1;
}

/* Lets go of the file, of which `result` says whether all went well. */
static uint8_t finish(tf_head *head, int result)
{
    tf_done done = result == 0 ? TF_FILE_DONE : TF_NOT_DONE;
    if (done == TF_FILE_DONE && tf_change_of(head->fd, &head->identity) != TF_UNCHANGED)
        done = TF_FILE_CHANGED;
    if (head->fd >= 0)
        close(head->fd);
    head->fd = -1;
    return (uint8_t)done;
}

typedef struct {
    const tf_files *files;
    const tf_stack *stack;
    const tf_gathering *gathering;
    int keywords;
    const uint8_t *names;
    uint8_t *cards;
    tf_pieces pieces;
} files_job;

static int has_real_elements(tf_type type)
{
    return type == TF_F16 || type == TF_BF16 || type == TF_F32 || type == TF_F64;
}

/* How the pixels of this file become those of the stack; -1 where they are of another kind. */
static int agree(const tf_stack *stack, const tf_header *header, tf_conversion *c)
{
    if (header->kind != TF_HDU_IMAGE || header->bitpix != stack->bitpix || header->naxis != stack->naxis ||
        memcmp(header->axes, stack->axes, (size_t)stack->naxis * sizeof *stack->axes) != 0)
        return -1;
    if (tf_conversion_of(c, header->bitpix, header->scale, header->zero, header->has_blank, header->blank) != 0)
        return -1;
    if ((c->values != stack->values && !stack->any_values) || (c->has_blank && !has_real_elements(stack->wanted)))
        return -1;
    c->wanted = stack->wanted;
    return 0;
}

static int read_one(tf_head *head, tf_reader *reader, const files_job *job, int64_t i, size_t *ask)
{
    const tf_stack *stack = job->stack;
    tf_header header;
    tf_conversion conversion;
    const int64_t start = go_to(head, job->files->paths[i], &job->files->which, *ask, &header);
    if (start < 0 || agree(stack, &header, &conversion) != 0)
        return -1;
    tf_section section = stack->section;
    section.start += start + header.header_bytes;
    const int64_t width = (int64_t)tf_width(conversion.stored), end = tf_section_end(&section, width);
    const int64_t total = start + header.header_bytes + header.data_bytes;
    tf_source source = {head->fd, NULL, total, 0, 0};
    uint8_t *to = stack->to + i * tf_section_pixels(&section) * (int64_t)tf_width(conversion.wanted);

    *ask = total <= (int64_t)WHOLE_FILE && total > (int64_t)TF_FIRST_READ ? (size_t)total : TF_FIRST_READ;
    if (section.start >= head->at && end <= head->at + (int64_t)head->have) {
        /* the pixels came with the header */
        source = (tf_source){-1, head->bytes, (int64_t)head->have, 0, 0};
        section.start -= head->at;
    }
    if (end < total && total > head->at + (int64_t)head->have) {
        /* all the data must be there, whatever the section needs */
        uint8_t last;
        tf_outcome outcome;
        if (tf_pread(head->fd, &last, 1, total - 1, &outcome) != 0)
            return -1;
    }
    reader->source = &source;
    reader->conversion = &conversion;
    reader->waiting = 0;
    reader->outcome.what = TF_DONE;
    return tf_read_section_alone(reader, &section, to) != 0 ? -1 : tf_read_waiting(reader);
}

static void stack_files(void *argument)
{
    files_job *job = argument;
    tf_head head = TF_NO_HEAD;
    tf_reader *reader = malloc(sizeof *reader);
    size_t ask = TF_FIRST_READ;
    if (reader) {
        int64_t i;
        tf_reader_begin(reader, NULL, NULL);
        while ((i = tf_next_piece(&job->pieces)) >= 0) {
            job->files->done[i] = finish(&head, read_one(&head, reader, job, i, &ask));
        }
        free(reader->buffer);
    }
    free(reader);
    tf_head_free(&head);
}

int tf_open_alone(tf_alone *alone, const char *path, const tf_which *which)
{
    const tf_header *h = &alone->header;
    alone->head = TF_NO_HEAD;
    const int64_t start = go_to(&alone->head, path, which, TF_FIRST_READ, &alone->header);
    if (start >= 0 && h->kind == TF_HDU_IMAGE && h->data_bytes > 0 && h->data_bytes < TF_SMALL_JOB &&
        start + h->header_bytes + h->data_bytes <= alone->head.identity.size &&
        tf_conversion_of(&alone->conversion, h->bitpix, h->scale, h->zero, h->has_blank, h->blank) == 0) {
        alone->start = start + h->header_bytes;
        return 0;
    }
    tf_close_alone(alone);
    return -1;
}

void tf_close_alone(tf_alone *alone)
{
    finish(&alone->head, -1);
    tf_head_free(&alone->head);
}

/* Exactly n bytes from where the pixels begin. */
static int read_pixels(const tf_alone *alone, uint8_t *to, int64_t n)
{
    const tf_head *head = &alone->head;
    tf_outcome outcome;
    const int64_t there = least(n, greatest(head->at + (int64_t)head->have - alone->start, 0));
    if (there > 0)
        memcpy(to, tf_head_bytes(head, alone->start), (size_t)there);
    return tf_pread(head->fd, to + there, (size_t)(n - there), alone->start + there, &outcome);
}

tf_done tf_read_alone(tf_alone *alone, void *to)
{
    const tf_conversion *c = &alone->conversion;
    const int64_t size = alone->header.data_bytes;
    const size_t width = tf_width(c->stored), n = (size_t)size / width;
    void *stored = tf_is_swap(c) ? to : malloc((size_t)size);
    const int result = stored ? read_pixels(alone, stored, size) : -1;
    if (result == 0 && stored == to)
        tf_swap_in_place(c, to, n);
    else if (result == 0)
        tf_convert(c, to, stored, width, n);
    if (stored != to)
        free(stored);
    /* a file that changed need not end where it did */
    const tf_done done = (tf_done)finish(&alone->head, 0);
    tf_head_free(&alone->head);
    return done == TF_FILE_DONE && result != 0 ? TF_NOT_DONE : done;
}

static int is_continued(const uint8_t *card, const uint8_t *end)
{
    return card + 2 * TF_CARD <= end && memcmp(card + TF_CARD, "CONTINUE", 8) == 0;
}

static int read_cards_of_one(tf_head *head, const files_job *job, int64_t i)
{
    tf_header header;
    const int64_t start = go_to(head, job->files->paths[i], &job->files->which, TF_FIRST_READ, &header);
    if (start < 0 || header.compressed)
        return -1;
    const uint8_t *bytes = tf_head_bytes(head, start);
    if (header.kind == TF_HDU_BINTABLE && tf_find_card(bytes, (size_t)header.header_bytes, (const uint8_t *)"ZTABLE  "))
        return -1; /* the header of another table */
    uint8_t *cards = job->cards + i * job->keywords * TF_CARD;
    for (int k = 0; k < job->keywords; k++) {
        const uint8_t *card = tf_find_card(bytes, (size_t)header.header_bytes, job->names + 8 * k);
        if (card && is_continued(card, bytes + header.header_bytes))
            return -1;
        if (card)
            memcpy(cards + k * TF_CARD, card, TF_CARD);
        else
            cards[k * TF_CARD] = 0;
    }
    return 0;
}

static void cards_of_files(void *argument)
{
    files_job *job = argument;
    tf_head head = TF_NO_HEAD;
    int64_t i;
    while ((i = tf_next_piece(&job->pieces)) >= 0) {
        job->files->done[i] = finish(&head, read_cards_of_one(&head, job, i));
    }
    tf_head_free(&head);
}

/* ---------------------------------------------------------------------------- rows of tables */

/* Whether a card says how the rows of a table are laid out. */
static int lays_out(const uint8_t *card)
{
    static const char names[][6] = {"TFIEL", "TFORM", "TTYPE", "TSCAL", "TZERO", "TNULL"};
    if (card[0] == 'Z')
        return memcmp(card, "ZTABLE  ", 8) == 0;
    if (card[0] != 'T')
        return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (memcmp(card, names[i], 5) == 0)
            return 1;
    return memcmp(card, "TDIM", 4) == 0;
}

/* The next card that lays out a table, from `at`; NULL at the END. */
static const uint8_t *next_layout_card(const uint8_t *at, const uint8_t *end)
{
    for (; at < end && memcmp(at, "END     ", 8) != 0; at += TF_CARD)
        if (lays_out(at))
            return at;
    return NULL;
}

static int is_same_table(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes)
{
    const uint8_t *a_end = a + a_bytes, *b_end = b + b_bytes;
    for (;;) {
        a = next_layout_card(a, a_end);
        b = next_layout_card(b, b_end);
        if (!a || !b)
            return a == b;
        if (memcmp(a, b, TF_CARD) != 0)
            return 0;
        a += TF_CARD;
        b += TF_CARD;
    }
}

static int gather_one(tf_head *head, uint8_t *row, const files_job *job, int64_t i)
{
    const tf_gathering *g = job->gathering;
    tf_header header;
    tf_outcome outcome;
    const int64_t start = go_to(head, job->files->paths[i], &job->files->which, TF_FIRST_READ, &header);
    if (start < 0 || header.kind != TF_HDU_BINTABLE || header.bitpix != 8 || header.naxis != 2 ||
        header.gcount != 1 || header.axes[0] != g->row_bytes ||
        !is_same_table(g->header, g->header_bytes, tf_head_bytes(head, start), (size_t)header.header_bytes))
        return -1;
    const int64_t data = start + header.header_bytes, end = data + header.data_bytes;
    if (end > head->at + (int64_t)head->have && tf_pread(head->fd, row, 1, end - 1, &outcome) != 0)
        return -1; /* all the data must be there */
    for (int64_t k = g->first[i]; k < g->first[i + 1]; k++) {
        const int64_t asked = g->rows[k], at = asked < 0 ? asked + header.axes[1] : asked;
        if (at < 0 || at >= header.axes[1])
            return -1;
        const int64_t offset = data + at * g->row_bytes;
        if (offset >= head->at && offset + g->row_bytes <= head->at + (int64_t)head->have)
            tf_put_row(tf_head_bytes(head, offset), g->field, g->fields, g->places[k]);
        else if (tf_pread(head->fd, row, (size_t)g->row_bytes, offset, &outcome) == 0)
            tf_put_row(row, g->field, g->fields, g->places[k]);
        else
            return -1;
    }
    return 0;
}

static void gather_from_files(void *argument)
{
    files_job *job = argument;
    tf_head head = TF_NO_HEAD;
    uint8_t *row = malloc((size_t)job->gathering->row_bytes);
    int64_t i;
    while (row && (i = tf_next_piece(&job->pieces)) >= 0) {
        job->files->done[i] = finish(&head, gather_one(&head, row, job, i));
    }
    free(row);
    tf_head_free(&head);
}

static int useful_threads(int64_t files, int threads)
{
    const int64_t most = files / FILES_PER_THREAD;
    return most < threads ? (int)most : threads;
}

void tf_read_stack(const tf_files *files, const tf_stack *stack, int threads)
{
    files_job job = {.files = files, .stack = stack, .pieces = {0, files->count}};
    tf_parallel(stack_files, &job, useful_threads(files->count, threads));
}

void tf_read_cards(const tf_files *files, int keywords, const uint8_t *names, uint8_t *cards, int threads)
{
    files_job job = {
        .files = files, .keywords = keywords, .names = names, .cards = cards, .pieces = {0, files->count}};
    tf_parallel(cards_of_files, &job, useful_threads(files->count, threads));
}

void tf_gather_rows(const tf_files *files, const tf_gathering *gathering, int threads)
{
    files_job job = {.files = files, .gathering = gathering, .pieces = {0, files->count}};
    tf_parallel(gather_from_files, &job, useful_threads(files->count, threads));
}
