// A command: lines, words and bytes of each file that it is given, or of its standard input.
//
// No stdio, which would be most of the module.

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 16384 };

static char chunk[CHUNK];

struct counts {
    unsigned long long lines, words, bytes;
};

static void say(int fd, const char *text, size_t length) {
    while (length > 0) {
        ssize_t written = write(fd, text, length);
        if (written < 0) _exit(1);
        text += written;
        length -= (size_t)written;
    }
}

static char *number(char *end, unsigned long long value) {
    do *--end = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    return end;
}

// One write for a line, so that whoever reads along gets it whole.
static void report(const struct counts *counts, const char *name) {
    char text[512];
    char *end = text + sizeof text;
    char *start = end;
    size_t length = name ? strnlen(name, 256) : 0;

    *--start = '\n';
    if (length > 0) {
        start -= length;
        memcpy(start, name, length);
        *--start = ' ';
    }
    start = number(start, counts->bytes);
    *--start = ' ';
    start = number(start, counts->words);
    *--start = ' ';
    start = number(start, counts->lines);
    say(STDOUT_FILENO, start, (size_t)(end - start));
}

static bool count(int fd, struct counts *counts) {
    bool inside = false;
    ssize_t length;

    while ((length = read(fd, chunk, CHUNK)) > 0) {
        counts->bytes += (unsigned long long)length;
        for (ssize_t i = 0; i < length; i++) {
            char c = chunk[i];
            bool space = c == ' ' || (c >= '\t' && c <= '\r');
            counts->lines += c == '\n';
            counts->words += inside && space;
            inside = !space;
        }
    }
    counts->words += inside;
    return length == 0;
}

static int complain(const char *name) {
    const char *why = strerror(errno);
    say(STDERR_FILENO, "wc: ", 4);
    say(STDERR_FILENO, name, strlen(name));
    say(STDERR_FILENO, ": ", 2);
    say(STDERR_FILENO, why, strlen(why));
    say(STDERR_FILENO, "\n", 1);
    return 1;
}

int main(int argc, char **argv) {
    int failed = 0;

    if (argc < 2) {
        struct counts counts = {0};
        if (!count(STDIN_FILENO, &counts)) return complain("standard input");
        report(&counts, NULL);
        return 0;
    }
    for (int i = 1; i < argc; i++) {
        struct counts counts = {0};
        int fd = open(argv[i], O_RDONLY);
        if (fd < 0 || !count(fd, &counts)) failed = complain(argv[i]);
        else report(&counts, argv[i]);
        if (fd >= 0) close(fd);
    }
    return failed;
}
