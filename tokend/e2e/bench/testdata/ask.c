/* The least that a helper could do, for the benchmark: PAM_USER and a secret from
   the standard input to tokend's socket (argv[1]); exits 0 on OK, else 1. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char request[4200];
static size_t length;

static void add(const char *text, size_t n) {
	request[length++] = n >> 8;
	request[length++] = n & 255;
	memcpy(request + length, text, n);
	length += n;
}

int main(int argc, char **argv) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *user = getenv("PAM_USER");
	char secret[1024], reply[258];
	ssize_t n, size = 0, got = 0;
	int fd;

	while (size < (ssize_t)sizeof secret && (n = read(0, secret + size, sizeof secret - size)) > 0) size += n;
	if (argc != 2 || !user || strlen(user) > 1024) return 1;
	strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
	add(user, strlen(user));
	add(secret, size);
	add("irods", 5);
	add("", 0);
	if ((fd = socket(AF_UNIX, SOCK_STREAM, 0)) < 0) return 1;
	if (connect(fd, (struct sockaddr *)&address, sizeof address)) return 1;
	if (write(fd, request, length) != (ssize_t)length) return 1;
	while (got < (ssize_t)sizeof reply && (n = read(fd, reply + got, sizeof reply - got)) > 0) got += n;
	if (got >= 4 && !memcmp(reply + 2, "OK", 2)) {
		write(1, "Authenticated\n", 14);
		return 0;
	}
	write(1, "Not Authenticated\n", 18);
	return 1;
}
