/* Copyright: webops.fastcgi contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * worker FILE [LINES]: append "PID NANOSECONDS" (CLOCK_MONOTONIC, as the first act of main) to FILE, then wait for ever; or, with LINES, write so many
 * lines to stdout in each second.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct timespec now;
    char line[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    int file = open(argv[1], O_WRONLY | O_APPEND);
    if (argc < 2 || file < 0 || write(file, line, sprintf(line, "%d %lld\n", getpid(), now.tv_sec * 1000000000LL + now.tv_nsec)) < 0) return 1;
    close(file);
    int lines = argc > 2 ? atoi(argv[2]) : 0;
    struct timespec pause_between = {0, lines ? 1000000000L / lines : 0};
    while (lines) {
        if (write(1, "a line of a log, of some seventy bytes, as applications write them: 0123\n", 73) < 0) return 1;
        nanosleep(&pause_between, NULL);
    }
    for (;;) pause();
}
