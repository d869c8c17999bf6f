// Counts lines, words and bytes of input that the host hands out in pieces. A word is a run of
// bytes that are not ASCII white space: what `wc` counts in UTF-8 text. (`wc` on binary files, or
// in the C locale, also leaves out words without a printable character.)

#include <stdbool.h>
#include <stdint.h>

#define IMPORT(name) __attribute__((import_module("env"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

enum { CHUNK = 16 * 1024 };

// Copies up to `len` bytes of input from `offset` on to `to`; gives the count, 0 at the end.
IMPORT("read") int32_t host_read(uint8_t *to, int32_t len, uint32_t offset);
IMPORT("write") void host_write(const char *from, int32_t len);

typedef struct {
    uint32_t lines, words, bytes;
    bool in_word;
} counts;

static uint8_t chunk[CHUNK];

static bool is_space(uint8_t byte) {
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static void count(counts *total, int32_t len) {
    for (int32_t i = 0; i < len; i++) {
        bool in_word = !is_space(chunk[i]);
        total->lines += chunk[i] == '\n';
        total->words += in_word > total->in_word;  // true where a word begins
        total->in_word = in_word;
    }
    total->bytes += (uint32_t)len;
}

static char *put_number(char *at, uint32_t number, char after) {
    char digits[10];
    int32_t len = 0;
    do {
        digits[len++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (len > 0) *at++ = digits[--len];
    *at++ = after;
    return at;
}

static void write_line(const counts *total) {
    char line[3 * 11];  // three numbers of up to ten digits, each with the character after it
    char *end = put_number(line, total->lines, ' ');
    end = put_number(end, total->words, ' ');
    end = put_number(end, total->bytes, '\n');
    host_write(line, (int32_t)(end - line));
}

// Writes "lines words bytes\n" and gives the number of words.
EXPORT("word_count") int32_t word_count(void) {
    counts total = {0};
    for (;;) {
        int32_t len = host_read(chunk, CHUNK, total.bytes);
        if (len == 0) break;
        if (len < 0 || len > CHUNK) __builtin_trap();  // the host broke its promise
        count(&total, len);
    }
    write_line(&total);
    return (int32_t)total.words;
}
