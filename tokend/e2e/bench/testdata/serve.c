/* The least that a daemon could do, for the benchmark: says OK to whatever comes over the
   socket (argv[1]), to two at once, and asks who it is from. Ends when its standard input
   does. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int listening;

static void *serve(void *unused) {
	static const char reply[] = "\0\2OK";
	char request[4200];
	struct ucred peer;
	socklen_t size = sizeof peer;
	int fd;

	for (;;) {
		if ((fd = accept4(listening, 0, 0, SOCK_CLOEXEC)) < 0) continue;
		if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) && read(fd, request, sizeof request) > 0
			&& write(fd, reply, sizeof reply - 1) < 0) { /* it has gone */ }
		close(fd);
	}
	return unused;
}

int main(int argc, char **argv) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	pthread_t thread;
	char c;

	if (argc != 2) return 2;
	strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
	if ((listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0) return 1;
	if (bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 1024)) return 1;
	if (pthread_create(&thread, 0, serve, 0) || pthread_create(&thread, 0, serve, 0)) return 1;
	if (write(1, "\n", 1) != 1) return 1;
	while (read(0, &c, 1) > 0);
	return 0;
}
