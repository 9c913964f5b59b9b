/* Runs a program with every signal blocked, and SIGTERM ignored as well.

     blocked PROGRAM [ARGUMENT...] */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
	sigset_t all;

	if (argc < 2) return 98;
	sigfillset(&all);
	if (sigprocmask(SIG_BLOCK, &all, NULL) || signal(SIGTERM, SIG_IGN) == SIG_ERR) return 99;
	execv(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
