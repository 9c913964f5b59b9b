/* Asks tokend's socket for checks as fast as it answers, one connection each, so many at
   once: load yes|no AT_ONCE MILLISECONDS SOCKET... < lines of a user, a space and a secret.
   Prints how many were answered, the time that took in microseconds, and the median, the
   90th and the 99th percentile of one check in microseconds. A wrong answer ends it with
   status 1. It is C, and waits for all connections at once, so that it leaves the
   processors to what is measured. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1024, SLOWEST = 4000000 };

static struct check {
	int fd;
	int64_t begun;
} checks[MOST];
static struct sockaddr_un addresses[16];
static uint32_t took[SLOWEST + 1];
static char request[2048], *lines;
static size_t size, at;
static int epoll, sockets, turn;
static const char *want;

static void fail(const char *what) {
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

static size_t field(char *to, const char *text, size_t n) {
	to[0] = n >> 8;
	to[1] = n & 255;
	memcpy(to + 2, text, n);
	return 2 + n;
}

static void begin(struct check *c) {
	const char *line = lines + at;
	size_t n = strcspn(line, "\n"), user = strcspn(line, " "), length;
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

	at = at + n + 1 < size ? at + n + 1 : 0;
	if (user >= n || n > 1024) fail("a line that is no user, space and secret");
	length = field(request, line, user);
	length += field(request + length, line + user + 1, n - user - 1);
	length += field(request + length, "irods", 5);
	length += field(request + length, "", 0);
	c->begun = now();
	if ((c->fd = socket(AF_UNIX, SOCK_STREAM, 0)) < 0) fail("socket");
	if (connect(c->fd, (struct sockaddr *)&addresses[turn], sizeof addresses[turn])) fail("connect");
	turn = (turn + 1) % sockets;
	if (write(c->fd, request, length) != (ssize_t)length) fail("write");
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl");
}

static void end(struct check *c) {
	char reply[258];
	ssize_t n = read(c->fd, reply, sizeof reply);
	int64_t t;

	if (n < 4 || memcmp(reply + 2, want, 2)) {
		fprintf(stderr, "load: wrong answer: %.*s\n", n > 2 ? (int)n - 2 : 0, reply + 2);
		exit(1);
	}
	close(c->fd);
	t = now() - c->begun;
	took[t < SLOWEST ? t : SLOWEST]++;
}

static int64_t quantile(int64_t all, double q) {
	int64_t seen = 0, rank = q * (all - 1);
	int i;
	for (i = 0; i < SLOWEST && (seen += took[i]) <= rank; i++);
	return i;
}

int main(int argc, char **argv) {
	struct epoll_event events[MOST];
	int64_t begun, until, all = 0;
	size_t n, room = 0;
	int i, ready, at_once, open = 0;

	if (argc < 5 || argc > 4 + 16 || (at_once = atoi(argv[2])) < 1 || at_once > MOST) return 2;
	want = strcmp(argv[1], "yes") ? "NO" : "OK";
	for (i = 4; i < argc; i++) {
		addresses[sockets].sun_family = AF_UNIX;
		strncpy(addresses[sockets++].sun_path, argv[i], sizeof addresses[0].sun_path - 1);
	}
	do {
		if (size == room && !(lines = realloc(lines, 1 + (room = 2 * room + 65536)))) fail("realloc");
		size += n = fread(lines + size, 1, room - size, stdin);
	} while (n);
	if (!size) return 2;
	lines[size] = 0;
	if ((epoll = epoll_create1(0)) < 0) fail("epoll_create1");

	begun = now();
	until = begun + atoll(argv[3]) * 1000;
	for (; open < at_once; open++) begin(&checks[open]);
	while (open) {
		if ((ready = epoll_wait(epoll, events, MOST, 10000)) < 1) fail("no answer within 10 s");
		for (i = 0; i < ready; i++, all++) {
			end(events[i].data.ptr);
			if (now() < until) begin(events[i].data.ptr);
			else open--;
		}
	}
	printf("%lld %lld %lld %lld %lld\n", (long long)all, (long long)(now() - begun),
		(long long)quantile(all, .5), (long long)quantile(all, .9), (long long)quantile(all, .99));
	return 0;
}
